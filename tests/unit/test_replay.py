"""Stopping rules replayed on curves: what they spend is counted by hand."""

import numpy as np
import pytest

from nas.bench.stopping import STRATEGIES, ReplayTable, read_table, replay, table_text
from nas.core.errors import InvalidValueError
from nas.core.stopping import Curves

EPOCHS = (0.25, 1.0, 3.0)


@pytest.fixture
def table():
    """Twenty-four networks; larger ones are better, and all curves keep their order."""
    sizes = np.arange(1, 25, dtype=float)
    final = 0.6 - 0.02 * sizes + 0.002 * (np.arange(24) % 3)
    return ReplayTable(
        epochs=EPOCHS,
        params=[{"width": n, "kind": "a"} for n in range(24)],
        cost_names=["macs"],
        size_names=["parameters", "macs"],
        curves=Curves(
            numbers=np.arange(24),
            errors=np.column_stack([final + 0.2, final + 0.1, final]),
            costs=1e6 * sizes[:, None],
            sizes=np.column_stack([1e3 * sizes, 1e6 * sizes]),
        ),
    )


def test_without_stopping_everything_is_spent_and_found(table):
    """Three epochs each; the hypervolume at every number of epochs is that of the networks finished
    by then.
    """
    run = replay(table, STRATEGIES["no stopping"], 3)
    assert (run.epochs[-1], run.volumes[-1], len(run.finished)) == (72, pytest.approx(1), 24)
    assert run.volume_at(2.9) == 0
    assert run.volume_at(7.5) == table.hypervolume(run.finished[:2])
    assert run.epochs_to(run.volumes[-1]) <= 72
    assert run.epochs_to(1.01) is None


def test_halving_spends_what_its_batches_cost(table):
    """Two batches: 12 to 0.25, 6 on to 1, 3 on to 3 epochs."""
    run = replay(table, STRATEGIES["halving"], 0)
    assert run.epochs[-1] == pytest.approx(2 * (12 * 0.25 + 6 * 0.75 + 3 * 2))
    assert len(run.finished) == 6


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_rule_pays_for_every_rung_that_it_lets_be_reached(table, name):
    """Each once, one rung after the other; only whoever reaches the last is finished."""
    visits = list(STRATEGIES[name](table.curves, list(range(24)), np.zeros(24, dtype=bool)))
    assert len(set(visits)) == len(visits)
    for network, rung in visits:
        assert rung == 0 or visits.index((network, rung - 1)) < visits.index((network, rung))
    run = replay(table, STRATEGIES[name], 5)
    assert run.epochs[-1] <= 72
    assert run.volumes[-1] == pytest.approx(table.hypervolume(run.finished))


def test_nobody_who_runs_through_is_stopped(table):
    """Whatever the rule says."""
    everybody = np.ones(24, dtype=bool)
    for name in ("futility", "keep 0.5", "keep 0.33"):
        assert len(list(STRATEGIES[name](table.curves, list(range(24)), everybody))) == 24 * 3


def test_curves_go_to_a_file_and_back(table, tmp_path):
    """To the last bit; the file is also a table for `nas bench search`."""
    (tmp_path / "curves.csv").write_text(table_text(table))
    again = read_table(tmp_path / "curves.csv")
    for name in ("numbers", "errors", "costs", "sizes"):
        assert (getattr(again.curves, name) == getattr(table.curves, name)).all()
    assert (again.epochs, again.cost_names, again.size_names) == (
        EPOCHS,
        ["macs"],
        ["parameters", "macs"],
    )
    (tmp_path / "wrong.csv").write_text("trial,error:1\n0,much\n")
    with pytest.raises(InvalidValueError, match=r"wrong.csv is no table of curves: .*much"):
        read_table(tmp_path / "wrong.csv")
