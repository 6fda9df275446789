"""A record from before the modules moved is shown, exported and trained on as it was then."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch import nn

from nas.cli import main
from nas.core.recipe import Recipe
from nas.core.tasks import FinalTask
from nas.record import Store
from nas.searching.evaluators.classification.full import network_of

FORMER, PRESENT = "nas.model.cifar_osa:osa_5_43", "nas.paper.cifar_osa:osa_5_43"
FIXTURE = Path(__file__).parent / "records" / "before_the_layout"
WEIGHTS = "before/final/6c46e71a2e1bb6c8-090358b9-572589424/weights.safetensors"


@pytest.fixture
def record(tmp_path):
    """The record with the weights of trial 2, brought to the present revision of the schema."""
    path = tmp_path / "nas.db"
    connection = sqlite3.connect(path)
    connection.executescript((FIXTURE / "record.sql").read_text())
    connection.close()
    (tmp_path / WEIGHTS).parent.mkdir(parents=True)
    shutil.copy(FIXTURE / "weights.safetensors", tmp_path / WEIGHTS)
    with Store.open(path) as store:
        store.set_artifacts("before", tmp_path)
    return path


def nas(record, *words):
    """Return what the command prints."""
    result = CliRunner().invoke(
        main, [*map(str, words), "--database", str(record)], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_the_study_is_shown(record):
    """Its trials, its front and the final training of trial 2."""
    assert "before" in nas(record, "status")
    assert "5.51 k" in nas(record, "front", "before")
    assert "90.00 %, 1 seed" in nas(record, "show", "before:2")


@pytest.mark.slow
@pytest.mark.long
def test_a_trial_is_exported(record, tmp_path):
    """With the weights of its final training."""
    pytest.importorskip("onnx")
    words = ("export", "before", "--trial", 2, "-o", tmp_path / "out", "--no-latency")
    output = nas(record, *words, "--license", "cc-by-4.0")
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlicense: cc-by-4.0\n")
    assert "weights of the final training with seed 572589424" in output


@pytest.mark.parametrize("name", [FORMER, PRESENT])
def test_a_recorded_training_is_known_by_both_names(record, name):
    """Nothing is trained twice because a module moved."""
    output = nas(record, "train", "before", "--network", name, "--seeds", 1, "--epochs", 0.1)
    assert "1 trainings of 0.1 epochs, 1 of them recorded" in output
    assert FORMER in output


@pytest.mark.parametrize("name", [FORMER, PRESENT])
def test_a_network_can_be_trained_again_by_both_names(name):
    """The task of another seed makes the same network."""
    task = FinalTask(
        number=0, network=name, architecture=None, recipe=Recipe(), seed=1, folder="folder"
    )
    network = network_of(task, 7)
    assert isinstance(network, nn.Module)
    assert type(network).__name__ == "CifarOsa"


@pytest.mark.parametrize("name", [FORMER, PRESENT])
def test_figures_of_a_network_are_found_by_both_names(record, name):
    """The target keeps the name under which it was measured."""
    with Store.open(record, read_only=True) as store:
        ((target, figure),) = store.singles(name)
    assert target == FORMER
    assert figure.metric == "peak_memory"
