"""Numbers with units as people read them: `3.95 ms`, `0.31 J`, `1.02 M`, `23.4 %`."""

import math
from collections.abc import Mapping

from nas.core.measurement import Measurement

PREFIXES: Mapping[int, str] = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}
SHARES = frozenset({"error"})
"""Metrics that are shares, shown in per cent."""


def quantity(value: float | None, unit: str, *, metric: str = "") -> str:
    """The value to three or four digits with its unit, `-` for None."""
    if value is None:
        return "-"
    if metric in SHARES:
        return f"{100 * value:.2f} %"
    rounded = float(f"{value:.4g}")
    power = 0 if rounded == 0 else math.floor(math.log10(abs(rounded)) / 3 + 1e-12)
    power = max(min(power, max(PREFIXES)), min(PREFIXES))
    scaled = value / 1000.0**power
    shown = f"{scaled:.3g}" if abs(scaled) < 999.5 else f"{scaled:.4g}"
    suffix = PREFIXES[power] + ("" if unit == "1" else unit)
    return f"{shown} {suffix}".rstrip()


def with_interval(measurement: Measurement) -> str:
    """A figure with its 95 % interval, or the reason why there is none."""
    if measurement.value is None:
        return f"{measurement.status}: {measurement.reason}"
    text = quantity(measurement.value, measurement.unit, metric=measurement.metric)
    if (
        measurement.ci_low is None
        or measurement.ci_high is None
        or measurement.ci_low == measurement.ci_high
    ):
        return text
    low, high = (
        quantity(bound, measurement.unit, metric=measurement.metric)
        for bound in (measurement.ci_low, measurement.ci_high)
    )
    noisy = f", {measurement.status}" if measurement.status != "ok" else ""
    return f"{text}  [{low} to {high}{noisy}]"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def sparkline(values: list[float], width: int = 40) -> str:
    """The course of the values in one line of blocks, at most `width`, from 0 to their maximum."""
    blocks = "▁▂▃▄▅▆▇█"
    step = max(len(values) / width, 1)
    shown = [values[int(index * step)] for index in range(int(len(values) / step))][:-1] + values[
        -1:
    ]
    top = max(shown, default=0.0)
    return "".join(
        blocks[min(int(value / top * len(blocks)), len(blocks) - 1)] if top > 0 else blocks[0]
        for value in shown
    )
