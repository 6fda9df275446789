"""Dominance, ranks, hypervolume and fronts against definitions and counting."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.architecture import Architecture, OsaStage
from nas.core.dominance import certainty, dominators, hypervolume, ranks
from nas.core.measurement import Measurement, Status
from nas.core.pareto import Standing, front, standings
from nas.core.study import Direction, Objective
from nas.core.trial import CERTIFIED_METRICS, Evaluation, Rung, Trial, TrialState

points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


@given(points)
def test_hypervolume_of_integer_points_is_the_number_of_dominated_unit_cubes(losses):
    reference = (5, 5, 5)
    cubes = sum(
        any(all(p <= c for p, c in zip(point, corner, strict=True)) for point in losses)
        for corner in product(range(5), repeat=3)
    )
    assert hypervolume(losses, reference) == cubes


@given(points, st.randoms())
def test_hypervolume_knows_neither_order_nor_duplicates(losses, random):
    other = [*losses, *losses]
    random.shuffle(other)
    assert hypervolume(other, (5, 5, 5)) == hypervolume(losses, (5, 5, 5))


def test_points_beyond_the_reference_count_nothing():
    assert hypervolume([(5, 0), (0, 5), (6, 6)], (5, 5)) == 0
    assert hypervolume([], (5, 5)) == 0
    assert hypervolume([[3.0], [1.0]], (5,)) == 4


@given(points)
def test_ranks_peel_the_front_off_layer_by_layer(losses):
    left = dict(enumerate(losses))
    expected = {}
    rank = 0
    while left:
        layer = [i for i, p in left.items() if not any(dominates(q, p) for q in left.values())]
        expected |= dict.fromkeys(layer, rank)
        left = {i: p for i, p in left.items() if i not in layer}
        rank += 1
    assert ranks(losses).tolist() == [expected[i] for i in range(len(losses))]


def test_ranks_are_ranks_and_not_an_order():
    assert ranks([[1, 1], [2, 2], [0, 0]]).tolist() == [1, 2, 0]


STAGE = OsaStage(mid_channels=4, out_channels=8, num_layers=1)
ARCHITECTURE = Architecture(stem_channels=(4, 4, 8), stages=(STAGE,) * 3)
OBJECTIVES = (Objective(metric="error", reference=1.0), Objective(metric="latency", limit=10.0))


def trial(number, error, latency, state=TrialState.COMPLETE, **changes):
    evaluation = Evaluation(
        measurements={
            "latency": Measurement(metric="latency", unit="s", value=latency, method="given")
        },
        rungs=(
            Rung(epochs=1, error=error, train_loss=1.0, images=1, train_s=0.0, validation_s=0.0),
        ),
    )
    return replace(
        Trial(number=number, params={}, architecture=ARCHITECTURE, seed=0, evaluation=evaluation),
        state=state,
        **changes,
    )


def test_the_front_holds_what_no_feasible_trial_dominates_and_its_hypervolume_by_hand():
    trials = [
        trial(0, 0.5, 2.0),
        trial(1, 0.2, 6.0),
        trial(2, 0.6, 3.0),
        trial(3, 0.1, 11.0),
        trial(4, 0.0, 1.0, TrialState.STOPPED),
        trial(5, 0.2, 6.0, duplicate_of=1),
    ]
    found = front(trials, OBJECTIVES)
    assert found.members == (1, 0)
    assert found.feasible
    assert found.after == 5
    assert found.hypervolume == pytest.approx(0.5 * 8 + 0.3 * 4)


def test_where_nothing_is_feasible_the_least_violating_trials_are_shown():
    found = front(
        [trial(0, 0.5, 12.0), trial(1, 0.2, 11.0, TrialState.STOPPED), trial(2, 0.1, 30.0)],
        OBJECTIVES,
    )
    assert found.members == (1,)
    assert not found.feasible
    assert found.hypervolume == 0


def test_without_a_reference_there_is_no_hypervolume():
    objectives = (Objective(metric="error"), Objective(metric="latency", limit=10.0))
    assert front([trial(0, 0.5, 2.0)], objectives).hypervolume is None


def test_a_maximised_metric_is_better_when_larger():
    objectives = (
        Objective(metric="latency", direction=Direction.MAXIMIZE, reference=0.0),
        OBJECTIVES[0],
    )
    found = front([trial(0, 0.5, 2.0), trial(1, 0.5, 3.0)], objectives)
    assert found.members == (1,)
    assert found.hypervolume == pytest.approx(3.0 * 0.5)


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), min_size=1, max_size=8))
def test_every_feasible_trial_is_on_the_front_or_dominated_by_a_member(values):
    trials = [trial(i, error / 10, float(latency)) for i, (error, latency) in enumerate(values)]
    losses = {t.number: t.losses(OBJECTIVES) for t in trials}
    members = front(trials, OBJECTIVES).members
    for number, loss in losses.items():
        beaten = any(dominates(losses[m], loss) for m in members)
        assert (number in members) != beaten
    assert np.isfinite(front(trials, OBJECTIVES).hypervolume)


def test_counts_who_dominates():
    """(0, 0) beats all; (1, 2) and (2, 1) do not beat each other; (2, 2) is beaten by the three."""
    assert dominators([(0, 0), (1, 2), (2, 1), (2, 2)]).tolist() == [0, 1, 1, 3]


def test_equal_points_do_not_dominate_each_other():
    assert dominators([(1, 1), (1, 1)]).tolist() == [0, 0]


@given(points)
def test_nobody_dominates_the_front_and_somebody_everybody_else(losses):
    """The second way: ranks by moocore."""
    assert (dominators(losses) == 0).tolist() == (ranks(losses) == 0).tolist()


@given(points)
def test_without_intervals_certain_and_possible_are_the_front(losses):
    certain, possible = certainty(losses, losses)
    assert certain.tolist() == possible.tolist() == (ranks(losses) == 0).tolist()


def test_overlapping_intervals_make_members_doubtful():
    """The second is better in the error; in latency, 1.0 to 1.2 and 0.9 to 1.1, either may be. The
    third is beaten whatever is true.
    """
    low = [(0.3, 1.0), (0.2, 0.9), (0.4, 2.0)]
    high = [(0.3, 1.2), (0.2, 1.1), (0.4, 2.2)]
    certain, possible = certainty(low, high)
    assert certain.tolist() == [False, True, False]
    assert possible.tolist() == [True, True, False]


def test_a_wide_interval_is_no_rival_of_itself():
    certain, possible = certainty([(0.1, 1.0)], [(0.1, 9.0)])
    assert certain.tolist() == possible.tolist() == [True]


def measured(number, error, low, value, high, **others):
    """A trial whose latency has an interval."""
    figure = Measurement(
        metric="latency", unit="s", value=value, ci_low=low, ci_high=high, method="given", **others
    )
    there = trial(number, error, value)
    return replace(there, evaluation=there.evaluation.with_measurements([figure]))


def test_a_difference_counts_only_beyond_the_intervals():
    """0 is best in the error. 1 is faster by value but within the interval of 0; 2 is slower than 0
    and worse, but within the interval of 1; 3 is far behind; 4 is fast beyond doubt.
    """
    trials = [
        measured(0, 0.2, 0.9, 1.0, 1.1),
        measured(1, 0.3, 0.8, 0.95, 1.1),
        measured(2, 0.4, 1.0, 1.05, 1.2),
        measured(3, 0.5, 2.0, 2.1, 2.2),
        measured(4, 0.6, 0.1, 0.2, 0.3),
    ]
    assert standings(trials, OBJECTIVES) == {
        0: Standing.CERTAIN,
        1: Standing.PROBABLE,
        2: Standing.POSSIBLE,
        3: Standing.DOMINATED,
        4: Standing.CERTAIN,
    }


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=12))
def test_standings_are_what_every_pair_says(rows):
    """Of many trials most are never compared; the outcome is that of comparing all of them."""
    trials = [
        measured(number, error / 10, value - below, value, value + above)
        for number, (error, value, below, above) in enumerate(rows)
    ]

    def dominated(trial, end_of_trial, end_of_other):
        """Whether another trial at one end of its interval dominates this one at one of its own."""
        error, latency = trial.bounds(OBJECTIVES)
        mine = (error[0], latency[end_of_trial])
        rivals = [
            (e[0], each[end_of_other])
            for other in trials
            if other is not trial
            for e, each in [other.bounds(OBJECTIVES)]
        ]
        return any(
            rival != mine and rival[0] <= mine[0] and rival[1] <= mine[1] for rival in rivals
        )

    found = standings(trials, OBJECTIVES)
    for trial in trials:
        possible = found[trial.number] is not Standing.DOMINATED
        assert (found[trial.number] is Standing.CERTAIN) == (not dominated(trial, 1, 0))
        assert possible or dominated(trial, 0, 1)


def test_a_measured_value_without_an_interval_is_certain_of_nothing():
    """A noisy median of too few blocks: it may be anything, so it makes the other doubtful too."""
    unknown = measured(0, 0.3, None, 1.0, None, status=Status.NOISY)
    assert standings([unknown, measured(1, 0.4, 0.5, 0.5, 0.5)], OBJECTIVES) == {
        0: Standing.CERTAIN,
        1: Standing.PROBABLE,
    }


def test_only_what_can_be_a_member_has_a_standing():
    """Not the stopped, the infeasible and the duplicates."""
    trials = [
        trial(0, 0.5, 2.0),
        trial(1, 0.1, 11.0),
        trial(2, 0.0, 1.0, TrialState.STOPPED),
        trial(3, 0.5, 2.0, duplicate_of=0),
    ]
    assert standings(trials, OBJECTIVES) == {0: Standing.CERTAIN}


def certified(there, low, high, session="2026-01-02", metric="latency"):
    """The trial with a certified figure besides."""
    figure = Measurement(
        metric=CERTIFIED_METRICS[metric],
        unit="s",
        value=(low + high) / 2,
        ci_low=low,
        ci_high=high,
        method="given",
        details={"session": session},
    )
    return replace(there, evaluation=there.evaluation.with_measurements([figure]))


def test_what_was_certified_together_is_compared_by_those_figures():
    """Screened, 0 and 1 overlap; certified, 1 is slower than 0 beyond doubt and worse in the error.
    2 was not certified: it is compared by the screened figures. Figures of another session do not
    count.
    """
    zero, one = measured(0, 0.2, 0.9, 1.0, 1.1), measured(1, 0.3, 0.8, 0.95, 1.1)
    two = measured(2, 0.4, 0.7, 0.74, 0.78)
    assert standings([certified(zero, 2.0, 2.1), certified(one, 2.2, 2.3), two], OBJECTIVES) == {
        0: Standing.CERTAIN,
        1: Standing.DOMINATED,
        2: Standing.CERTAIN,
    }
    assert (
        standings(
            [certified(zero, 2.0, 2.1), certified(one, 2.2, 2.3, "2026-01-01"), two], OBJECTIVES
        )[1]
        is Standing.PROBABLE
    )
    cold = certified(certified(one, 2.2, 2.3), 1.0, 1.1, metric="energy")
    assert (cold.evaluation.certified_session, one.evaluation.certified_session) == (
        "2026-01-02",
        None,
    )
    without = replace(
        cold.evaluation.measurements[CERTIFIED_METRICS["energy"]],
        value=None,
        ci_low=None,
        ci_high=None,
        status=Status.THROTTLED,
        reason="hot",
    )
    assert cold.evaluation.with_measurements([without]).certified_session is None
