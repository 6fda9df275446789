"""The futility rule with several objectives."""

import numpy as np

from nas.core.stopping import MIN_CURVES, Curves, Futility, exempt


def curves(noise=0.0, count=40, seed=0):
    """Make networks whose final error is half the one at the first rung, times a factor of e^noise.
    The first is the cheapest and best, and costs rise with the numbers.
    """
    rng = np.random.default_rng(seed)
    first = np.linspace(0.4, 0.8, count)
    errors = np.column_stack([first, first / 2 * np.exp(noise * rng.standard_normal(count))])
    costs = np.arange(1.0, count + 1)[:, None]
    return Curves(
        numbers=np.arange(count),
        errors=errors,
        costs=costs,
        sizes=rng.uniform(1e3, 1e6, (count, 2)),
    )


def test_a_trial_is_stopped_only_if_its_optimistic_error_is_dominated():
    """Without noise the estimate is exact: half the error. The best network has 0.2 at cost 1."""
    rule = Futility(curves(), 1)
    assert rule.active
    assert rule.description == "on"
    assert rule.stops([0.41], [1.0], [1e4, 1e4])
    assert not rule.stops([0.404], [1.0], [1e4, 1e4])  # worse by 1 %, less than the margin
    assert not rule.stops([0.8], [0.9], [1e4, 1e4])  # no network is as cheap


def test_the_scatter_of_the_others_makes_the_estimate_optimistic():
    """With a scatter of 10 %, a trial must be predicted about 1.64 * 10 % worse than the best, not
    only 2 %.
    """
    rule = Futility(curves(noise=0.1), 1)
    best = curves(noise=0.1).errors[:, 1].min()
    stopped = [
        ratio
        for ratio in np.arange(1.0, 2.0, 0.01)
        if rule.stops([2 * best * ratio], [100.0], [1e4, 1e4])
    ]
    assert rule.active
    assert 1.08 < stopped[0] < 1.45
    assert stopped[-1] == max(stopped) > 1.9


def test_futility_waits_for_enough_curves():
    assert not Futility(curves(count=MIN_CURVES - 1), 1).ready
    assert not Futility(curves(count=MIN_CURVES - 1), 1).stops([0.9], [1e9], [1e4, 1e4])
    assert Futility(curves(count=MIN_CURVES), 1).active
    assert (
        Futility(Curves.of([], []), 1).description
        == f"waits for {MIN_CURVES} trials at the last rung"
    )


def test_a_rule_that_would_have_stopped_a_member_of_the_front_is_off():
    """Network 30 looks as bad as its neighbours at the first rung and becomes the best of all."""
    late = curves()
    late.errors[30, 1] = 0.1
    rule = Futility(late, 1)
    assert rule.mistakes == [30]
    assert rule.description == "off: it would have stopped trial 30 of the front"
    assert not rule.stops([0.8], [1e9], [1e4, 1e4])


def test_one_trial_in_ten_is_exempt():
    assert sum(exempt(seed) for seed in range(1000)) == 100
