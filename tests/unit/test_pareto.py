"""Dominance, ranks, hypervolume and fronts equal definitions and counts."""

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
def test_hypervolume_depends_on_neither_order_nor_duplicates(losses, random):
    other = [*losses, *losses]
    random.shuffle(other)
    assert hypervolume(other, (5, 5, 5)) == hypervolume(losses, (5, 5, 5))


def test_points_beyond_the_reference_add_no_hypervolume():
    assert hypervolume([(5, 0), (0, 5), (6, 6)], (5, 5)) == 0
    assert hypervolume([], (5, 5)) == 0
    assert hypervolume([[3.0], [1.0]], (5,)) == 4


@given(points)
def test_ranks_peel_the_front_off_layer_by_layer(losses):
    remaining = dict(enumerate(losses))
    expected = {}
    rank = 0
    while remaining:
        rivals = remaining.values()
        layer = [i for i, p in remaining.items() if not any(dominates(q, p) for q in rivals)]
        expected |= dict.fromkeys(layer, rank)
        remaining = {i: p for i, p in remaining.items() if i not in layer}
        rank += 1
    assert ranks(losses).tolist() == [expected[i] for i in range(len(losses))]


def test_ranks_of_points_that_are_not_in_order():
    assert ranks([[1, 1], [2, 2], [0, 0]]).tolist() == [1, 2, 0]


STAGE = OsaStage(mid_channels=4, out_channels=8, num_layers=1)
ARCHITECTURE = Architecture(stem_channels=(4, 4, 8), stages=(STAGE,) * 3)
OBJECTIVES = (Objective(metric="error", reference=1.0), Objective(metric="latency", limit=10.0))


def trial(number, error, latency, state=TrialState.COMPLETE, **changes):
    evaluation = Evaluation(
        measurements={
            "latency": Measurement(metric="latency", unit="s", value=latency, method="given")
        },
        rungs=(Rung(epochs=1, metrics={"error": error}),),
    )
    return replace(
        Trial(number=number, params={}, architecture=ARCHITECTURE, seed=0, evaluation=evaluation),
        state=state,
        **changes,
    )


def test_the_front_holds_the_trials_that_no_feasible_one_dominates():
    """Its hypervolume is computed by hand."""
    trials = [
        trial(0, 0.5, 2.0),
        trial(1, 0.2, 6.0),
        trial(2, 0.6, 3.0),
        trial(3, 0.1, 11.0),
        trial(4, 0.0, 1.0, TrialState.STOPPED),
        trial(5, 0.2, 6.0, duplicate_of=1),
    ]
    best = front(trials, OBJECTIVES)
    assert best.members == (1, 0)
    assert best.feasible
    assert best.after == 5
    assert best.hypervolume == pytest.approx(0.5 * 8 + 0.3 * 4)


def test_without_feasible_trials_the_front_holds_the_least_violating_ones():
    best = front(
        [trial(0, 0.5, 12.0), trial(1, 0.2, 11.0, TrialState.STOPPED), trial(2, 0.1, 30.0)],
        OBJECTIVES,
    )
    assert best.members == (1,)
    assert not best.feasible
    assert best.hypervolume == 0


def test_without_a_reference_there_is_no_hypervolume():
    objectives = (Objective(metric="error"), Objective(metric="latency", limit=10.0))
    assert front([trial(0, 0.5, 2.0)], objectives).hypervolume is None


def test_a_maximised_metric_is_better_when_larger():
    objectives = (
        Objective(metric="latency", direction=Direction.MAXIMIZE, reference=0.0),
        OBJECTIVES[0],
    )
    best = front([trial(0, 0.5, 2.0), trial(1, 0.5, 3.0)], objectives)
    assert best.members == (1,)
    assert best.hypervolume == pytest.approx(3.0 * 0.5)


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), min_size=1, max_size=8))
def test_every_feasible_trial_is_on_the_front_or_dominated_by_a_member(values):
    trials = [trial(i, error / 10, float(latency)) for i, (error, latency) in enumerate(values)]
    losses = {t.number: t.losses(OBJECTIVES) for t in trials}
    members = front(trials, OBJECTIVES).members
    for number, loss in losses.items():
        dominated = any(dominates(losses[m], loss) for m in members)
        assert (number in members) != dominated
    assert np.isfinite(front(trials, OBJECTIVES).hypervolume)


