"""Dominance, ranks, hypervolume and fronts against definitions and counting."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture, OsaStage
from nas.measurement import Measurement
from nas.pareto import front, hypervolume, ranks
from nas.study import Direction, Objective
from nas.trial import Evaluation, Rung, Trial, TrialState

points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(points)
def test_hypervolume_of_integer_points_is_the_number_of_dominated_unit_cubes(losses):
    reference = (5, 5, 5)
    cubes = sum(any(all(p <= c for p, c in zip(point, corner, strict=True)) for point in losses)
                for corner in product(range(5), repeat=3))
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
        measurements={"latency": Measurement(metric="latency", unit="s", value=latency, method="given")},
        rungs=(Rung(epochs=1, error=error, train_loss=1.0, images=1, train_s=0.0, validation_s=0.0),))
    return replace(Trial(number=number, params={}, architecture=ARCHITECTURE, seed=0, evaluation=evaluation),
                   state=state, **changes)


def test_the_front_holds_what_no_feasible_trial_dominates_and_its_hypervolume_by_hand():
    trials = [trial(0, 0.5, 2.0), trial(1, 0.2, 6.0), trial(2, 0.6, 3.0), trial(3, 0.1, 11.0),
              trial(4, 0.0, 1.0, TrialState.STOPPED), trial(5, 0.2, 6.0, duplicate_of=1)]
    found = front(trials, OBJECTIVES)
    assert found.members == (1, 0)
    assert found.feasible
    assert found.after == 5
    assert found.hypervolume == pytest.approx(0.5 * 8 + 0.3 * 4)


def test_where_nothing_is_feasible_the_least_violating_trials_are_shown():
    found = front([trial(0, 0.5, 12.0), trial(1, 0.2, 11.0, TrialState.STOPPED), trial(2, 0.1, 30.0)], OBJECTIVES)
    assert found.members == (1,)
    assert not found.feasible
    assert found.hypervolume == 0


def test_without_a_reference_there_is_no_hypervolume():
    objectives = (Objective(metric="error"), Objective(metric="latency", limit=10.0))
    assert front([trial(0, 0.5, 2.0)], objectives).hypervolume is None


def test_a_maximised_metric_is_better_when_larger():
    objectives = (Objective(metric="latency", direction=Direction.MAXIMIZE, reference=0.0), OBJECTIVES[0])
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
