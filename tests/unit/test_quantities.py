"""Numbers as people read them; every expectation was written by hand."""

import pytest

from nas.core.measurement import Measurement, Status
from nas.core.study import Direction, Objective, StudySpec, TrainedMetric
from nas.core.units import (
    format_duration,
    format_hypervolume,
    format_quantity,
    sparkline,
    with_interval,
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00395, "s", "3.95 ms"),
        (0.000_012_34, "s", "12.3 µs"),
        (2e-9, "s", "2 ns"),
        (2e-12, "s", "0.002 ns"),
        (1.0, "s", "1 s"),
        (0.001, "s", "1 ms"),
        (0.31, "J", "310 mJ"),
        (1_020_000, "1", "1.02 M"),
        (512, "1", "512"),
        (5_210_000_000, "1", "5.21 G"),
        (1500, "B", "1.5 kB"),
        (3e15, "1", "3000 T"),
        (0, "s", "0 s"),
        (0, "1", "0"),
        (-0.002, "s", "-2 ms"),
    ],
)
def test_quantities_have_three_digits_and_a_fitting_prefix(value, unit, text):
    """The unit `1` of counts is not written. Outside the range of prefixes there are more
    digits.
    """
    assert format_quantity(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000_999_4, "999 µs"),
        (0.000_999_7, "999.7 µs"),
        (0.000_999_97, "1 ms"),
        (0.9997, "999.7 ms"),
        (999.7, "999.7 s"),
        (999_999.0, "1 Ms"),
        (-0.000_999_7, "-999.7 µs"),
    ],
)
def test_a_quantity_just_below_the_next_prefix_gets_a_fourth_digit(value, text):
    """Three digits would round 999.7 to 1000 of the smaller prefix."""
    assert format_quantity(value, "s") == text


def test_an_error_is_a_share_in_per_cent():
    """Its unit is `1`, as for a count; the name of the metric makes the difference."""
    assert format_quantity(0.2341, "1", share=True) == "23.41 %"
    assert format_quantity(0.0, "1", share=True) == "0.00 %"
    assert format_quantity(0.2341, "1") == "234 m"


def test_a_missing_value_is_a_dash():
    """This holds for shares too."""
    assert format_quantity(None, "s") == format_quantity(None, "1", share=True) == "-"


def latency(value, low, high, **others):
    """Make a measured latency in seconds."""
    return Measurement(
        metric="latency", unit="s", value=value, ci_low=low, ci_high=high, method="clock", **others
    )


def test_a_figure_has_its_interval_and_an_unusual_status():
    """Bounds have prefixes of their own, and a noisy figure says so."""
    assert with_interval(latency(0.00395, 0.0039, 0.004)) == "3.95 ms  [3.9 ms to 4 ms]"
    assert (
        with_interval(latency(0.001, 0.0009, 0.0011, status=Status.NOISY))
        == "1 ms  [900 µs to 1.1 ms, noisy]"
    )


def test_an_exact_figure_has_no_interval():
    """This holds for counts, and for a measurement whose readings were all equal."""
    assert with_interval(Measurement.counted("parameters", "1", 1_020_000)) == "1.02 M"
    assert (
        with_interval(latency(0.002, 0.002, 0.002))
        == with_interval(latency(0.002, None, None))
        == "2 ms"
    )


def test_a_figure_without_a_value_shows_its_reason():
    figure = Measurement.unavailable("energy", "J", "this machine has no sensor")
    assert with_interval(figure) == "unavailable: this machine has no sensor"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (42.2, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, text):
    """Seconds are rounded first, so that there are never 60 seconds or minutes."""
    assert format_duration(seconds) == text


def test_a_sparkline_is_drawn_from_zero_to_the_maximum():
    """Blocks are eighths of the maximum, which itself is a full block."""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇██"
    assert sparkline([5.0]) == "█"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""


@pytest.mark.parametrize("count", [40, 41, 79, 80, 1000])
def test_a_long_sparkline_ends_with_its_last_value(count):
    """It is at most 40 wide. Only the last value is not 0."""
    line = sparkline([0.0] * (count - 1) + [1.0])
    assert len(line) <= 40
    assert line == "▁" * (len(line) - 1) + "█"


ERROR = Objective(metric="error", reference=0.9)
LATENCY = Objective(metric="latency", limit=0.002)
AP = Objective(metric="box_ap", direction=Direction.MAXIMIZE, reference=0.2)
FRAMES = Objective(metric="frames", direction=Direction.MAXIMIZE, reference=10)


@pytest.mark.parametrize(
    ("objectives", "box", "text"),
    [
        ((ERROR, LATENCY), 0.0018, "25 % of the reference box"),
        ((AP, LATENCY), 0.0016, "28.1 % of the reference box"),
        ((ERROR, FRAMES), None, "0.00045"),
        ((ERROR, Objective(metric="latency")), None, "0.00045"),
        ((Objective(metric="error", reference=0.0), LATENCY), None, "0.00045"),
    ],
    ids=["error", "average precision", "no best figure", "no reference", "no room"],
)
def test_a_hypervolume_is_a_share_of_the_reference_box(objectives, box, text):
    """The best error and latency are 0 and the best average precision is 1. A maximised cost has no
    best figure.
    """
    trained = (
        TrainedMetric(name="error"),
        TrainedMetric(name="box_ap", direction=Direction.MAXIMIZE),
    )
    spec = StudySpec(name="s", space="osa_tiny", objectives=objectives, trained=trained)
    assert spec.reference_box == pytest.approx(box)
    assert format_hypervolume(0.00045, spec.reference_box) == text
