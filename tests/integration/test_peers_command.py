"""`nas peers` with real measurements."""

import csv
import json

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.record import Store

TINY = Architecture(
    stem_channels=(8, 8, 8),
    stem=Stem.CIFAR,
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 3,
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a new folder with its own locks and the network `tiny.json`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY.to_dict()))
    return lambda *arguments: CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.mark.slow
def test_rounds_are_kept_and_add_up(run, tmp_path):
    """A later call includes the earlier rounds. The files hold both networks, each at its size."""
    both = ("densenet-40", "--beside", "tiny.json", "--size", "48")
    for arguments in (both, ("densenet-40", "--size", "48"), (*both, "--rounds", "0", "-o", "out")):
        done = run("peers", *arguments)
        assert done.exit_code == 0, done.output
    with (tmp_path / "out" / "peers.csv").open(newline="") as file:
        dense, tiny = csv.DictReader(file)
    assert (dense["network"], dense["image_size"], dense["macs"]) == (
        "DenseNet-40",
        "32",
        "264812928",
    )
    assert (tiny["network"], tiny["family"], tiny["image_size"]) == ("tiny.json", "yours", "48")
    assert (dense["peak_memory_rounds"], tiny["peak_memory_rounds"]) == ("2", "1")
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        kept = [figure for _, figure in store.singles("DenseNet-40") if figure.metric == "latency"]
    usable = [figure.value for figure in kept if figure.value is not None]
    assert len(kept) == 2
    assert dense["latency_rounds"] == str(len(usable))
    assert "DenseNet-40" in (tmp_path / "out" / "peers.html").read_text()


def test_nothing_is_measured_in_no_rounds(run):
    """Without rounds there are only counts. A wrong name is one line."""
    done = run("peers", "densenet-40", "--rounds", "0")
    assert done.exit_code == 0
    assert "265 M" in done.output
    assert "no latency: not measured" in done.output
    wrong = run("peers", "densenet-41")
    assert wrong.exit_code == 2
    assert "DenseNet-40" in wrong.output


def test_detectors_have_their_own_list(run, monkeypatch):
    """With --detectors the names are those of tables 2 to 5, and the printed columns are shown."""
    pytest.importorskip("torchvision")
    monkeypatch.setenv("COLUMNS", "200")  # no figure is wrapped
    name = "DSOD300 VoVNet-27-slim, paper's stem"
    done = run("peers", "--detectors", name, "--rounds", "0")
    assert done.exit_code == 0, done.output
    assert "5.66 G" in done.output
    assert "5.6 G" in done.output
    wrong = run("peers", "--detectors", "VoVNet-39")
    assert wrong.exit_code == 2
    assert "RefineDet320 VoVNet-39" in wrong.output
