"""The front from columns of figures: as it is from whole trials, of which only a few are loaded."""

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import nas
from nas.analysis.posterior import front_now, unbiased_hypervolume
from nas.analysis.study_front import standings_among, study_front
from nas.cli import main
from nas.core.measurement import Measurement, Status
from nas.core.pareto import standings
from nas.core.study import Direction, Objective
from nas.core.trial import CERTIFIED_METRICS, TrialState
from nas.record import Store, loading
from nas.report.fronts import ShownFront, front_values, read_front
from nas.testing.sample_records import architecture, latency, rung, spec, trial

RECORDS = Path(__file__).parent / "records"
SIZES = ("parameters", "macs")
STATES = (*[TrialState.COMPLETE] * 6, TrialState.STOPPED, TrialState.FAILED, TrialState.RUNNING)


def rungs(rng):
    """Up to two rungs whose errors are coarse, so that some are equal."""
    return [rung(epochs, metrics=errors(rng)) for epochs in (1.0, 2.0)[: rng.randrange(3)]]


def errors(rng):
    """An error and a smaller one."""
    error = rng.randrange(20) / 20
    return {"error": error, "top5_error": error / 4}


def figures(rng):
    """Figures of every kind: without an interval, without a value, repeated, certified."""
    value = rng.choice((0.001, 0.002, 0.003)) * rng.uniform(0.9, 1.1)
    kinds = (
        {"value": value, "ci_low": 0.95 * value, "ci_high": 1.05 * value},
        {"value": value, "ci_low": None, "ci_high": None, "status": Status.NOISY},
        {"value": value, "ci_low": 0.5 * value, "ci_high": 2 * value, "status": Status.NOISY},
        {"value": None, "ci_low": None, "ci_high": None, "status": Status.CONTENDED, "reason": "x"},
    )
    measured = rng.choices(kinds, (20, 1, 2, 1), k=rng.choice((1, 1, 1, 2)))
    yield from (replace(latency(), **kind) for kind in measured)
    for metric in SIZES:
        yield Measurement.counted(metric, "1", rng.randrange(1, 9) * 1000)
    if rng.random() < 0.2:
        yield replace(
            latency(value, ci_low=0.97 * value, ci_high=1.03 * value),
            metric=CERTIFIED_METRICS["latency"],
            details={"session": rng.choice(("2026-01-01", "2026-01-02"))},
        )


def write(store, study, rng, trials=40, replicated=0.0):
    """Write a study of trials in every state, of which one in five is a duplicate."""
    store.create_study(study, dataset="none", classes=10)
    originals = []
    with store.transaction():
        for number in range(trials):
            if originals and rng.random() < 0.2:
                first = rng.choice(originals)
                store.add_trial(
                    study.name,
                    replace(first, number=number, duplicate_of=first.number),
                )
                continue
            begun = trial(number, architecture=architecture(8 + number))
            store.add_trial(study.name, begun)
            store.add_measurements(study.name, number, figures(rng), 0.1)
            reached = rungs(rng)
            for each in reached:
                store.add_rung(study.name, number, each)
            state = rng.choice(STATES)
            if state is not TrialState.RUNNING:
                ended = begun.moved_to(state, finished_at=rung().finished_at)
                store.finish_trial(study.name, ended)
                originals.append(ended)
            for seed in range(3):
                if reached and rng.random() < replicated:
                    again = rung(rng.choice((1.0, 2.0)), metrics=errors(rng))
                    store.add_replicate(study.name, number, seed, again)


