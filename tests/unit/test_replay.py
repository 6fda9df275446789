"""Replay of stopping rules on curves. The epochs that they spend are counted by hand."""

import numpy as np
import pytest

from nas.bench.stopping import STRATEGIES, ReplayTable, read_table, replay, table_text
from nas.core.errors import InvalidValueError
from nas.core.stopping import Curves

EPOCHS = (0.25, 1.0, 3.0)


@pytest.fixture
def table():
    """Return a table of 24 networks. Larger ones are better, and all curves keep their order."""
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


def test_without_stopping_all_epochs_are_spent_and_the_whole_front_is_reached(table):
    """Each network takes three epochs. The hypervolume after a number of epochs is that of the
    networks finished until then.
    """
    run = replay(table, STRATEGIES["no stopping"], 3)
    assert (run.epochs[-1], run.volumes[-1], len(run.finished)) == (72, pytest.approx(1), 24)
    assert run.volume_at(2.9) == 0
    assert run.volume_at(7.5) == table.hypervolume(run.finished[:2])
    assert run.epochs_to(run.volumes[-1]) <= 72
    assert run.epochs_to(1.01) is None


def test_halving_spends_the_epochs_of_its_batches(table):
    """In each of two batches, 12 networks reach 0.25 epochs, 6 reach 1 and 3 reach 3."""
    run = replay(table, STRATEGIES["halving"], 0)
    assert run.epochs[-1] == pytest.approx(2 * (12 * 0.25 + 6 * 0.75 + 3 * 2))
    assert len(run.finished) == 6


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_rule_is_charged_for_every_rung_that_it_does_not_stop(table, name):
    """It is charged once, one rung after the other. Only networks at the last rung are finished."""
    visits = list(STRATEGIES[name](table.curves, list(range(24)), np.zeros(24, dtype=bool)))
    assert len(set(visits)) == len(visits)
    for network, rung in visits:
        assert rung == 0 or visits.index((network, rung - 1)) < visits.index((network, rung))
    run = replay(table, STRATEGIES[name], 5)
    assert run.epochs[-1] <= 72
    assert run.volumes[-1] == pytest.approx(table.hypervolume(run.finished))


def test_exempt_networks_are_not_stopped(table):
    """All 24 networks are exempt, and reach all three rungs."""
    is_exempt = np.ones(24, dtype=bool)
    visits = list(STRATEGIES["futility"](table.curves, list(range(24)), is_exempt))
    assert len(visits) == 24 * 3


def test_curves_are_written_and_read_back(table, tmp_path):
    """They are equal to the last bit. A file without numbers is refused."""
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
