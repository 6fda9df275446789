"""Networks side by side: what each costs by count, what it takes by measurement, what follows from
both.

Derived figures carry intervals too: frames per second and MACs per second those of the latency,
power the product of the bounds of joules per frame and frames per second, so it is rather too wide.
"""

import csv
import io
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.core.units import format_quantity
from nas.paper.peers import HARDWARE, PAPER, PaperRow
from nas.paper.scatter import STYLE, Point, scatter
from nas.report.page import POLICY, asset, page, trusted

COUNTS = {
    "parameters": "parameters",
    "macs": "MACs",
    "memory_access_cost": "memory access",
    "activations": "activations",
}
"""Counted quantities and their headings; memory access in elements, activations of convolutions."""
MEASURED = {
    "peak_memory": ("peak memory", "B"),
    "latency": ("latency", "s"),
    "fps": ("frames/s", "1"),
    "power": ("mean power", "W"),
    "energy": ("energy/frame", "J"),
    "macs_per_s": ("MACs/s", "1"),
}
"""Measured and derived quantities with headings and units."""
PAPER_COLUMNS = {
    "detector": "detector",
    "macs": "MACs",
    "fps": "frames/s",
    "memory_bytes": "memory",
    "energy_j": "energy/image",
    "macs_per_s": "MACs/s",
    "power_w": "implied power",
}
PAPER_UNITS = {
    "macs": "1",
    "fps": "1",
    "memory_bytes": "B",
    "energy_j": "J",
    "macs_per_s": "1",
    "power_w": "W",
}
RATES = {
    f"{format_quantity(rate, '1')}MACs/s": rate
    for rate in (2e9, 5e9, 1e10, 2e10, 5e10, 1e11, 2e11, 1e12, 1e13)
}
"""Lines of equal efficiency in the drawing of latency."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One quantity over `rounds` rounds, `noisy` of them not as narrow as asked. Without a value
    there is a reason.

    Of one round, `low` and `high` are the 95 % interval. Of several, the value is their median and
    `low` and `high` the lowest and the highest bound of all rounds, which also shows how rounds
    differ.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    noisy: int = 0
    reason: str = ""

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> "Estimate":
        """Of one quantity's measurements under the same conditions."""
        every = list(measurements)
        usable = [m for m in every if m.value is not None]
        if not usable:
            return cls(
                value=None,
                reason=f"{every[-1].status}: {every[-1].reason}" if every else "not measured",
            )
        values = [m.value for m in usable if m.value is not None]
        bounds = [
            bound for m in usable for bound in (m.ci_low, m.ci_high, m.value) if bound is not None
        ]
        known = all(m.ci_low is not None for m in usable)
        return cls(
            value=statistics.median(values),
            low=min(bounds) if known else None,
            high=max(bounds) if known else None,
            rounds=len(usable),
            noisy=sum(m.status is Status.NOISY for m in usable),
        )

    def scaled(self, factor: float) -> "Estimate":
        """Times a positive number."""
        value, low, high = (
            None if each is None else each * factor for each in (self.value, self.low, self.high)
        )
        return Estimate(
            value=value,
            low=low,
            high=high,
            rounds=self.rounds,
            noisy=self.noisy,
            reason=self.reason,
        )

    def inverse(self, of: float) -> "Estimate":
        """`of` divided by it."""
        value, high, low = (
            None if each is None else of / each for each in (self.value, self.low, self.high)
        )
        return Estimate(
            value=value,
            low=low,
            high=high,
            rounds=self.rounds,
            noisy=self.noisy,
            reason=self.reason,
        )

    def times(self, other: "Estimate") -> "Estimate":
        """The product, with those of the bounds."""
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
        """For people; `~` before what was noisy in every round or has no interval."""
        if self.value is None:
            return "-"
        doubt = "~" if self.noisy == self.rounds or self.low is None else ""
        if self.low is None or self.high is None or self.low == self.high:
            return doubt + format_quantity(self.value, unit)
        return f"{doubt}{format_quantity(self.value, unit)} [{format_quantity(self.low, unit)}, {format_quantity(self.high, unit)}]"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network: counts (None where they cannot be had), figures by the names of `MEASURED`."""

    name: str
    family: str
    target: str
    image_size: int
    batch_size: int
    counts: Mapping[str, int | None]
    figures: Mapping[str, Estimate]

    @property
    def paper(self) -> PaperRow | None:
        """What the paper prints of it."""
        return PAPER.get(self.name)


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
    """A network from all its measurements; of latencies only those of the asked tier, and only
    those under `plan`.
    """
    mine = [m for m in measurements if m.plan == plan]
    latency = Estimate.of(
        m for m in mine if m.metric == "latency" and certified == ("ratios" in m.details)
    )
    energy = Estimate.of(m for m in mine if m.metric == "energy")
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
            "peak_memory": Estimate.of(m for m in mine if m.metric == "peak_memory"),
            "latency": latency,
            "fps": fps,
            "power": energy.times(fps),
            "energy": energy,
            "macs_per_s": rate,
        },
    )


def missing(rows: Sequence[Row]) -> dict[str, str]:
    """Measured quantities that no network has, by their headings, with the reason."""
    return {
        MEASURED[name][0]: rows[0].figures[name].reason
        for name in ("peak_memory", "latency", "energy")
        if all(each.figures[name].value is None for each in rows)
    }


def cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The headings, then each network's figures as people read them, without quantities that none
    has.
    """
    shown = {
        name: heading
        for name, heading in MEASURED.items()
        if any(each.figures[name].value is not None for each in rows)
    }
    yield ["network", "px", *COUNTS.values(), *(heading for heading, _ in shown.values())]
    for each in rows:
        yield [
            each.name,
            str(each.image_size),
            *(
                "-" if (count := each.counts.get(name)) is None else format_quantity(count, "1")
                for name in COUNTS
            ),
            *(each.figures[name].text(unit) for name, (_, unit) in shown.items()),
        ]


