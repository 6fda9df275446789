"""Curves with bands as SVG, such as the hypervolume of several samplers by evaluations."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import require_package

Array = NDArray[np.float64]

INCHES = (8.0, 4.3)
"""Size of the image."""
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b8794", "#1c2430")
"""Colours of the methods in their order, by Okabe and Ito, for readers with colour-blindness."""
SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "osa-nas", "font.size": 9.0}
"""matplotlib's settings: letters stay letters, and equal curves give equal files."""
MIN_SPAN = 0.1
"""Smallest range of values that the plot shows."""


def curves_svg(curves: Mapping[str, Array], *, title: str, across: str, up: str) -> str:
    """Return the text of an SVG file with the mean of each method and a band of one standard
    deviation around it.

    Each method's values have the shape (runs, steps). A single run has no band. Names are listed by
    the last mean, and the colours follow the mapping's order. The lower edge is the smallest of the
    means after a tenth of the steps. Raises `MissingDependencyError` without matplotlib.
    """
    require_package("matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    means = {name: values.mean(axis=0) for name, values in curves.items()}
    with rc_context(SETTINGS):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.add_subplot(title=title, xlabel=across, ylabel=up)
        axes.set_prop_cycle(color=COLOURS)
        lines = {}
        for name, mean in means.items():
            steps, deviation = np.arange(1, len(mean) + 1), curves[name].std(axis=0)
            runs = f"{len(curves[name])} run{'s' if len(curves[name]) > 1 else ''}"
            (lines[name],) = axes.plot(steps, mean, label=f"{name} {mean[-1]:.3f}, {runs}")
            axes.fill_between(steps, mean - deviation, mean + deviation, alpha=0.13)
        axes.set_ylim(*_range(list(means.values())))
        axes.grid(alpha=0.25)
        best_first = sorted(lines, key=lambda name: -float(means[name][-1]))
        handles = [lines[name] for name in best_first]
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
        file = StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Title": title})
    return file.getvalue()[file.getvalue().index("<svg") :]


def _range(means: list[Array]) -> tuple[float, float]:
    """Return the lower and the upper edge of the plot, in steps of 0.05."""
    early = max(len(mean) for mean in means) // 10
    low = np.floor(min(mean[min(early, len(mean) - 1)] for mean in means) * 20) / 20
    high = np.ceil(max(mean.max() for mean in means) * 20) / 20
    return float(low), float(max(high, low + MIN_SPAN))
