"""Who is certainly on a front, who beats whom, and who is alike: small cases counted by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.pareto import ranks
from nas.report.relations import certainty, dominators, neighbours
from nas.search_space import Choice

points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20)


def test_counts_who_dominates():
    """(0, 0) beats all; (1, 2) and (2, 1) do not beat each other; (2, 2) is beaten by the three."""
    assert dominators([(0, 0), (1, 2), (2, 1), (2, 2)]).tolist() == [0, 1, 1, 3]


def test_equal_points_do_not_dominate_each_other():
    assert dominators([(1, 1), (1, 1)]).tolist() == [0, 0]


@settings(deadline=None)
@given(points)
def test_nobody_dominates_the_front_and_somebody_everybody_else(losses):
    """The second way: ranks by moocore."""
    assert (dominators(losses) == 0).tolist() == (ranks(losses) == 0).tolist()


@settings(deadline=None)
@given(points)
def test_without_intervals_certain_and_possible_are_the_front(losses):
    certain, possible = certainty(losses, losses)
    assert certain.tolist() == possible.tolist() == (ranks(losses) == 0).tolist()


def test_overlapping_intervals_make_members_doubtful():
    """The second is better in the error; in latency, 1.0 to 1.2 and 0.9 to 1.1, either may be. The third is beaten
    whatever is true."""
    low = [(0.3, 1.0), (0.2, 0.9), (0.4, 2.0)]
    high = [(0.3, 1.2), (0.2, 1.1), (0.4, 2.2)]
    certain, possible = certainty(low, high)
    assert certain.tolist() == [False, True, False]
    assert possible.tolist() == [True, True, False]


def test_a_wide_interval_is_no_rival_of_itself():
    certain, possible = certainty([(0.1, 1.0)], [(0.1, 9.0)])
    assert certain.tolist() == possible.tolist() == [True]


def test_neighbours_are_counted_in_steps_and_switches():
    """Widths 8, 16, 32 are one step apart each; another category is as far as all steps together."""
    choices = (Choice(name="width", values=(8, 16, 32)), Choice(name="kind", values=("a", "b")))
    places = np.asarray([(0, 0), (1, 0), (2, 0), (0, 1)])
    assert neighbours(places, choices, 3)[0].tolist() == [1, 2, 3]
    assert neighbours(places, choices, 1)[3].tolist() == [0]


def test_one_trial_has_no_neighbours():
    assert neighbours(np.zeros((1, 2), dtype=np.int64), (), 5).shape == (1, 0)