def paper_cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The headings, then what the paper prints of those that it has."""
    yield ["network", *PAPER_COLUMNS.values()]
    for each in rows:
        if each.paper is not None:
            yield [
                each.name,
                each.paper.detector,
                *(
                    format_quantity(getattr(each.paper, name), unit)
                    for name, unit in PAPER_UNITS.items()
                ),
            ]


def as_csv(rows: Sequence[Row], conditions: str) -> str:
    """Every number in SI units, the paper's own columns beside, with the conditions and the paper's
    hardware.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    parts = [
        f"{name}{end}"
        for name in MEASURED
        for end in ("", "_low", "_high", "_rounds", "_noisy_rounds")
    ]
    writer.writerow(
        [
            "network",
            "family",
            "target",
            "image_size",
            *COUNTS,
            *parts,
            "conditions",
            *(f"paper_{name}" for name in PAPER_COLUMNS),
            "paper_hardware",
        ]
    )
    for each in rows:
        found = [
            value
            for name in MEASURED
            for figure in [each.figures[name]]
            for value in (figure.value, figure.low, figure.high, figure.rounds, figure.noisy)
        ]
        printed = [getattr(each.paper, name) if each.paper else None for name in PAPER_COLUMNS]
        writer.writerow(
            [
                each.name,
                each.family,
                each.target,
                each.image_size,
                *(each.counts.get(name) for name in COUNTS),
                *found,
                conditions,
                *printed,
                HARDWARE if each.paper else None,
            ]
        )
    return file.getvalue()


def drawings(rows: Sequence[Row]) -> dict[str, str]:
    """SVG texts by name: latency and, where it was measured, energy against MACs."""
    titles = {"latency": ("latency of a batch", "s"), "energy": ("joules per frame", "J")}
    found = {}
    for name, (title, unit) in titles.items():
        points = [
            Point(
                name=each.name,
                kind=each.family,
                x=macs,
                y=figure.value,
                low=figure.low or figure.value,
                high=figure.high or figure.value,
            )
            for each in rows
            for figure in [each.figures[name]]
            if figure.value is not None and (macs := each.counts.get("macs"))
        ]
        rates = (
            {label: rate / rows[0].batch_size for label, rate in RATES.items()}
            if name == "latency"
            else {}
        )
        if points:
            found[name] = scatter(
                points, x_title="MACs of one frame", y_title=title, y_unit=unit, rates=rates
            )
    return found


def as_page(rows: Sequence[Row], conditions: str, made_at: datetime) -> str:
    """One HTML file: drawings and tables. Raises `MissingDependencyError` without Jinja."""
    inline: dict[str, Any] = {
        "style": trusted(asset("page.css") + STYLE),
        "theme": trusted(asset("theme.js")),
    }
    return page(
        "peers.html",
        title="The paper's networks on this device",
        policy=POLICY,
        inline=inline,
        conditions=conditions,
        table=list(cells(rows)),
        missing=missing(rows),
        paper=list(paper_cells(rows)),
        hardware=HARDWARE,
        drawings={name: trusted(text) for name, text in drawings(rows).items()},
        made_at=f"made {made_at:%Y-%m-%d %H:%M} UTC",
    )