def require_same(store, spec):
    """The front by columns equals the one by whole trials, to the last bit."""
    study, objectives = spec.name, spec.objectives
    now, trials = study_front(store, spec), store.trials(study)
    front, means = front_now(trials, spec)
    assert now.front == front
    expected = standings(list(means.values()), objectives)
    shown = replace(store.study(study).spec, objectives=objectives)
    assert front_values(shown, ShownFront.of(now)) == front_values(
        shown, ShownFront(front=front, trials=means, standings=expected)
    )
    assert list(now.members) == list(front.members)
    assert list(now.standings.items()) == list(expected.items())
    assert now.unbiased == unbiased_hypervolume(trials, spec)
    half = trials[: len(trials) // 2]
    assert standings_among(store, study, objectives, [each.number for each in half]) == standings(
        half, objectives
    )


OBJECTIVES = {
    "two": spec().objectives,
    "limited": (Objective(metric="error", limit=0.4), Objective(metric="latency", limit=0.0021)),
    "impossible": (Objective(metric="error"), Objective(metric="latency", limit=1e-9)),
    "maximised": (
        Objective(metric="latency", direction=Direction.MAXIMIZE, reference=0.0),
        Objective(metric="parameters", reference=1e4),
        Objective(metric="error", reference=1.0),
    ),
    "one": (Objective(metric="error"),),
    "two trained": (
        Objective(metric="top5_error", limit=0.2),
        Objective(metric="error", reference=0.9),
        Objective(metric="latency", reference=1.0),
    ),
}


@pytest.mark.parametrize("replicated", [0.0, 0.3])
@pytest.mark.parametrize("objectives", OBJECTIVES.values(), ids=OBJECTIVES)
def test_the_front_by_columns_is_that_of_whole_trials(tmp_path, objectives, replicated):
    """This holds for trials in every state, duplicates, all kinds of figures and replicates."""
    with Store.open(tmp_path / "nas.db") as store:
        for seed in range(2):
            study = spec(f"study{seed}", objectives=objectives)
            write(store, study, random.Random(seed), replicated=replicated)
            require_same(store, study)


def test_posterior_means_shrink_by_size_in_columns_too(tmp_path):
    """With a size and an error for every network, the prior is a regression on the sizes of those
    that are complete.
    """
    with Store.open(tmp_path / "nas.db") as store:
        study, rng = spec(), random.Random(1)
        store.create_study(study, dataset="none", classes=10)
        for number in range(20):
            begun = trial(number)
            store.add_trial("first", begun)
            sizes = [Measurement.counted(name, "1", 1000.0 + 100 * number) for name in SIZES]
            store.add_measurements("first", number, [latency(rng.random()), *sizes], 0.1)
            store.add_rung("first", number, rung(metrics={"error": rng.random()}))
            store.add_replicate("first", number, 1, rung(metrics={"error": rng.random()}))
            state = TrialState.COMPLETE if number % 4 else TrialState.STOPPED
            store.finish_trial("first", begun.moved_to(state))
        require_same(store, study)
        shown = study_front(store, study)
        assert shown.unbiased is not None


@pytest.mark.parametrize("dump", sorted(RECORDS.glob("*.sql")), ids=lambda path: path.stem)
def test_the_fronts_of_recorded_studies_are_the_same_by_columns(tmp_path, dump):
    with closing(sqlite3.connect(tmp_path / "nas.db")) as connection:
        connection.executescript(dump.read_text())
    with Store.open(tmp_path / "nas.db") as store:
        for record in store.studies():
            require_same(store, record.spec)


@pytest.fixture
def loaded(monkeypatch):
    """The numbers of all trials that are loaded in full."""
    numbers = []
    build = loading._trial

    def note(row, *others):
        numbers.append(row.number)
        return build(row, *others)

    monkeypatch.setattr(loading, "_trial", note)
    return numbers


@pytest.mark.parametrize(
    "words",
    [
        "front",
        "front --format json",
        "front --format csv --where 'latency<1s'",
        "front --knee",
        "front --at 30",
    ],
)
def test_of_many_trials_only_the_members_of_the_front_are_loaded(tmp_path, loaded, words):
    """Certified trials are loaded too. No other trial is, however many there are."""
    database = tmp_path / "nas.db"
    with Store.open(database) as store:
        study = spec()
        store.create_study(study, dataset="none", classes=10)
        for number in range(40):
            begun = trial(number)
            store.add_trial("first", begun)
            store.add_measurements("first", number, [latency(0.002 + abs(number - 20) / 1e4)], 0.1)
            store.add_rung("first", number, rung(metrics={"error": abs(number - 23) / 100}))
            store.finish_trial(
                "first", begun.moved_to(TrialState.COMPLETE, finished_at=rung().finished_at)
            )
        best = nas.core.pareto.front(store.trials("first"), study.objectives)
        store.add_front("first", replace(best, after=30))
    loaded.clear()
    done = CliRunner().invoke(main, [*words.replace("'", "").split(), "--database", str(database)])
    assert done.exit_code == 0, done.output
    assert sorted(loaded) == sorted(best.members) == [20, 21, 22, 23]


def test_one_trial_is_shown_without_loading_the_others(tmp_path, loaded):
    """Its rank among the others and the similar ones come from columns."""
    with Store.open(tmp_path / "nas.db") as store:
        write(store, spec(), random.Random(7))
    loaded.clear()
    done = CliRunner().invoke(main, ["show", "3", "--database", str(tmp_path / "nas.db")])
    assert done.exit_code == 0, done.output
    assert "most alike: trial" in done.output
    assert set(loaded) == {3}


def test_python_s_front_loads_no_other_trials_either(tmp_path, loaded):
    database = tmp_path / "nas.db"
    with Store.open(database) as store:
        write(store, spec(), random.Random(5))
        certified = [
            each.number
            for each in store.trials("first")
            if each.evaluation.measurements.get(CERTIFIED_METRICS["latency"])
            and each.state is TrialState.COMPLETE
            and each.duplicate_of is None
        ]
    loaded.clear()
    front = nas.open(database).study("first").front()
    assert set(loaded) == {*front.index, *certified}


def test_more_trials_are_read_than_a_statement_may_name(tmp_path, monkeypatch):
    """Databases limit the values of one statement, therefore the trials are read in parts."""
    monkeypatch.setattr("nas.record.store.TRIALS_AT_ONCE", 7)
    with Store.open(tmp_path / "nas.db") as store:
        write(store, spec(), random.Random(1), trials=20)
        numbers = [19, *range(3, 18)]
        assert [each.number for each in store.trials("first", numbers)] == sorted(numbers)


def test_the_first_finished_trials_are_in_the_order_of_their_ends(tmp_path):
    """Running trials and duplicates are left out."""
    with Store.open(tmp_path / "nas.db") as store:
        study = spec()
        write(store, study, random.Random(2))
        record = store.study("first")
        ended = [
            each.number
            for each in sorted(
                store.trials("first"), key=lambda each: each.finished_at or rung().finished_at
            )
            if each.state is not TrialState.RUNNING and each.duplicate_of is None
        ]
        assert store.first_finished("first", 10) == ended[:10]
        assert read_front(store, record).front.after == len(ended)
