"""Networks side by side: counted costs, measurements, and figures derived from both.

Derived figures have intervals too. Those of frames and MACs per second follow from the interval of
the latency. The bounds of the power are products of the bounds of energy per frame and frames per
second, therefore its interval is somewhat too wide.
"""

import csv
import io
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.core.units import format_quantity
from nas.paper.peers import HARDWARE, PRINTED, PaperRow
from nas.paper.scatter import STYLE, Point, scatter
from nas.report.page import single_page, trusted

COUNTS = {
    "parameters": "parameters",
    "macs": "MACs",
    "memory_access_cost": "memory access",
    "activations": "activations",
    "norm_outputs": "BatchNorm outputs",
}
"""Counted quantities and their headings. Memory access is in elements; activations are the outputs
of convolutions. The paper's FLOPs are the sum of MACs and BatchNorm outputs.
"""
MEASURED = {
    "peak_memory": ("peak memory", "B"),
    "latency": ("latency", "s"),
    "fps": ("frames/s", "1"),
    "power": ("mean power", "W"),
    "energy": ("energy/frame", "J"),
    "macs_per_s": ("MACs/s", "1"),
}
"""Measured and derived quantities with their headings and units."""
PAPER_FIGURES = {
    "parameters": ("parameters", "1"),
    "macs": ("FLOPs", "1"),
    "fps": ("frames/s", "1"),
    "memory_bytes": ("memory", "B"),
    "energy_j": ("energy/image", "J"),
    "macs_per_s": ("FLOPs/s", "1"),
    "power_w": ("implied power", "W"),
}
"""Figures of `PaperRow` with their headings and units."""
RATES = {
    f"{format_quantity(rate, '1')}MACs/s": rate
    for rate in (2e9, 5e9, 1e10, 2e10, 5e10, 1e11, 2e11, 1e12, 1e13)
}
"""MACs per second of the lines of equal efficiency in the drawing of latency, by their labels."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A quantity measured in `rounds` rounds, of which `noisy` missed the planned precision.

    After one round, `low` and `high` are the 95 % interval. After several, `value` is their median,
    and `low` and `high` are the lowest and highest bound of all rounds, which also shows how much
    rounds differ. If `value` is None, `reason` says why.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    noisy: int = 0
    reason: str = ""

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> "Estimate":
        """Combine measurements of one quantity under the same conditions."""
        rounds = list(measurements)
        usable = [m for m in rounds if m.value is not None]
        if not usable:
            reason = f"{rounds[-1].status}: {rounds[-1].reason}" if rounds else "not measured"
            return cls(value=None, reason=reason)
        values = [m.value for m in usable if m.value is not None]
        lows = [m.ci_low for m in usable if m.ci_low is not None]
        highs = [m.ci_high for m in usable if m.ci_high is not None]
        has_interval = len(lows) == len(usable)
        return cls(
            value=statistics.median(values),
            low=min(*lows, *values) if has_interval else None,
            high=max(*highs, *values) if has_interval else None,
            rounds=len(usable),
            noisy=sum(m.status is Status.NOISY for m in usable),
        )

    def scaled(self, factor: float) -> "Estimate":
        """Multiply by a positive number."""
        value, low, high = (
            None if number is None else number * factor
            for number in (self.value, self.low, self.high)
        )
        return replace(self, value=value, low=low, high=high)

    def inverse(self, of: float) -> "Estimate":
        """Divide `of` by this estimate, which exchanges the bounds."""
        value, high, low = (
            None if number is None else of / number for number in (self.value, self.low, self.high)
        )
        return replace(self, value=value, low=low, high=high)

    def times(self, other: "Estimate") -> "Estimate":
        """Multiply by another estimate, bounds by bounds."""
        value, low, high = (
            None if a is None or b is None else a * b
            for a, b in ((self.value, other.value), (self.low, other.low), (self.high, other.high))
        )
        return Estimate(
            value=value,
            low=low,
            high=high,
            rounds=min(self.rounds, other.rounds),
            noisy=max(self.noisy, other.noisy),
            reason=self.reason or other.reason,
        )

    def text(self, unit: str) -> str:
        """Format with units, and with `~` if every round was noisy or there is no interval."""
        if self.value is None:
            return "-"
        value, low, high = (
            format_quantity(number, unit) for number in (self.value, self.low, self.high)
        )
        doubt = "~" if self.noisy == self.rounds or self.low is None else ""
        if self.low is None or self.low == self.high:
            return doubt + value
        return f"{doubt}{value} [{low}, {high}]"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network. Unknown `counts` are None; `figures` have the names of `MEASURED`."""

    name: str
    family: str
    target: str
    image_size: int
    batch_size: int
    counts: Mapping[str, int | None]
    figures: Mapping[str, Estimate]

    @property
    def paper(self) -> PaperRow | None:
        """The paper's figures of this network, None if it prints none."""
        return PRINTED.get(self.name)


