"""Curves with bands as SVG, such as the hypervolume of several samplers by evaluations.

The text of the file is written without a drawing library.
"""

from collections.abc import Iterator, Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WIDTH, HEIGHT = 800, 430
"""Size of the image in pixels."""
LEFT, TOP, RIGHT, BOTTOM = 52, 34, 560, 380
"""Edges of the plot in pixels. Names are to the right of it."""
COLOURS = (
    "#d55e00",
    "#0072b2",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7b8794",
    "#1c2430",
    "#8b5a2b",
)
"""Colours of the methods, in their order."""
LINE_HEIGHT = 17
"""Distance of two names in pixels."""
MIN_SPAN = 0.1
"""Smallest range of values that the plot shows."""

STYLE = """
svg{font:12px system-ui,sans-serif;background:#fff}
text{fill:#1c2430}.dim{fill:#5d6b7c;font-size:11px}
.grid{stroke:#e4e8ed}.curve{fill:none;stroke-width:2}.band{opacity:.13}
.name{font-size:14px;font-weight:600}
"""


def curves_svg(curves: Mapping[str, Array], *, title: str, across: str, up: str) -> str:
    """Return the text of an SVG file with the mean of each method and a band of one standard
    deviation around it.

    Each method's values have the shape (runs, steps). A single run has no band. Names are listed by
    the last mean, and the colours follow the mapping's order. The lower edge is the smallest of the
    means after a tenth of the steps.
    """
    means = {name: values.mean(axis=0) for name, values in curves.items()}
    steps = max(len(mean) for mean in means.values())
    lowest = min(mean[min(steps // 10, len(mean) - 1)] for mean in means.values())
    highest = max(mean.max() for mean in means.values())
    low = np.floor(lowest * 20) / 20
    high = max(np.ceil(highest * 20) / 20, low + MIN_SPAN)
    plot = _Plot(steps=steps, low=float(low), high=float(high))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(curves)}
    bands = [
        plot.band(values.mean(axis=0), values.std(axis=0), colours[name])
        for name, values in curves.items()
        if len(values) > 1
    ]
    lines = [plot.line(mean, colours[name]) for name, mean in reversed(means.items())]
    body = "".join(
        [*plot.frame(title, across, up), *bands, *lines, *_names(means, curves, colours)]
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title><style>{STYLE}</style>'
        f'<clipPath id="inside"><rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" '
        f'height="{BOTTOM - TOP}"/></clipPath>{body}</svg>\n'
    )


class _Plot:
    """A plot with steps 1 to `steps` across and values `low` to `high` upwards."""

    def __init__(self, *, steps: int, low: float, high: float) -> None:
        self.steps, self.low, self.high = steps, low, high

    def _x(self, step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / self.steps

    def _y(self, value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - self.low) / (self.high - self.low)

    def _points(self, values: Array) -> list[str]:
        return [
            f"{self._x(i + 1):.1f},{self._y(float(value)):.1f}" for i, value in enumerate(values)
        ]

    def line(self, mean: Array, colour: str) -> str:
        """Draw one curve."""
        return (
            f'<polyline class="curve" clip-path="url(#inside)" stroke="{colour}" '
            f'points="{" ".join(self._points(mean))}"/>'
        )

    def band(self, mean: Array, deviation: Array, colour: str) -> str:
        """Draw the band between mean - deviation and mean + deviation."""
        outline = [*self._points(mean + deviation), *reversed(self._points(mean - deviation))]
        return (
            f'<polygon class="band" clip-path="url(#inside)" fill="{colour}" '
            f'points="{" ".join(outline)}"/>'
        )

    def frame(self, title: str, across: str, up: str) -> Iterator[str]:
        """Draw the grid, its numbers, the title and the names of the axes."""
        yield f'<text class="name" x="{LEFT}" y="20">{escape(title)}</text>'
        for value in np.linspace(self.low, self.high, 6):
            y = self._y(float(value))
            yield f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
            yield (
                f'<text class="dim" text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">'
                f"{value:.2f}</text>"
            )
        for step in np.linspace(0, self.steps, 5):
            x = self._x(float(step))
            yield (
                f'<text class="dim" text-anchor="middle" x="{x:.1f}" y="{BOTTOM + 16}">'
                f"{step:.0f}</text>"
            )
        yield (
            f'<text class="dim" text-anchor="middle" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 36}">'
            f"{escape(across)}</text>"
        )
        yield f'<text class="dim" text-anchor="end" x="{RIGHT}" y="20">{escape(up)}</text>'


def _names(
    means: Mapping[str, Array], curves: Mapping[str, Array], colours: Mapping[str, str]
) -> Iterator[str]:
    """List the methods with their last mean and their number of runs, the best first."""
    best_first = sorted(means, key=lambda name: -float(means[name][-1]))
    for i, name in enumerate(best_first):
        y, runs = TOP + 14 + LINE_HEIGHT * i, len(curves[name])
        yield f'<path class="curve" stroke="{colours[name]}" d="M{RIGHT + 14} {y - 4}h20"/>'
        yield (
            f'<text x="{RIGHT + 40}" y="{y}">{escape(name)} <tspan class="dim">'
            f"{means[name][-1]:.3f}, {runs} run{'s' if runs > 1 else ''}</tspan></text>"
        )
