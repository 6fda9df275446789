"""Kendall's tau of small rankings, counted by hand."""

import pytest

from nas.analysis.rank_agreement import kendall_tau


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
