"""Operations on a whole record: check, copy, export to Optuna, and retry of failed trials."""

import shutil
import sqlite3
from dataclasses import replace
from itertools import pairwise

import optuna
import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.errors import DatabaseError, InvalidValueError, StudyConflictError
from nas.core.measurement import Measurement
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.core.tasks import Measured
from nas.core.trial import TrialState
from nas.record import Store
from nas.record.copying import copy_rows
from nas.record.schema.tables import METADATA
from nas.searching.launch import open_search
from nas.searching.retry import retry
from search_spaces.osa_tiny import SPACE
from workers.local import LocalWorkers

SPEC = StudySpec(
    name="s",
    space="osa_tiny",
    sampler="tpe",
    seed=3,
    rungs=rungs_at(1, 2),
    budget=Budget(trials=12),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="macs", limit=1_500_000),
    ),
)


def search(folder, spec=SPEC, evaluator="FailingEvaluator"):
    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=LocalWorkers(),
            folder=folder,
            artifacts=folder,
            evaluator=f"nas.testing.evaluators:{evaluator}",
        ) as running,
    ):
        running.run()
        return store.trials("s")


def nas(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished study with complete, stopped and failed trials."""
    folder = tmp_path_factory.mktemp("finished")
    assert {trial.state for trial in search(folder)} == {
        TrialState.COMPLETE,
        TrialState.STOPPED,
        TrialState.FAILED,
    }
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the folder of the finished study."""
    return shutil.copytree(finished, tmp_path / "copy")


def rows(store):
    """Return all rows of all tables."""
    with store._reading() as connection:
        return {
            table.name: [
                tuple(row)
                for row in connection.execute(table.select().order_by(*table.primary_key))
            ]
            for table in METADATA.sorted_tables
        }


def test_a_finished_study_is_sound(folder):
    result = nas("db", "check", "--database", folder / "nas.db")
    assert result.exit_code == 0, result.output
    assert "is sound: 1 studies" in result.output


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "UPDATE trial SET duplicate_of = NULL, evaluation_id = 999 WHERE number = 0",
            "names a row of evaluation",
        ),
        ("UPDATE trial SET finished_at = NULL WHERE number = 1", "and finished at None"),
        ("DELETE FROM rung WHERE epochs = 2", "is complete after 1 of 2 rungs"),
        ("DELETE FROM rung WHERE epochs = 1", "has rungs at [2.0] epochs"),
        ("DELETE FROM front_member", "the last recorded front is ()"),
        (
            "DELETE FROM measurement WHERE metric = 'macs'",
            "complete without a value for each objective",
        ),
        (
            "UPDATE evaluation SET train_s = train_s + 1",
            "for training_s, but their measurements and rungs",
        ),
    ],
)
def test_a_damaged_record_is_reported(folder, statement, says):
    """Each change of a row gives its own line, and the exit code is 2."""
    connection = sqlite3.connect(folder / "nas.db", isolation_level=None)
    connection.execute(statement)
    connection.close()
    result = nas("db", "check", "--database", folder / "nas.db")
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize("engines", ["sqlite postgresql sqlite", "sqlite sqlite"])
def test_a_copy_is_equal_to_the_last_bit(folder, engines, request):
    """This holds for any chain of engines. The last copy takes new studies."""
    urls = [str(folder / "nas.db")]
    for number, engine in enumerate(engines.split()[1:]):
        urls.append(
            request.getfixturevalue("postgresql")()
            if engine == "postgresql"
            else str(folder / f"{number}.db")
        )
    for source, target in pairwise(urls):
        with Store.open(source, read_only=True) as store, Store.open(target) as new:
            copied = store.copy_to(new)
            assert rows(new) == rows(store)
            assert copied == {name: len(each) for name, each in rows(store).items()}
            with pytest.raises(DatabaseError, match="is not empty"):
                store.copy_to(new)
    with Store.open(urls[0], read_only=True) as store:
        original = rows(store)
    with Store.open(urls[-1]) as new:
        assert rows(new) == original
    for url in urls[1:]:
        with Store.open(url) as new:
            new.create_study(replace(SPEC, name="another"), dataset="digits", classes=10)
            assert [record.name for record in new.studies()] == ["s", "another"]


