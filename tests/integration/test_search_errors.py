"""Problems of the machine end a search with one line. Nothing is lost, and the same call resumes.

Only failures of a trial itself fail the trial. Everything here is real: the record, damaged
files, and tiny trainings on the digits.
"""

import os

import numpy as np
import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.tasks import Measured
from nas.core.trial import TrialState
from nas.measuring.meters import find_meter
from nas.record import Store
from nas.searching.check import check_study
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.launch import open_search
from nas.searching.study_file import read_study
from workers.local import LocalWorkers

STUDY = """
name: tiny
space: osa_tiny
sampler: random
objectives:
  - {metric: error, reference: 95 %}
  - {metric: parameters, reference: 100 k}
rungs: {epochs: [0.25, 0.5]}
data: {dataset: digits, validation_images: 200}
training: {batch_size: 64, precision: fp32, channels_last: false}
budget: {trials: 3}
"""


@pytest.fixture
def nas(tmp_path, monkeypatch, capfd):
    """Return a function that runs `nas` in a folder with its own locks, and checks that no library
    wrote past it to the terminal's errors.
    """
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments, **environment):
        capfd.readouterr()
        outcome = CliRunner().invoke(main, arguments, env=environment, catch_exceptions=False)
        assert capfd.readouterr().err == ""
        return outcome

    return call


def refused(outcome, *words):
    """Check that the exit code is 2, and that one line has all of these words."""
    assert outcome.exit_code == 2, outcome.stdout + outcome.stderr
    lines = [line for line in outcome.stderr.splitlines() if line]
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]


def trials(folder, database="nas.db"):
    """Return the trials of the record without duplicates."""
    with Store.open(folder / database, read_only=True) as store:
        return [trial for trial in store.trials("tiny") if trial.duplicate_of is None]


def interrupted(folder):
    """Search until the first trial has reached its first rung, and return the rung's checkpoint."""
    spec = read_study(folder / "study.yaml")
    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=LocalWorkers(),
            folder=folder,
            artifacts=folder / "nas-artifacts",
        ) as search,
    ):
        task = search.engine.propose()
        for event in Evaluator(search.context).steps(task):
            search.engine.report(task.number, event)
            if not isinstance(event, Measured):
                return folder / "nas-artifacts" / event.rung.checkpoint
    raise AssertionError


@pytest.mark.slow
def test_a_damaged_checkpoint_fails_its_trial_and_the_search_continues(nas, tmp_path):
    """The half-written file of a killed writer is deleted."""
    checkpoint = interrupted(tmp_path)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    part = checkpoint.with_name("rung-0.5.safetensors.part4711")
    part.write_bytes(b"half")
    outcome = nas("search", "study.yaml")
    assert outcome.exit_code == 0, outcome.stderr
    first, *others = trials(tmp_path)
    assert first.state is TrialState.FAILED
    assert f"{checkpoint} is not a readable checkpoint" in first.reason
    assert [trial.state for trial in others] == [TrialState.COMPLETE] * 2
    assert not part.exists()
    refused(nas("export", "tiny", "--trial", "0", "-o", "bundle"), "checkpoint")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_a_lock_folder_that_cannot_be_used_ends_the_search(nas, tmp_path):
    """A new study does not begin. In a recorded one no trial fails, and it can be resumed."""
    (tmp_path / "file").touch()
    closed = {"NAS_LOCK_DIR": str(tmp_path / "file")}
    interrupted(tmp_path)
    refused(
        nas("search", "study.yaml", **closed), "lock folder", "Not a directory", "set NAS_LOCK_DIR"
    )
    assert [trial.state for trial in trials(tmp_path)] == ["running"]
    refused(nas("search", "study.yaml", "--database", "new.db", **closed), "set NAS_LOCK_DIR")
    assert not list(tmp_path.glob("new.db*"))


