"""Numbers with units as people read them: `3.95 ms`, `0.31 J`, `1.02 M`, `23.4 %`."""

import math
from collections.abc import Mapping
from decimal import Decimal

from nas.core.measurement import Measurement
from nas.core.study import TrainedMetric

PREFIXES: Mapping[int, str] = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}
"""Prefixes of units by their power of 1000."""
UNIT_FACTORS: Mapping[str, Mapping[str, float]] = {
    "s": {"s": 1, "ms": 1e-3, "us": 1e-6, "min": 60},
    "J": {"J": 1, "mJ": 1e-3, "uJ": 1e-6},
    "B": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "1": {"": 1, "%": 1e-2, "k": 1e3, "M": 1e6, "G": 1e9},
}
"""Suffixes allowed after a number and their factors, by the metric's unit."""


def parse_quantity(text: str, unit: str) -> float:
    """Return the number in SI units of a text such as `3.95 ms`, for a metric of this unit.

    Raises `ValueError` for any other text.
    """
    factors = UNIT_FACTORS.get(unit, {unit: 1})
    number, _, suffix = text.strip().partition(" ")
    if not suffix:
        number = text.strip().rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
        suffix = text.strip()[len(number) :]
    if suffix.strip() not in factors:
        raise ValueError(
            f"{text!r} is no quantity in {', '.join(name for name in factors if name)}"
        )
    float(number)  # raises ValueError where Decimal would raise another error
    # With decimals 95 % is 0.95 to the last bit.
    return float(Decimal(number) * Decimal(repr(factors[suffix.strip()])))


def format_quantity(value: float | None, unit: str, *, share: bool = False) -> str:
    """Format the value with three or four digits and its unit, or `-` for None.

    A share is formatted in per cent.
    """
    if value is None:
        return "-"
    if share:
        return f"{100 * value:.2f} %"
    rounded = float(f"{value:.4g}")
    power = 0 if rounded == 0 else math.floor(math.log10(abs(rounded)) / 3 + 1e-12)
    power = max(min(power, max(PREFIXES)), min(PREFIXES))
    scaled = value / 1000.0**power
    shown = f"{scaled:.3g}" if abs(scaled) < 999.5 else f"{scaled:.4g}"
    suffix = PREFIXES[power] + ("" if unit == "1" else unit)
    return f"{shown} {suffix}".rstrip()


def format_hypervolume(volume: float, box: float | None) -> str:
    """Format a hypervolume as a share of `StudySpec.reference_box`, or in the objectives' units if
    there is no box.
    """
    return f"{volume:.4g}" if box is None else f"{100 * volume / box:.3g} % of the reference box"


def format_trained(metric: TrainedMetric, value: float | None) -> str:
    """Format a trained figure with its unit, shares in per cent, or `-` for None."""
    return format_quantity(value, metric.unit, share=metric.is_share)


def with_interval(measurement: Measurement, *, share: bool = False) -> str:
    """Format a figure with its 95 % interval, or the reason why it has no value."""
    if measurement.value is None:
        return f"{measurement.status}: {measurement.reason}"
    text = format_quantity(measurement.value, measurement.unit, share=share)
    if (
        measurement.ci_low is None
        or measurement.ci_high is None
        or measurement.ci_low == measurement.ci_high
    ):
        return text
    low, high = (
        format_quantity(bound, measurement.unit, share=share)
        for bound in (measurement.ci_low, measurement.ci_high)
    )
    noisy = f", {measurement.status}" if measurement.status != "ok" else ""
    return f"{text}  [{low} to {high}{noisy}]"


def format_duration(seconds: float) -> str:
    """Format seconds as `42 s`, `3 min 05 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def sparkline(values: list[float], width: int = 40) -> str:
    """Draw the values as one line of blocks, at most `width`, from 0 to their maximum."""
    blocks = "▁▂▃▄▅▆▇█"
    step = max(len(values) / width, 1)
    shown = [values[int(index * step)] for index in range(int(len(values) / step))]
    shown = shown[:-1] + values[-1:]
    top = max(shown, default=0.0)
    if top <= 0:
        return blocks[0] * len(shown)
    heights = [int(value / top * len(blocks)) for value in shown]
    return "".join(blocks[min(height, len(blocks) - 1)] for height in heights)
