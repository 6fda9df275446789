"""The stopping rules on curves of real networks on CIFAR-10,
`studies/cifar10-replay/curves.csv`.
"""

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
    """Counted pair by pair; pairs that are equal in a rung are left out there, as Kendall's tau-b
    has it.
    """
    for rung in range(len(TABLE.epochs) - 1):
        errors = CURVES.errors[:, [rung, -1]]
        steps = np.array([np.sign(a - b) for a, b in combinations(errors, 2)])
        found = agreement(TABLE.epochs[rung], TABLE.epochs[-1], errors)
        assert found is not None
        assert found.tau == pytest.approx(
            steps.prod(axis=1).sum() / np.sqrt(abs(steps).sum(axis=0).prod())
        )


def test_futility_loses_no_member_of_the_front():
    """In no order: it waits, or examines itself, or is right."""
    for seed in range(10):
        run = replay(TABLE, STRATEGIES["futility"], seed)
        assert set(run.finished) >= TABLE.front
        assert run.volumes[-1] == pytest.approx(1)


def test_a_real_network_made_hopeless_is_stopped_and_a_real_one_is_not():
    """With the networks three times over, so that there are enough: one with all errors of the
    worst and the costs of the dearest is stopped after the second rung, each real one that is on
    the front goes on.
    """
    many = Curves(
        numbers=np.arange(3 * len(CURVES)),
        errors=np.tile(CURVES.errors, (3, 1)),
        costs=np.tile(CURVES.costs, (3, 1)),
        sizes=np.tile(CURVES.sizes, (3, 1)),
    )
    rule = Futility(many, 2)
    assert rule.active
    dear = CURVES.costs.max(axis=0).tolist()
    assert rule.stops([0.9, 0.9], dear, CURVES.sizes.max(axis=0).tolist())
    for i in TABLE.front:
        assert not rule.stops(
            CURVES.errors[i, :2].tolist(), CURVES.costs[i].tolist(), CURVES.sizes[i].tolist()
        )