@pytest.mark.slow
def test_missing_data_ends_the_search_and_restored_data_resumes_it(nas, tmp_path):
    """No trial fails."""
    image = pytest.importorskip("PIL.Image")
    pictures, random = tmp_path / "pictures", np.random.default_rng(0)
    for number in range(80):
        part = "train" if number < 64 else "test"
        path = pictures / part / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(random.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(path)
    (tmp_path / "study.yaml").write_text(
        STUDY.replace(
            "dataset: digits, validation_images: 200",
            f"dataset: folder, folder: {pictures}, validation_images: 16",
        )
        .replace("batch_size: 64", "batch_size: 16")
        .replace("trials: 3", "trials: 1")
    )
    interrupted(tmp_path)
    pictures.rename(tmp_path / "away")
    refused(nas("search", "study.yaml"), str(pictures))
    assert [trial.state for trial in trials(tmp_path)] == ["running"]
    (tmp_path / "away").rename(pictures)
    assert nas("search", "study.yaml").exit_code == 0
    assert [trial.state for trial in trials(tmp_path)] == ["complete"]


def test_an_objective_that_this_machine_cannot_measure_is_refused_before_the_start(nas, tmp_path):
    """The line says what to change."""
    with find_meter() as meter:
        if meter.energy_unavailable_reason() is None:
            pytest.skip("this machine measures energy")
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("parameters, reference: 100 k", "energy, reference: 1 J")
    )
    refused(nas("search", "study.yaml"), "energy: ", "drop the objective")
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_a_budget_of_energy_without_a_counter_leaves_no_record_behind(nas, tmp_path):
    """It leaves no lock file either, and no study in a record that exists."""
    with find_meter() as meter:
        if meter.energy_unavailable_reason() is None:
            pytest.skip("this machine counts energy")
    (tmp_path / "study.yaml").write_text(STUDY.replace("trials: 3", "trials: 3, energy_j: 5"))
    refused(nas("search", "study.yaml"), "budget.energy_j: ")
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
    Store.open(tmp_path / "nas.db").close()
    refused(nas("search", "study.yaml"), "budget.energy_j: ")
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.studies() == []


