"""Kendall's tau of small rankings, counted by hand, and bootstrap samples of it."""

import numpy as np
import pytest

from nas.analysis.rank_agreement import (
    bootstrap_weights,
    kendall_tau,
    weighted_partial_correlations,
    weighted_taus,
)


def test_one_swap_of_four():
    """Of six pairs one is turned round: (5 - 1) / 6."""
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)


def test_ties_are_tau_b():
    """Five pairs agree and one is a tie in one ranking: 5 / sqrt(6 * 5)."""
    assert kendall_tau([1, 2, 3, 4], [1, 2, 3, 3]) == pytest.approx(5 / 30**0.5)


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [2]), ([1, 1, 1], [1, 2, 3])])
def test_without_an_order_there_is_no_tau(first, second):
    """Fewer than two pairs have no order, nor have equal values."""
    assert kendall_tau(first, second) is None


def test_a_weight_of_two_is_the_same_as_the_value_twice():
    """The second way is SciPy's tau of the sample written out."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=8), rng.integers(0, 5, 8)
    weights = bootstrap_weights(8, 50, seed=1)
    repeated = [
        kendall_tau(*(np.repeat(values, row.astype(int)) for values in (first, second)))
        for row in weights
    ]
    assert weighted_taus(first, second, weights) == pytest.approx(repeated)


def test_every_bootstrap_sample_has_as_many_networks():
    """The same seed gives the same samples."""
    weights = bootstrap_weights(12, 200, seed=3)
    assert (weights.sum(axis=1) == 12).all()
    assert (weights == bootstrap_weights(12, 200, seed=3)).all()
    assert weights.mean(axis=0) == pytest.approx(1.0, abs=0.3)


def test_the_correlation_at_equal_sizes_is_that_of_the_residuals():
    """The second way fits both lines and correlates what they leave."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=30)
    first, second = size + rng.normal(size=30), 2 * size + rng.normal(size=30)
    left = [each - np.polyval(np.polyfit(size, each, 1), size) for each in (first, second)]
    result = weighted_partial_correlations(first, second, size, np.ones((1, 30)))
    assert result == pytest.approx(np.corrcoef(*left)[0, 1])


def test_what_size_alone_explains_has_no_correlation_at_equal_sizes():
    """Errors that follow the size, with deviations at right angles to it and to each other."""
    size, down, up = [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]
    first, second = np.add(size, down), np.add(size, up)
    result = weighted_partial_correlations(first, second, size, np.ones((1, 4)))
    assert result == pytest.approx(0.0, abs=1e-12)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.5)