def row(
    *,
    name: str,
    family: str,
    target: str,
    plan: MeasurementPlan,
    counts: Mapping[str, int | None],
    measurements: Sequence[Measurement],
    certified: bool,
) -> Row:
    """Combine a network's measurements under `plan`.

    Latencies count only if they are of the same tier: certified ones or those of a screen.
    """
    usable = [m for m in measurements if m.plan == plan]
    latency = Estimate.of(
        m for m in usable if m.metric == "latency" and certified == ("ratios" in m.details)
    )
    energy = Estimate.of(m for m in usable if m.metric == "energy")
    fps, macs = latency.inverse(plan.batch_size), counts.get("macs")
    rate = fps.scaled(macs) if macs else Estimate(value=None, reason="no MACs are known")
    return Row(
        name=name,
        family=family,
        target=target,
        image_size=plan.image_size,
        batch_size=plan.batch_size,
        counts=counts,
        figures={
            "peak_memory": Estimate.of(m for m in usable if m.metric == "peak_memory"),
            "latency": latency,
            "fps": fps,
            "power": energy.times(fps),
            "energy": energy,
            "macs_per_s": rate,
        },
    )


def missing(rows: Sequence[Row]) -> dict[str, str]:
    """Return the headings of measured quantities that no network has, and the reasons."""
    return {
        MEASURED[name][0]: rows[0].figures[name].reason
        for name in ("peak_memory", "latency", "energy")
        if all(network.figures[name].value is None for network in rows)
    }


def cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Yield the headings, then each network's figures as text.

    Quantities that no network has are left out.
    """
    shown = {
        name: heading_and_unit
        for name, heading_and_unit in MEASURED.items()
        if any(network.figures[name].value is not None for network in rows)
    }
    yield ["network", "px", *COUNTS.values(), *(heading for heading, _ in shown.values())]
    for network in rows:
        yield [
            network.name,
            str(network.image_size),
            *(format_quantity(network.counts.get(name), "1") for name in COUNTS),
            *(network.figures[name].text(unit) for name, (_, unit) in shown.items()),
        ]


def paper_cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Yield the headings, then the paper's figures of the networks that it has."""
    yield ["network", "detector", *(heading for heading, _ in PAPER_FIGURES.values())]
    for network in rows:
        if network.paper is not None:
            figures = [
                format_quantity(getattr(network.paper, name), unit)
                for name, (_, unit) in PAPER_FIGURES.items()
            ]
            yield [network.name, network.paper.detector, *figures]


def as_csv(rows: Sequence[Row], conditions: str) -> str:
    """Return all numbers in SI units, with the conditions, the paper's columns and its hardware."""
    lines = []
    for network in rows:
        line: dict[str, Any] = {
            "network": network.name,
            "family": network.family,
            "target": network.target,
            "image_size": network.image_size,
            **{name: network.counts.get(name) for name in COUNTS},
        }
        for name in MEASURED:
            figure = network.figures[name]
            line |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
            line |= {f"{name}_rounds": figure.rounds, f"{name}_noisy_rounds": figure.noisy}
        line["conditions"] = conditions
        for name in ("detector", *PAPER_FIGURES):
            line[f"paper_{name}"] = getattr(network.paper, name, None)
        line["paper_hardware"] = HARDWARE if network.paper else None
        lines.append(line)
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def drawings(rows: Sequence[Row]) -> dict[str, str]:
    """Draw latency against MACs and, if it was measured, energy against MACs, as SVG texts."""
    batch_size = rows[0].batch_size if rows else 1
    rates = {label: rate / batch_size for label, rate in RATES.items()}
    svgs = {}
    for name, title, unit, lines in (
        ("latency", "latency of a batch", "s", rates),
        ("energy", "joules per frame", "J", {}),
    ):
        points = list(_points(rows, name))
        if points:
            svgs[name] = scatter(
                points, x_title="MACs of one frame", y_title=title, y_unit=unit, rates=lines
            )
    return svgs


def _points(rows: Sequence[Row], name: str) -> Iterator[Point]:
    """Yield the networks that have both MACs and this figure."""
    for network in rows:
        figure, macs = network.figures[name], network.counts.get("macs")
        if figure.value is not None and macs:
            yield Point(
                name=network.name,
                kind=network.family,
                x=macs,
                y=figure.value,
                low=figure.low or figure.value,
                high=figure.high or figure.value,
            )


def as_page(rows: Sequence[Row], conditions: str) -> str:
    """Return an HTML page of drawings and tables. Raises `MissingDependencyError` without Jinja."""
    return single_page(
        "peers.html",
        title="The paper's networks on this device",
        style=STYLE,
        conditions=conditions,
        table=list(cells(rows)),
        missing=missing(rows),
        paper=list(paper_cells(rows)),
        hardware=HARDWARE,
        drawings={name: trusted(text) for name, text in drawings(rows).items()},
    )