def test_a_large_copy_goes_in_batches(folder, monkeypatch):
    """All rows are copied if there are more than one batch holds."""
    monkeypatch.setattr("nas.record.copying.BATCH_ROWS", 3)
    with Store.open(folder / "nas.db") as store, Store.open(folder / "new.db") as new:
        with store._reading() as source, new._writing() as target:
            copy_rows(source, target)
        assert rows(new) == rows(store)


def test_optuna_reads_an_exported_study(folder):
    """Optuna reads all trials and their states, and finds the same front."""
    url = f"sqlite:///{folder / 'optuna.db'}"
    result = nas("export-optuna", "s", url, "--database", folder / "nas.db")
    assert result.exit_code == 0, result.output
    with Store.open(folder / "nas.db", read_only=True) as store:
        trials, front = store.trials("s"), store.fronts("s")[-1]
    study = optuna.load_study(study_name="s", storage=url)
    assert study.metric_names == ["error", "macs"]
    assert [t.params for t in study.trials] == [t.params for t in trials]
    states = {"complete": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    assert [t.state.name for t in study.trials] == [states[t.state] for t in trials]
    assert {t.number for t in study.best_trials if t.user_attrs["duplicate_of"] is None} == set(
        front.members
    )
    again = nas("export-optuna", "s", url, "--database", folder / "nas.db")
    assert again.exit_code == 2
    assert "there is an Optuna study 's' already" in again.output
    nowhere = nas(
        "export-optuna", "s", "sqlite:////nowhere/optuna.db", "--database", folder / "nas.db"
    )
    assert nowhere.exit_code == 2
    assert nowhere.output.startswith("error: Optuna cannot write to this database: ")


def test_failed_trials_are_tried_again(folder):
    """They are complete afterwards, with their duplicates, and no other trial has changed."""
    with Store.open(folder / "nas.db") as store:
        before = store.trials("s")
        failed = {t.number for t in before if t.state is TrialState.FAILED}
        fine = next(t.number for t in before if t.state is TrialState.COMPLETE)
        with pytest.raises(
            InvalidValueError, match=f"trial {fine} of s did not fail; failed are: "
        ):
            retry(store, "s", [fine])
        with (
            store.claim("s"),
            Store.open(folder / "nas.db") as other,
            pytest.raises(StudyConflictError),
        ):
            retry(other, "s")
    result = nas("retry", "--database", folder / "nas.db")
    assert result.exit_code == 0, result.output
    assert "the loss is not finite after 7 steps" in result.output
    after = search(folder, evaluator="ArithmeticEvaluator")
    assert {after[number].state for number in failed} == {TrialState.COMPLETE}
    assert [after[t.number] for t in before if t.number not in failed] == [
        t for t in before if t.number not in failed
    ]
    assert nas("db", "check", "--database", folder / "nas.db").exit_code == 0


def test_a_missing_figure_is_measured_again(tmp_path):
    """A trial that failed without a figure gets the figure when it is retried."""
    with Store.open(tmp_path / "nas.db") as store:
        for error in (True, False):
            with open_search(
                SPEC,
                store=store,
                workers=LocalWorkers(),
                folder=tmp_path,
                artifacts=tmp_path,
                evaluator="nas.testing.evaluators:ArithmeticEvaluator",
            ) as running:
                task = running.engine.propose()
                assert "macs" not in task.evaluation.measurements
                figure = (
                    Measurement.unavailable("macs", "1", "busy")
                    if error
                    else Measurement.counted("macs", "1", 5)
                )
                running.engine.report(task.number, Measured(measurements=(figure,), seconds=0.1))
            if error:
                assert [t.number for t in retry(store, "s")] == [task.number]
        assert store.trial("s", task.number).evaluation.value("macs") == 5
        assert SPACE.cardinality == 128
