"""RAPL on folders that imitate sysfs."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nas.agent.errors import SensorError
from nas.agent.rapl import Rapl
from nas.measuring.meters.cpu import CpuMeter

ZONES = {
    "intel-rapl:0": ("package-0", 1_000_000),
    "intel-rapl:0:0": ("core", 400_000),
    "intel-rapl:0:1": ("dram", 50_000),
    "intel-rapl:1": ("package-1", 2_000_000),
    "intel-rapl:2": ("psys", 9_000_000),
    "intel-rapl-mmio:0": ("package-0", 1_000_000),
}
READING = """
import os, sys
from pathlib import Path
from nas.measuring.meters.cpu import CpuMeter
if os.getuid() == 0:
    os.setuid(65534)
print(CpuMeter(Path(sys.argv[1])).energy_unavailable_reason())
"""


@pytest.fixture
def powercap(tmp_path):
    """Make a powercap folder of two packages with DRAM, core, psys and mmio zones, each counter
    with a range of 10 J.
    """
    for zone, (name, energy_uj) in ZONES.items():
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("10000000\n")
        (tmp_path / zone / "energy_uj").write_text(f"{energy_uj}\n")
    return tmp_path


def set_uj(powercap, zone, energy_uj):
    (powercap / zone / "energy_uj").write_text(f"{energy_uj}\n")


def test_packages_and_dram_are_added_and_nothing_counts_twice(powercap):
    """1 J in a package, 0.5 J in DRAM and 2 J in the other package are 3.5 J. Core, psys and mmio
    do not count.
    """
    rapl = Rapl(powercap)
    assert rapl.energy_j() == 0
    for zone, (_, energy_uj) in ZONES.items():
        added_uj = {
            "intel-rapl:0": 1_000_000,
            "intel-rapl:0:1": 500_000,
            "intel-rapl:1": 2_000_000,
        }.get(zone, 700_000)
        set_uj(powercap, zone, energy_uj + added_uj)
    assert rapl.energy_j() == pytest.approx(3.5)


def test_a_counter_that_wraps_keeps_counting(powercap):
    """The counter wraps twice from 9 J over the range of 10 J to 0.25 J: 1.25 J, then 10 J more."""
    set_uj(powercap, "intel-rapl:0", 9_000_000)
    rapl = Rapl(powercap)
    rapl.energy_j()
    set_uj(powercap, "intel-rapl:0", 250_000)
    assert rapl.energy_j() == pytest.approx(1.25)
    set_uj(powercap, "intel-rapl:0", 9_000_000)
    rapl.energy_j()
    set_uj(powercap, "intel-rapl:0", 250_000)
    assert rapl.energy_j() == pytest.approx(11.25)


def test_no_powercap_is_a_reason_that_names_the_virtual_machine(tmp_path):
    """Without the folder the reason names it and the virtualisation, and no energy is read."""
    with pytest.raises(
        SensorError, match=r"there is no .*absent; this is a virtual machine \(KVM\)"
    ):
        Rapl(tmp_path / "absent", "KVM").energy_j()
    assert "no RAPL energy counter" in CpuMeter(tmp_path / "absent").energy_unavailable_reason()


def test_a_folder_without_zones_is_another_reason(tmp_path):
    """The powercap folder is empty in containers that mask it."""
    with pytest.raises(SensorError, match="has no package or dram zone"):
        Rapl(tmp_path).energy_j()


def test_a_counter_that_is_no_number_is_another_reason(powercap):
    """An empty counter is not 0 J."""
    (powercap / "intel-rapl:0" / "energy_uj").write_text("")
    with pytest.raises(SensorError, match="holds '', not a number"):
        Rapl(powercap).energy_j()


def test_a_counter_without_permission_is_another_reason(powercap):
    """Another user than root gets "permission denied" for a counter that only root may read."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        shutil.copytree(powercap, Path(folder) / "powercap")
        Path(folder).chmod(0o755)
        (Path(folder) / "powercap").chmod(0o755)
        (Path(folder) / "powercap/intel-rapl:0/energy_uj").chmod(0o400 if os.getuid() == 0 else 0)
        result = subprocess.run(
            [sys.executable, "-c", READING, f"{folder}/powercap"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert result.stdout.startswith("permission denied: the RAPL energy counter")


def test_the_cpu_meter_reads_rapl(powercap):
    """The CPU's meter returns RAPL's energy."""
    with CpuMeter(powercap) as meter:
        assert meter.energy_unavailable_reason() is None
        set_uj(powercap, "intel-rapl:1", 4_500_000)
        assert meter.energy_j() == pytest.approx(2.5)