def test_dominators_are_counted():
    """(0, 0) dominates all. (1, 2) and (2, 1) do not dominate each other. Three dominate (2, 2)."""
    assert dominators([(0, 0), (1, 2), (2, 1), (2, 2)]).tolist() == [0, 1, 1, 3]


def test_equal_points_do_not_dominate_each_other():
    assert dominators([(1, 1), (1, 1)]).tolist() == [0, 0]


@given(points)
def test_exactly_the_points_of_rank_0_have_no_dominators(losses):
    """Ranks are computed by moocore, in another way."""
    assert (dominators(losses) == 0).tolist() == (ranks(losses) == 0).tolist()


@given(points)
def test_without_intervals_certain_and_possible_are_the_front(losses):
    certain, possible = certainty(losses, losses)
    assert certain.tolist() == possible.tolist() == (ranks(losses) == 0).tolist()


def test_overlapping_intervals_make_members_uncertain():
    """The second point has the lower error. Its latency, 0.9 to 1.1, may be lower or higher than
    that of the first, 1.0 to 1.2. The third point is dominated in any case.
    """
    low = [(0.3, 1.0), (0.2, 0.9), (0.4, 2.0)]
    high = [(0.3, 1.2), (0.2, 1.1), (0.4, 2.2)]
    certain, possible = certainty(low, high)
    assert certain.tolist() == [False, True, False]
    assert possible.tolist() == [True, True, False]


def test_a_point_with_a_wide_interval_is_no_rival_of_itself():
    certain, possible = certainty([(0.1, 1.0)], [(0.1, 9.0)])
    assert certain.tolist() == possible.tolist() == [True]


def measured(number, error, low, value, high, **others):
    """Make a trial whose latency has an interval."""
    figure = Measurement(
        metric="latency", unit="s", value=value, ci_low=low, ci_high=high, method="given", **others
    )
    there = trial(number, error, value)
    return replace(there, evaluation=there.evaluation.with_measurements([figure]))


def test_a_difference_counts_only_if_the_intervals_do_not_overlap():
    """Trial 0 has the lowest error. 1 is faster by value, but within the interval of 0. 2 is slower
    than 0 and has a higher error, but is within the interval of 1. 3 is far behind. 4 is certainly
    the fastest.
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
def test_standings_equal_those_from_comparing_every_pair(rows):
    """The implementation skips most pairs of many trials."""
    trials = [
        measured(number, error / 10, value - below, value, value + above)
        for number, (error, value, below, above) in enumerate(rows)
    ]

    def dominated(trial, end_of_trial, end_of_other):
        """Return whether a rival at one end of its interval dominates the trial at one of
        its own.
        """
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

    standing_of = standings(trials, OBJECTIVES)
    for trial in trials:
        possible = standing_of[trial.number] is not Standing.DOMINATED
        assert (standing_of[trial.number] is Standing.CERTAIN) == (not dominated(trial, 1, 0))
        assert possible or dominated(trial, 0, 1)


def test_a_measured_value_without_an_interval_makes_others_uncertain():
    """Such a value, the noisy median of too few blocks, may be anything."""
    unknown = measured(0, 0.3, None, 1.0, None, status=Status.NOISY)
    assert standings([unknown, measured(1, 0.4, 0.5, 0.5, 0.5)], OBJECTIVES) == {
        0: Standing.CERTAIN,
        1: Standing.PROBABLE,
    }


def test_stopped_infeasible_and_duplicate_trials_have_no_standing():
    trials = [
        trial(0, 0.5, 2.0),
        trial(1, 0.1, 11.0),
        trial(2, 0.0, 1.0, TrialState.STOPPED),
        trial(3, 0.5, 2.0, duplicate_of=0),
    ]
    assert standings(trials, OBJECTIVES) == {0: Standing.CERTAIN}


def certified(there, low, high, session="2026-01-02", metric="latency"):
    """Add a certified figure to the trial."""
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


def test_trials_certified_together_are_compared_by_their_certified_figures():
    """Screened figures of 0 and 1 overlap. By certified figures 1 is certainly slower than 0, and
    it has the higher error. 2 was not certified and is compared by screened figures. Figures of
    another session are ignored.
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
