"""Stopping rules on curves of real networks on CIFAR-10, `studies/cifar10-replay/curves.csv`."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from nas.analysis.rank_agreement import agreement
from nas.bench.stopping import STRATEGIES, read_table, replay
from nas.core.stopping import Curves, Futility

TABLE = read_table(Path(__file__).parents[2] / "studies" / "cifar10-replay" / "curves.csv")
CURVES = TABLE.curves


def test_tau_is_the_share_of_pairs_in_the_same_order():
    """Pairs are counted one by one. As in Kendall's tau-b, pairs that are equal at a rung are left
    out there.
    """
    for rung in range(len(TABLE.epochs) - 1):
        errors = CURVES.errors[:, [rung, -1]]
        steps = np.array([np.sign(a - b) for a, b in combinations(errors, 2)])
        both = agreement(TABLE.epochs[rung], TABLE.epochs[-1], errors)
        assert both is not None
        assert both.tau == pytest.approx(
            steps.prod(axis=1).sum() / np.sqrt(abs(steps).sum(axis=0).prod())
        )


def test_futility_loses_no_member_of_the_front():
    """In ten orders it waits, switches itself off, or stops the right trials."""
    for seed in range(10):
        run = replay(TABLE, STRATEGIES["futility"], seed)
        assert set(run.finished) >= TABLE.front
        assert run.volumes[-1] == pytest.approx(1)


def test_a_hopeless_network_is_stopped_and_members_of_the_front_are_not():
    """The networks are repeated three times, so that there are enough. A network with the worst
    errors and the largest costs is stopped after the second rung.
    """
    curves = Curves(
        numbers=np.arange(3 * len(CURVES)),
        errors=np.tile(CURVES.errors, (3, 1)),
        costs=np.tile(CURVES.costs, (3, 1)),
        sizes=np.tile(CURVES.sizes, (3, 1)),
    )
    rule = Futility(curves, 2)
    assert rule.active
    largest_costs = CURVES.costs.max(axis=0).tolist()
    assert rule.stops([0.9, 0.9], largest_costs, CURVES.sizes.max(axis=0).tolist())
    for i in TABLE.front:
        assert not rule.stops(
            CURVES.errors[i, :2].tolist(), CURVES.costs[i].tolist(), CURVES.sizes[i].tolist()
        )
