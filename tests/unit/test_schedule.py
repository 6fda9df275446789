"""The learning-rate cycle against its closed form: a triangle over the rung."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.training.schedule import at_step, one_cycle

SHARES = st.floats(0.01, 0.99)


@given(SHARES)
def test_the_cycle_starts_at_0_peaks_at_1_and_ends_at_exactly_0(warmup):
    assert one_cycle(0.0, warmup) == 0.0
    assert one_cycle(warmup, warmup) == pytest.approx(1.0)
    assert one_cycle(1.0, warmup) == 0.0


@given(SHARES, st.floats(0, 1))
def test_the_cycle_is_the_lower_of_two_straight_lines(warmup, progress):
    expected = min(progress / warmup, (1 - progress) / (1 - warmup))
    assert one_cycle(progress, warmup) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 500), SHARES)
def test_no_step_has_a_learning_rate_of_0_and_their_mean_is_half_the_peak(steps, warmup):
    shares = [at_step(step, steps, warmup) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    assert sum(shares) / steps == pytest.approx(0.5, abs=1 / steps)  # the midpoint rule's error
