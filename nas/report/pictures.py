"""The main plots of a study as pictures for papers: the front, the hypervolume, what the choices
matter.

Drawn by matplotlib from the same contents as the pages. Colours are Okabe and Ito's, which the
colour-blind can tell apart; shapes repeat what they say.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from itertools import combinations
from typing import Any

from nas.core.errors import MissingDependencyError
from nas.report.contents import Study, contents

FRONT, OTHER = "#0072B2", "#999999"
DOTS_PER_INCH = 300
WIDTH_INCHES, HEIGHT_INCHES = 4.8, 3.4


def pictures(study: Study) -> Mapping[str, bytes]:
    """PNG files by name: `front-X-Y.png` for each two objectives, X across; `hypervolume`,
    `importance-X` where known.

    Raises `MissingDependencyError` without matplotlib.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("matplotlib", "report")
    known = contents(study)
    objectives = [objective["metric"] for objective in known["objectives"]]
    found = {f"front-{x}-{y}": _front(known, x, y) for y, x in combinations(objectives, 2)}
    if any(volume is not None for volume in known["history"]["hypervolume"]):
        found["hypervolume"] = _hypervolume(known["history"], len(known["trials"]["number"]))
    found |= {
        f"importance-{each['metric']}": _importance(each)
        for each in known["importance"]
        if each["shares"]
    }
    return {f"{name}.png": picture for name, picture in found.items()}


def _front(known: Mapping[str, Any], x: str, y: str) -> bytes:
    """Every trial that has both figures; members of the front over them, with their 95 %
    intervals.
    """
    trials = known["trials"]
    figure, axes = _axes()
    for member, style in (
        (False, {"marker": "o", "color": OTHER, "markersize": 3, "label": "trials"}),
        (True, {"marker": "D", "color": FRONT, "markersize": 4, "label": "front"}),
    ):
        rows = [
            row
            for row, on in enumerate(trials["front"])
            if on is member
            and trials["values"][x][row] is not None
            and trials["values"][y][row] is not None
        ]
        bars = {"xerr": _bars(trials, x, rows), "yerr": _bars(trials, y, rows)} if member else {}
        axes.errorbar(
            *([trials["values"][name][row] for row in rows] for name in (x, y)),
            **bars,
            elinewidth=0.8,
            linestyle="none",
            **style,
        )
    for axis, name in ((axes.xaxis, x), (axes.yaxis, y)):
        axis.set_label_text(name.replace("_", " "))
        axis.set_major_formatter(
            _formatter(next(metric for metric in known["metrics"] if metric["name"] == name))
        )
    axes.legend(frameon=False)
    return _png(figure)


def _bars(trials: Mapping[str, Any], name: str, rows: Sequence[int]) -> list[list[float]] | None:
    """How far the intervals reach below and above the values; None where the figure has none."""
    if name not in trials["low"]:
        return None
    values, low, high = (trials[part][name] for part in ("values", "low", "high"))
    known = [(values[row], low[row], high[row]) for row in rows]
    return [
        [value - (value if below is None else below) for value, below, _ in known],
        [(value if above is None else above) - value for value, _, above in known],
    ]


def _hypervolume(history: Mapping[str, Any], trials: int) -> bytes:
    """As it grew, up to the last of so many finished trials."""
    known = [
        (after, volume)
        for after, volume in zip(history["after"], history["hypervolume"], strict=True)
        if volume is not None
    ]
    known.append((trials, known[-1][1]))
    figure, axes = _axes()
    axes.step(*zip(*known, strict=True), where="post", color=FRONT)
    axes.set_xlabel("finished trials")
    axes.set_ylabel("hypervolume")
    axes.set_ylim(bottom=0)
    return _png(figure)


def _importance(each: Mapping[str, Any]) -> bytes:
    shares = dict(sorted(each["shares"].items(), key=lambda item: item[1]))
    figure, axes = _axes(height=max(HEIGHT_INCHES, 0.2 * len(shares) + 0.8))
    axes.barh(list(shares), list(shares.values()), color=FRONT)
    axes.set_xlabel(
        f"importance for {each['metric'].replace('_', ' ')} (PED-ANOVA, {each['trials']} trials)"
    )
    return _png(figure)


def _axes(height: float = HEIGHT_INCHES) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _formatter(metric: Mapping[str, Any]) -> Any:
    from matplotlib.ticker import EngFormatter, PercentFormatter

    return (
        PercentFormatter(1.0)
        if metric["share"]
        else EngFormatter("" if metric["unit"] == "1" else metric["unit"])
    )


def _png(figure: Any) -> bytes:
    with BytesIO() as file:
        figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
        return file.getvalue()