def test_a_study_that_cannot_train_does_not_begin(nas, tmp_path):
    """It leaves neither a record nor a lock file. Its name is free for the corrected study."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("[0.25, 0.5]", "[0.01]"))
    refused(
        nas("search", "study.yaml"),
        "no whole batch of 64 images between 0.0 and 0.01 epochs of 1237 images",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_another_study_file_of_the_same_name_is_refused_with_every_key(nas, tmp_path):
    """The record stays as it is."""
    interrupted(tmp_path)
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("[0.25, 0.5]", "[0.25, 1]")
        .replace("size: 64", "size: 32")
        .replace("random", "tpe")
        .replace("trials: 3", "trials: 4")
        + "seed: 7\n"
    )
    refused(
        nas("search", "study.yaml"),
        "seed: 0 in the database, 7 in the file",
        "rungs.1.epochs",
        "batch_size",
        "sampler",
        "another name",
    )
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert (store.study("tiny").spec.seed, store.study("tiny").spec.budget.trials) == (0, 3)


def test_two_searches_at_once_on_one_study_are_refused(nas, tmp_path):
    """The second one names the first."""
    interrupted(tmp_path)
    with Store.open(tmp_path / "nas.db") as store, store.claim("tiny"):
        refused(
            nas("search", "study.yaml"), "is being searched already", f"process {os.getpid()} on"
        )


@pytest.mark.slow
def test_a_study_finds_its_checkpoints_again(nas, tmp_path):
    """They are in the folder of its first call, whatever is set now, or in another folder to which
    they were moved.
    """
    checkpoint = interrupted(tmp_path)
    refused(
        nas("search", "study.yaml", "--artifacts", "other"),
        "other lacks 1 checkpoints",
        "nas-artifacts/tiny",
    )
    assert nas("search", "study.yaml", NAS_ARTIFACTS=str(tmp_path / "third")).exit_code == 0
    assert not (tmp_path / "third").exists()
    first = trials(tmp_path)[0]
    assert first.state is TrialState.COMPLETE
    assert tmp_path / "nas-artifacts" / first.evaluation.rungs[0].checkpoint == checkpoint
    (tmp_path / "nas-artifacts").rename(tmp_path / "other")
    moved = nas("search", "study.yaml", "--artifacts", "other")
    assert moved.exit_code == 0, moved.stderr
    assert f"checkpoints are read from and written to {tmp_path / 'other'}" in moved.stdout
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.study("tiny").artifacts == str(tmp_path / "other")


def test_a_folder_that_cannot_be_written_is_refused_before_the_search(nas, tmp_path):
    """A new study and a resumed one are refused. A study without training needs no folder."""
    (tmp_path / "blocked").write_text("a file")
    refused(
        nas("search", "study.yaml", NAS_ARTIFACTS="blocked"),
        "blocked/tiny/checkpoints cannot be written: Not a dir",
    )
    assert not (tmp_path / "nas.db").exists()
    assert nas("search", "study.yaml").exit_code == 0
    (tmp_path / "nas-artifacts").rename(tmp_path / "elsewhere")
    (tmp_path / "nas-artifacts").write_text("a file")
    (tmp_path / "study.yaml").write_text(STUDY.replace("trials: 3", "trials: 4"))
    refused(
        nas("search", "study.yaml"),
        "nas-artifacts/tiny/checkpoints cannot be written: Not a directory",
    )
    assert len(trials(tmp_path)) == 3
    assert nas("search", "study.yaml", "--artifacts", "elsewhere").exit_code == 0
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("  - {metric: error, reference: 95 %}\n", "").replace(
            "name: tiny", "name: counts"
        )
    )
    assert nas("search", "study.yaml").exit_code == 0


def test_a_url_for_checkpoints_is_refused_with_the_alternative(nas, tmp_path):
    """No folder of that name is created."""
    refused(
        nas("search", "study.yaml", "--artifacts", "s3://bucket/checkpoints"),
        "into a folder, not to s3://",
        "mounted",
    )
    refused(
        nas("search", "study.yaml", NAS_ARTIFACTS="s3://bucket/checkpoints"),
        "into a folder, not to s3://",
    )
    assert not list(tmp_path.glob("s3*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--workers", "tune", "--address", "127.0.0.1:1"],
            ["cannot reach the Ray cluster at 127.0.0.1:1", "refused"],
        ),
        (["--address", "127.0.0.1:1"], ["local workers take no address"]),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_named(nas, tmp_path, arguments, words):
    """No study begins."""
    refused(nas("search", "study.yaml", *arguments), *words)
    assert not (tmp_path / "nas.db").exists()
    assert not (tmp_path / "nas-artifacts").exists()


PLUGIN = """
from nas.searching.evaluators import EvaluatorPlugin

KIND = "nas.testing.evaluators:ArithmeticEvaluator"
PLUGIN = EvaluatorPlugin(search=KIND, certify=KIND, replicate=KIND, final=KIND, reads_data=False)
"""


@pytest.fixture
def without_data(tmp_path):
    """A study whose data are not there, and whose evaluator reads none."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    study = STUDY.replace("dataset: digits", "dataset: folder, folder: absent")
    (tmp_path / "study.yaml").write_text(f"{study}evaluator: plugin:PLUGIN\n")
    return tmp_path / "study.yaml"


def test_a_search_looks_for_no_data_that_the_evaluator_does_not_read(without_data, tmp_path):
    data = []
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            read_study(without_data),
            store=store,
            workers=LocalWorkers(),
            folder=tmp_path,
            artifacts=tmp_path,
            fetch=data.append,
        ) as search,
    ):
        search.run()
    assert data == []
    assert len(trials(tmp_path)) == 3


def test_a_check_looks_for_no_data_that_the_evaluator_does_not_read(without_data, tmp_path):
    checked = check_study(
        read_study(without_data),
        None,
        tmp_path,
        shown=lambda *_: iter(()),
        on_wait=print,
    )
    assert checked.dataset is None


def test_the_command_after_ctrl_c_has_the_options_of_the_call(nas, monkeypatch):
    """Also the page that is written at the end."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.searching.run.run_study", interrupted)
    outcome = nas("search", "study.yaml", "--report", "my page.html", "--first", "vovnet39")
    assert outcome.exit_code == 130
    command = "nas search study.yaml --report 'my page.html' --first vovnet39"
    assert f"Continue with: {command}" in outcome.output
