"""Scatter plot of points with intervals on two logarithmic axes, as SVG.

Text and lines have CSS variables as colours, with fallbacks, as in `nas.report.svg`. Shapes show
the same distinctions as colours. Each label has the place where it covers least of the others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from nas.core.units import format_quantity

WIDTH, HEIGHT = 900, 560
"""Size of the plot in pixels."""
LEFT, RIGHT, TOP, BOTTOM = 74, 20, 16, 54
"""Margins around the axes in pixels."""
LETTER_WIDTH = 5.9
"""Approximate width of a letter of the labels in pixels."""
COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#9a6700", "#009e73", "#cc79a7", "#5a6675")
"""Colours of the kinds of points, in order; after the last, the first is used again."""
SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",
    "M0-6L5.5 4H-5.5Z",
    "M-4.5-4.5h9v9h-9Z",
    "M0-6L6 0L0 6L-6 0Z",
    "M-5-5L5 5M-5 5L5-5",
    "M0 6L5.5-4H-5.5Z",
    "M-6 0H6M0-6V6",
)
"""SVG paths of the marks of the kinds, around the point 0, 0."""
LABEL_PLACES = (
    (9, 4, "start"),
    (-9, 4, "end"),
    (0, -10, "middle"),
    (0, 19, "middle"),
    (8, -8, "start"),
    (8, 16, "start"),
    (-8, -8, "end"),
    (-8, 16, "end"),
)
"""Candidates for a label's place: pixels to the right, pixels down, and its anchor."""

STYLE = """
.scatter text{font:11px system-ui,sans-serif;fill:var(--ink,#1c2430)}
.scatter .dim{fill:var(--dim,#5d6b7c)}.scatter .grid{stroke:var(--edge,#dfe3e8)}
.scatter .rate{stroke:var(--dim,#9aa5b1);stroke-dasharray:2 4}
"""
"""Style sheet of the plot."""


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle in pixels."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network with positive x and y; `low` and `high` are the bounds of y."""

    name: str
    kind: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class _Axis:
    """A logarithmic scale from values to pixels."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> Iterator[float]:
        """Yield 1, 2 and 5 of each decade on the axis."""
        for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            yield from (
                step * 10.0**power
                for step in (1, 2, 5)
                if self.low <= step * 10.0**power <= self.high
            )


def scatter(
    points: Sequence[Point],
    *,
    x_title: str,
    y_title: str,
    y_unit: str,
    rates: Mapping[str, float] | None = None,
) -> str:
    """Draw at least one point.

    `rates` maps labels to values of x/y; a line is drawn for each.
    """
    across = _Axis(
        min(p.x for p in points) / 1.4, max(p.x for p in points) * 1.4, LEFT, WIDTH - RIGHT
    )
    up = _Axis(
        min(p.low for p in points) / 1.5, max(p.high for p in points) * 1.5, HEIGHT - BOTTOM, TOP
    )
    kinds = list(dict.fromkeys(point.kind for point in points))
    body = [
        *_grid(across, up, y_unit),
        *_lines(rates or {}, across, up),
        *(part for point in points for part in _mark(point, kinds.index(point.kind), across, up)),
        *_labels(points, across, up),
        *_legend(kinds),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, "middle"),
        f'<g transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2})rotate(-90)">',
        _text(0, 0, y_title, "middle"),
        "</g>",
    ]
    label = escape(f"{y_title} against {x_title} of {len(points)} networks")
    return (
        f'<svg class="scatter" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{label}"><title>{label}</title>{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="dim" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _grid(across: _Axis, up: _Axis, y_unit: str) -> Iterator[str]:
    for tick in across.ticks():
        x = across(tick)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield _text(x, HEIGHT - BOTTOM + 16, format_quantity(tick, "1"), "middle")
    for tick in up.ticks():
        y = up(tick)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield _text(LEFT - 6, y + 4, format_quantity(tick, y_unit), "end")


def _lines(rates: Mapping[str, float], across: _Axis, up: _Axis) -> Iterator[str]:
    """Draw the part of each line of a constant x/y that is inside the plot."""
    for label, rate in rates.items():
        begin, end = max(across.low, up.low * rate), min(across.high, up.high * rate)
        if begin < end:
            yield (
                f'<path class="rate" d="M{across(begin):.1f} {up(begin / rate):.1f}'
                f'L{across(end):.1f} {up(end / rate):.1f}"/>'
            )
            yield _text(across(end) - 4, up(end / rate) + 14, label, "end")


def _mark(point: Point, kind: int, across: _Axis, up: _Axis) -> Iterator[str]:
    x, colour = across(point.x), COLOURS[kind % len(COLOURS)]
    if point.low < point.high:
        yield f'<path stroke="{colour}" d="M{x:.1f} {up(point.low):.1f}V{up(point.high):.1f}"/>'
    yield (
        f'<path transform="translate({x:.1f} {up(point.y):.1f})" fill="{colour}" stroke="{colour}" '
        f'stroke-width="1.6" d="{SHAPES[kind % len(SHAPES)]}"><title>{escape(point.name)}: '
        f"{point.x:.4g}, {point.y:.4g}</title></path>"
    )


def _labels(points: Sequence[Point], across: _Axis, up: _Axis) -> Iterator[str]:
    """Write each name where it covers least of the marks and of the names before it."""
    taken = [(across(p.x) - 6, up(p.y) - 6, across(p.x) + 6, up(p.y) + 6) for p in points]
    for point in sorted(points, key=lambda p: p.x):
        labels = [
            _Label(across(point.x) + right, up(point.y) + down, anchor, point.name)
            for right, down, anchor in LABEL_PLACES
        ]
        best = min(labels, key=lambda label: label.covered(taken))
        taken.append(best.box)
        yield (
            f'<text x="{best.x:.1f}" y="{best.y:.1f}" text-anchor="{best.anchor}">'
            f"{escape(best.text)}</text>"
        )


@dataclass(frozen=True)
class _Label:
    """A name at one of its possible places."""

    x: float
    y: float
    anchor: str
    text: str

    @property
    def box(self) -> Box:
        """The rectangle of the text."""
        width = LETTER_WIDTH * len(self.text)
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return left, self.y - 10, left + width, self.y + 2

    def covered(self, taken: Sequence[Box]) -> float:
        """Return the covered pixels, with 1000 more for a label outside of the axes."""
        left, _, right, _ = self.box
        is_outside = left < LEFT or right > WIDTH - RIGHT
        return sum(_overlap(self.box, box) for box in taken) + 1000 * is_outside


def _overlap(a: Box, b: Box) -> float:
    """Return the number of pixels that two rectangles share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _legend(kinds: Sequence[str]) -> Iterator[str]:
    for index, kind in enumerate(kinds):
        y = HEIGHT - BOTTOM - 14 - 17 * (len(kinds) - 1 - index)
        colour, shape = COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)]
        yield (
            f'<path transform="translate({WIDTH - RIGHT - 96} {y - 4})" fill="{colour}" '
            f'stroke="{colour}" d="{shape}"/>'
            f'<text x="{WIDTH - RIGHT - 84}" y="{y}">{escape(kind)}</text>'
        )
