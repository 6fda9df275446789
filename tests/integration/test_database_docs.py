"""The views say what the program says, and the examples of `docs/database.md` run as they stand, on
both engines.
"""

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
"""Error and latency of trials 0 to 4; the limit of latency is 0.004, and 2 and 4 are the front."""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    """A study of seven trials, the sixth a duplicate of the third, the last still without a
    figure.
    """
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
            store.add_rung(study.name, number, rung(1.0, error=0.9))
            store.add_rung(study.name, number, rung(2.0, error=error))
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
    """What a person would get at an SQL prompt."""
    with store._reading() as connection:
        return connection.execute(text(query)).all()


def test_the_front_as_a_table(store):
    """The two trials that no other beats within the limit, their newest latency and their last
    error.
    """
    assert rows(store, TABLE) == [(2, 0.2, 2.0), (4, 0.35, 1.0)]


def test_how_the_search_got_better(store):
    """One row for each snapshot, with the hypervolume that the pure function gives and its
    growth.
    """
    trials = store.trials("cifar10")
    expected = [front(trials[:count], spec().objectives) for count in range(1, 6)]
    volumes = [each.hypervolume for each in expected]
    found = rows(store, HISTORY)
    assert [(row.finished_trials, row.members, row.hypervolume) for row in found] == [
        (each.after, len(each.members), each.hypervolume) for each in expected
    ]
    assert [row.gain for row in found] == [
        None,
        *(after - before for before, after in pairwise(volumes)),
    ]


def test_the_fastest_networks(store):
    """By latency, without the duplicate and the ones that err more, with all seconds that they
    cost.
    """
    found = rows(store, FASTEST)
    assert [(row.trial, row.error, row.latency_s) for row in found] == [
        (4, 0.35, 0.001),
        (2, 0.2, 0.002),
        (1, 0.3, 0.003),
        (3, 0.1, 0.009),
    ]
    assert {(row.measure_s, row.train_s) for row in found} == {(0.75, 0.2)}


def test_the_examples_for_pandas_and_duckdb(store, tmp_path, monkeypatch):
    """One after the other, as they stand; with the connection that the page names where the record
    is on a server.
    """
    pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    example, known = PANDAS, {}
    if not (tmp_path / "nas.db").exists():
        known["server"] = store._engine
        example = example.replace(
            'sqlite3.connect("file:nas.db?mode=ro", uri=True)', "server.connect()"
        )
    exec(example, known)  # noqa: S102 - what a reader would type
    assert known["front"]["error"].tolist() == [0.2, 0.35]
    assert known["front"]["latency"].tolist() == [0.002, 0.001]
    assert len(known["trials"]) == 6
    assert known["trials"]["started_at"].dtype.kind == "M"
    assert known["per_state"]["cifar10"]["complete"] == pytest.approx(5 * 0.2)
    exec(DUCKDB, known)  # noqa: S102
    assert known["fastest"].to_dict("list") == {
        "trial": [4, 2],
        "error": [0.35, 0.2],
        "latency_ms": [1.0, 2.0],
        "train_s": pytest.approx([0.2, 0.2]),
    }


def test_pareto_is_the_newest_front(store):
    """Every objective of every member, with interval, unit and limit."""
    found = rows(store, "SELECT * FROM pareto ORDER BY position, metric")
    assert [
        (row.position, row.trial, row.metric, row.value, row.unit, row.limit_value) for row in found
    ] == [
        (0, 2, "error", 0.2, "1", None),
        (0, 2, "latency", 0.002, "s", 0.004),
        (1, 4, "error", 0.35, "1", None),
        (1, 4, "latency", 0.001, "s", 0.004),
    ]
    assert {row.study for row in found} == {"cifar10"}
    assert all(row.feasible for row in found)
    assert found[1].ci_low == latency().ci_low


def test_the_overview_has_every_trial(store):
    """Also the duplicate, with its original's figures, and the one without any; only trial 3 is
    beyond the limit.
    """
    found = rows(store, "SELECT * FROM trial_overview WHERE study = 'cifar10' ORDER BY trial")
    assert [row.error for row in found] == [*(error for error, _ in FIGURES), 0.2, None]
    assert [row.limits_violated for row in found] == [0, 0, 0, 1, 0, 0, 0]
    assert [row.duplicate_of for row in found] == [None, None, None, None, None, 2, None]
    assert [row.epochs for row in found] == [2.0] * 6 + [None]
    assert found[6].train_s == 0.0


def test_a_limit_may_be_from_below(store):
    """Of an objective that is maximised, less is a violation."""
    study = spec(
        "high", objectives=(Objective(metric="rate", direction=Direction.MAXIMIZE, limit=2.0),)
    )
    store.create_study(study, dataset="digits", classes=10)
    for number, rate in enumerate((1.0, 2.0, 3.0)):
        store.add_trial("high", trial(number))
        store.add_measurements("high", number, [latency(rate, metric="rate")], 0.0)
    found = rows(
        store, "SELECT limits_violated FROM trial_overview WHERE study = 'high' ORDER BY trial"
    )
    assert (
        [row.limits_violated for row in found]
        == [int(t.violation(study.objectives) > 0) for t in store.trials("high")]
        == [1, 0, 0]
    )


def test_the_page_names_every_table_and_view(store):
    """And the columns of the views are the ones it gives."""
    page = PAGE.read_text()
    for name in METADATA.tables:
        assert f"`{name}`" in page
    for view in ("pareto", "hypervolume_history", "trial_overview"):
        with store._reading() as connection:
            columns = list(connection.execute(text(f"SELECT * FROM {view}")).keys())  # noqa: S608 - one of three
        assert f"`{', '.join(columns)}`" in page
