"""A study outlives a change of the defaults: keys that its file leaves out keep recorded values."""

import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import nas
from nas.cli import main
from nas.data.cifar import CIFAR10
from nas.record import Store
from nas.searching.study_file import parse_study

pytestmark = pytest.mark.skipif(
    not (Path(os.environ.get("NAS_DATA_DIR", "")) / CIFAR10.layout).is_dir(),
    reason=f"NAS_DATA_DIR does not name a folder with {CIFAR10.layout}",
)
STUDY = """
name: old
space: osa_tiny
evaluator: arithmetic:EVALUATORS
objectives: [{metric: error}, {metric: macs}]
training: {momentum: 0.8}
budget: {trials: 2, fresh: 0}
"""
MODULE = """
from nas.searching.evaluators import EvaluatorPlugin

EVALUATORS = EvaluatorPlugin(
    **dict.fromkeys(
        ("search", "certify", "replicate", "final"), "nas.testing.evaluators:ArithmeticEvaluator"
    )
)
"""
FORMER = {
    "training": {"batch_size": 128, "learning_rate": 0.2},
    "measurement": {"runtime": "graph", "max_time_s": 3.0},
    "rungs": [{"epochs": 2.0, "steps": None, "images": None, "image_size": None}],
    "stopping": {"futility": True},
    "data": {"validation_images": 4000},
}
"""Values of a study that began when these were the defaults."""


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Make a record of two trials with former defaults; return the function that runs `nas`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arithmetic.py").write_text(MODULE)
    (tmp_path / "study.yaml").write_text(STUDY)

    def run(*arguments):
        return CliRunner().invoke(main, list(arguments))

    outcome = run("search", "study.yaml")
    assert outcome.exit_code == 0, outcome.output
    with sqlite3.connect(tmp_path / "nas.db") as connection:
        [(text,)] = connection.execute("SELECT spec FROM study")
        spec = json.loads(text)
        for key, values in FORMER.items():
            spec[key] = values if isinstance(values, list) else spec[key] | values
        connection.execute("UPDATE study SET spec = ?", [json.dumps(spec)])
    connection.close()
    return run


def recorded():
    with Store.open("nas.db", read_only=True) as store:
        return store.study("old").spec.identity(), len(store.trials("old"))


def test_a_study_resumes_with_the_values_that_it_began_with(old, tmp_path):
    """One line names them and the present defaults. The new trials have the recorded rungs."""
    before, _ = recorded()
    (tmp_path / "study.yaml").write_text(STUDY.replace("trials: 2", "trials: 4"))
    outcome = old("search", "study.yaml")
    assert outcome.exit_code == 0, outcome.output
    [line] = [line for line in outcome.output.splitlines() if "keeps its recorded values" in line]
    for part in (
        "training.batch_size 128 (default 64)",
        "measurement.max_time_s 3.0 (default 2.0)",
        "rungs.0.epochs 2.0 (default 1.0)",
        "stopping.futility True (default False)",
        "data.validation_images 4000 (default 5000)",
    ):
        assert part in line
    assert "momentum" not in line
    after, num_trials = recorded()
    assert (after, num_trials) == (before, 4)
    with Store.open("nas.db", read_only=True) as store:
        assert store.trial("old", 3).evaluation.rungs[-1].epochs == 2.0


@pytest.mark.parametrize(
    ("addition", "difference"),
    [
        ("rungs: [{epochs: 1}]", "rungs.0.epochs: 2.0 in the database, 1.0 in the file"),
        ("rungs: {epochs: [1]}", "rungs.0.epochs: 2.0 in the database, 1.0 in the file"),
        ("stopping: {futility: false}", "stopping.futility: True in the database, False"),
        ("data: {validation_images: 5000}", "data.validation_images: 4000 in the database"),
        ("measurement: {runtime: eager}", "measurement.runtime: graph in the database, eager"),
    ],
)
def test_a_stated_value_that_differs_is_refused_even_if_it_is_the_default(
    old, tmp_path, addition, difference
):
    (tmp_path / "study.yaml").write_text(STUDY + addition + "\n")
    outcome = old("search", "study.yaml")
    assert outcome.exit_code == 2
    assert difference in outcome.output
    assert recorded()[1] == 2


def test_the_runtime_auto_stands_for_the_recorded_runtime(old, tmp_path):
    """Neither is it refused, nor is there a line about it."""
    (tmp_path / "study.yaml").write_text(STUDY + "measurement: {runtime: auto}\n")
    outcome = old("search", "study.yaml")
    assert outcome.exit_code == 0, outcome.output
    assert "measurement.runtime" not in outcome.output


def test_the_older_form_of_rungs_without_epochs_keeps_the_recorded_epochs(old, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY + "rungs: {futility: true}\n")
    outcome = old("search", "study.yaml")
    assert outcome.exit_code == 0, outcome.output
    assert "rungs.0.epochs 2.0 (default 1.0)" in outcome.output


@pytest.mark.usefixtures("old")
def test_the_python_api_warns_about_recorded_values():
    with pytest.warns(UserWarning, match=r"training\.batch_size 128 \(default 64\)"):
        study = nas.search("study.yaml", database="nas.db")
    assert study.spec.training.batch_size == 128


@pytest.mark.parametrize(
    "line", ["data: {dataset: digits, folder: mine}", "data: {dataset: digits}"]
)
def test_an_older_study_with_a_folder_that_is_not_read_resumes(line):
    """It began before such files were refused, and its figures are those of the data set."""
    text = f"name: s\nspace: osa_tiny\nobjectives: [{{metric: macs}}]\n{line}\n"
    fresh = parse_study(text.replace(", folder: mine", ""))
    older = replace(fresh, data=replace(fresh.data, folder="mine"))
    assert parse_study(text, recorded=older).data == older.data
