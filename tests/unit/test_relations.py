"""Similar trials in small cases, counted by hand."""

import numpy as np

from nas.analysis.relations import neighbours
from nas.core.search_space import Choice


def test_distances_are_steps_of_ordered_choices_and_differences_of_others():
    """Widths 8, 16, 32 are one step apart each; another category is as far as all steps
    together.
    """
    choices = (Choice(name="width", values=(8, 16, 32)), Choice(name="kind", values=("a", "b")))
    places = np.asarray([(0, 0), (1, 0), (2, 0), (0, 1)])
    assert neighbours(places, choices, 3)[0].tolist() == [1, 2, 3]
    assert neighbours(places, choices, 1)[3].tolist() == [0]


def test_one_trial_has_no_neighbours():
    assert neighbours(np.zeros((1, 2), dtype=np.int64), (), 5).shape == (1, 0)
