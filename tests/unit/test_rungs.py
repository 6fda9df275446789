"""The stopping rule over several objectives."""

from hypothesis import given
from hypothesis import strategies as st

from nas.pareto import ranks
from nas.rungs import goes_on

losses = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20)


def test_the_case_in_which_order_and_rank_differ():
    points = [[1, 1], [2, 2], [0, 0]]
    assert [goes_on(points, i, keep=1 / 3, min_trials=1) for i in range(3)] == [False, False, True]
    assert [goes_on(points, i, keep=2 / 3, min_trials=1) for i in range(3)] == [True, False, True]


@given(losses, st.floats(0.01, 1))
def test_the_front_always_goes_on(points, keep):
    assert all(goes_on(points, i, keep, 1) for i, rank in enumerate(ranks(points)) if rank == 0)


@given(losses)
def test_everybody_goes_on_where_all_are_kept_or_too_few_are_there(points):
    assert all(goes_on(points, i, 1.0, 1) for i in range(len(points)))
    assert all(goes_on(points, i, 0.01, len(points) + 1) for i in range(len(points)))


@given(losses, st.floats(0.05, 0.95))
def test_whoever_is_stopped_has_enough_strictly_better_ranks(points, keep):
    order = ranks(points)
    for i in range(len(points)):
        if not goes_on(points, i, keep, 1):
            assert (order < order[i]).sum() >= keep * len(points)
