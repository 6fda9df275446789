"""The real nvidia-ml-py on a C stub of the driver's library, each fault in a child process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile the stub of libnvidia-ml")

READING = """
import sys, time
from nas.errors import UnavailableError
from nas.meters.nvml import NvmlDevice
try:
    device = NvmlDevice(sys.argv[1])
    first_j, start_s = device.energy_j(), time.monotonic()
    time.sleep(1)
    print((device.energy_j() - first_j) / (time.monotonic() - start_s), device.driver)
    device.close()
    device.close()
except UnavailableError as error:
    print("unavailable:", error)
"""


def compiled(folder, *flags):
    """The folder with the stub in it."""
    source = Path(__file__).with_name("nvml_stub.c")
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", *flags, "-Wl,-soname,libnvidia-ml.so.1",
                    "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The stub, compiled once."""
    return compiled(tmp_path_factory.mktemp("nvml"))


def read(library, uuid="GPU-stub", **environment):
    """What the child prints."""
    told = subprocess.run([sys.executable, "-W", "error", "-c", READING, uuid], capture_output=True, text=True,
                          check=True, env={**os.environ, "LD_LIBRARY_PATH": str(library), **environment})
    return told.stdout.strip()


def test_millijoules_become_joules(library):
    """A board of 250 W that counts each 10 ms reads 250 J in a second, within a step at either end."""
    power_w, driver = read(library, NVMLSTUB_PERIOD_MS="10").split()
    assert float(power_w) == pytest.approx(250, abs=2 * 2.5)
    assert driver == "999.1"


@pytest.mark.parametrize(("environment", "reason"), [
    ({"NVMLSTUB_ENERGY_ERROR": "3"}, "does not offer it"),
    ({"NVMLSTUB_ENERGY_ERROR": "4"}, "permission denied"),
    ({"NVMLSTUB_ENERGY_ERROR": "15"}, "fallen off the bus"),
    ({"NVMLSTUB_INIT_ERROR": "9"}, "driver is not loaded"),
    ({"NVMLSTUB_INIT_ERROR": "18"}, "different versions"),
    ({"NVMLSTUB_ENERGY_ERROR": "999"}, "Unknown Error"),
    ({"NVMLSTUB_POWER_W": "0"}, "reads 0"),
    ({"NVMLSTUB_MIG": "1"}, "partitioned (MIG)"),
])
def test_every_fault_has_its_own_reason(library, environment, reason):
    """No fault reads as joules."""
    told = read(library, **environment)
    assert told.startswith("unavailable: ")
    assert reason in told


def test_an_unknown_gpu_is_said(library):
    """A UUID that the driver does not know."""
    assert "knows no such GPU" in read(library, uuid="GPU-other")


def test_a_driver_without_the_function_is_said(tmp_path):
    """An old driver's library lacks the counter."""
    assert "too old" in read(compiled(tmp_path, "-DWITHOUT_ENERGY"))


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="there is an NVIDIA driver")
def test_a_missing_library_is_said(tmp_path):
    """Without the driver's library there is a reason and no number."""
    assert "libnvidia-ml.so.1 is not installed" in read(tmp_path)
