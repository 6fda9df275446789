"""The views agree with the program, and the examples of `docs/database.md` run on both engines."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import text

from nas.core.measurement import Measurement
from nas.core.pareto import front
from nas.core.study import Direction, Objective
from nas.core.trial import TrialState
from nas.record import Store
from nas.record.schema import METADATA
from nas.testing.sample_records import architecture, latency, rung, spec, trial

PAGE = Path(__file__).parents[2] / "docs" / "database.md"
PANDAS, DUCKDB = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
TABLE, HISTORY, FASTEST = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
FIGURES = [(0.5, 0.004), (0.3, 0.003), (0.2, 0.002), (0.1, 0.009), (0.35, 0.001)]
"""Error and latency of trials 0 to 4. The limit of latency is 0.004; 2 and 4 are the front."""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    """A study of seven trials. The sixth duplicates the third, and the last has no figure yet."""
    url = (
        tmp_path / "nas.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgresql")()
    )
    study = spec("cifar10")
    with Store.open(url) as store:
        store.create_study(study, dataset="digits", classes=10)
        store.create_study(spec("other"), dataset="digits", classes=10)
        for number, (error, seconds) in enumerate(FIGURES):
            store.add_trial(study.name, trial(number))
            store.add_measurements(
                study.name, number, [latency(9.0, started_at=datetime(2026, 1, 1, tzinfo=UTC))], 0.5
            )
            store.add_measurements(
                study.name, number, [latency(seconds), Measurement.counted("macs", "1", 7)], 0.25
            )
            store.add_rung(study.name, number, rung(1.0, metrics={"error": 0.9}))
            store.add_rung(study.name, number, rung(2.0, metrics={"error": error}))
            store.finish_trial(
                study.name,
                trial(number).moved_to(TrialState.COMPLETE, finished_at=datetime.now(UTC)),
            )
            store.add_front(study.name, front(store.trials(study.name), study.objectives))
        duplicate = replace(
            trial(5), architecture=architecture(18), duplicate_of=2, state=TrialState.COMPLETE
        )
        store.add_trial(study.name, duplicate)
        store.add_trial(study.name, trial(6))
        yield store


def rows(store, query):
    """Return the rows that an SQL prompt would print."""
    with store._reading() as connection:
        return connection.execute(text(query)).all()


def test_the_front_as_a_table(store):
    """The members have their newest latency and their last error."""
    assert rows(store, TABLE) == [(2, 0.2, 2.0), (4, 0.35, 1.0)]


def test_the_progress_of_the_search(store):
    """Each snapshot has the hypervolume of the pure function, and its growth."""
    trials = store.trials("cifar10")
    expected = [front(trials[:count], spec().objectives) for count in range(1, 6)]
    volumes = [each.hypervolume for each in expected]
    progress = rows(store, HISTORY)
    assert [(row.finished_trials, row.members, row.hypervolume) for row in progress] == [
        (each.after, len(each.members), each.hypervolume) for each in expected
    ]
    assert [row.gain for row in progress] == [
        None,
        *(after - before for before, after in pairwise(volumes)),
    ]


def test_the_fastest_networks(store):
    """They come by latency, without the duplicate and larger errors, with all seconds spent."""
    fastest = rows(store, FASTEST)
    assert [(row.trial, row.error, row.latency_s) for row in fastest] == [
        (4, 0.35, 0.001),
        (2, 0.2, 0.002),
        (1, 0.3, 0.003),
        (3, 0.1, 0.009),
    ]
    assert {(row.measure_s, row.train_s) for row in fastest} == {(0.75, 0.2)}


def test_the_examples_for_pandas_and_duckdb(store, tmp_path, monkeypatch):
    """They run one after the other. For a server they use the connection that the page names."""
    pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    example, names = PANDAS, {}
    if not (tmp_path / "nas.db").exists():
        names["server"] = store._engine
        example = example.replace(
            'sqlite3.connect("file:nas.db?mode=ro", uri=True)', "server.connect()"
        )
    exec(example, names)  # noqa: S102 - what a reader would type
    assert names["front"]["error"].tolist() == [0.2, 0.35]
    assert names["front"]["latency"].tolist() == [0.002, 0.001]
    assert len(names["trials"]) == 6
    assert names["trials"]["started_at"].dtype.kind == "M"
    assert names["per_state"]["cifar10"]["complete"] == pytest.approx(5 * 0.2)
    exec(DUCKDB, names)  # noqa: S102
    assert names["fastest"].to_dict("list") == {
        "trial": [4, 2],
        "error": [0.35, 0.2],
        "latency_ms": [1.0, 2.0],
        "train_s": pytest.approx([0.2, 0.2]),
    }


def test_pareto_is_the_newest_front(store):
    """It holds every objective of every member, with interval, unit and limit."""
    members = rows(store, "SELECT * FROM pareto ORDER BY position, metric")
    assert [
        (row.position, row.trial, row.metric, row.value, row.unit, row.limit_value)
        for row in members
    ] == [
        (0, 2, "error", 0.2, "1", None),
        (0, 2, "latency", 0.002, "s", 0.004),
        (1, 4, "error", 0.35, "1", None),
        (1, 4, "latency", 0.001, "s", 0.004),
    ]
    assert {row.study for row in members} == {"cifar10"}
    assert all(row.feasible for row in members)
    assert members[1].ci_low == latency().ci_low


def test_the_overview_has_every_trial(store):
    """The duplicate has its original's figures, and only trial 3 is over the limit."""
    overview = rows(store, "SELECT * FROM trial_overview WHERE study = 'cifar10' ORDER BY trial")
    assert [row.error for row in overview] == [*(error for error, _ in FIGURES), 0.2, None]
    assert [row.limits_violated for row in overview] == [0, 0, 0, 1, 0, 0, 0]
    assert [row.duplicate_of for row in overview] == [None, None, None, None, None, 2, None]
    assert [row.epochs for row in overview] == [2.0] * 6 + [None]
    assert overview[6].train_s == 0.0


def test_a_limit_may_be_from_below(store):
    """For an objective that is maximised, a smaller value violates the limit."""
    study = spec(
        "high", objectives=(Objective(metric="rate", direction=Direction.MAXIMIZE, limit=2.0),)
    )
    store.create_study(study, dataset="digits", classes=10)
    for number, rate in enumerate((1.0, 2.0, 3.0)):
        store.add_trial("high", trial(number))
        store.add_measurements("high", number, [latency(rate, metric="rate")], 0.0)
    overview = rows(
        store, "SELECT limits_violated FROM trial_overview WHERE study = 'high' ORDER BY trial"
    )
    assert (
        [row.limits_violated for row in overview]
        == [int(t.violation(study.objectives) > 0) for t in store.trials("high")]
        == [1, 0, 0]
    )


def test_the_page_names_every_table_and_view(store):
    """It also lists the columns of the views."""
    page = PAGE.read_text()
    for name in METADATA.tables:
        assert f"`{name}`" in page
    for view in ("pareto", "hypervolume_history", "trial_overview"):
        with store._reading() as connection:
            columns = list(connection.execute(text(f"SELECT * FROM {view}")).keys())  # noqa: S608 - one of three
        assert f"`{', '.join(columns)}`" in page
