"""The main plots of a study as pictures for papers: front, hypervolume, importance of the choices.

matplotlib draws them from the same contents as the pages. The colours are by Okabe and Ito, for
readers with colour-blindness too. Shapes show the same distinctions as colours.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import combinations
from typing import Any

from nas.core.errors import require_package
from nas.report.contents import Study, contents

FRONT_COLOUR, OTHER_COLOUR = "#0072B2", "#999999"
DOTS_PER_INCH = 300
WIDTH_INCHES, HEIGHT_INCHES = 4.8, 3.4


def pictures(study: Study) -> Mapping[str, bytes]:
    """Draw PNG files by name: `front-X-Y.png`, `hypervolume.png`, `importance-X.png`.

    There is a front for each pair of objectives, with X across. The hypervolume needs references,
    the importance enough trials. Raises `MissingDependencyError` without matplotlib.
    """
    require_package("matplotlib", "report")
    values = contents(study)
    metrics = [objective["metric"] for objective in values["objectives"]]
    files = {f"front-{x}-{y}.png": _front(values, x, y) for y, x in combinations(metrics, 2)}
    if any(volume is not None for volume in values["history"]["hypervolume"]):
        files["hypervolume.png"] = _hypervolume(values)
    for importance in values["importance"]:
        if importance["shares"]:
            files[f"importance-{importance['metric']}.png"] = _importance(importance)
    return files


def _front(values: Mapping[str, Any], x: str, y: str) -> bytes:
    """Draw every trial that has both figures, and over them the front with its 95 % intervals."""
    trials = values["trials"]
    across, up = trials["values"][x], trials["values"][y]
    drawn = [row for row in range(len(across)) if None not in (across[row], up[row])]
    members = [row for row in drawn if trials["front"][row]]
    others = [row for row in drawn if not trials["front"][row]]
    figure, axes = _axes()
    axes.plot(
        [across[row] for row in others],
        [up[row] for row in others],
        linestyle="none",
        marker="o",
        color=OTHER_COLOUR,
        markersize=3,
        label="trials",
    )
    axes.errorbar(
        [across[row] for row in members],
        [up[row] for row in members],
        xerr=_bars(trials, x, members),
        yerr=_bars(trials, y, members),
        linestyle="none",
        elinewidth=0.8,
        marker="D",
        color=FRONT_COLOUR,
        markersize=4,
        label="front",
    )
    for axis, name in ((axes.xaxis, x), (axes.yaxis, y)):
        metric = next(metric for metric in values["metrics"] if metric["name"] == name)
        axis.set_label_text(name.replace("_", " "))
        axis.set_major_formatter(_formatter(metric))
    axes.legend(frameon=False)
    return _png(figure)


def _bars(trials: Mapping[str, Any], name: str, rows: Sequence[int]) -> list[list[float]] | None:
    """Return the lengths of the intervals below and above the values, or None without intervals."""
    if name not in trials["low"]:
        return None
    values, low, high = (trials[part][name] for part in ("values", "low", "high"))
    return [
        [0.0 if low[row] is None else values[row] - low[row] for row in rows],
        [0.0 if high[row] is None else high[row] - values[row] for row in rows],
    ]


def _hypervolume(values: Mapping[str, Any]) -> bytes:
    """Draw the hypervolume up to the number of finished trials, in per cent of the reference box if
    there is one.
    """
    history, box = values["history"], values["summary"]["reference_box"]
    recorded = zip(history["after"], history["hypervolume"], strict=True)
    points = [
        (after, 100 * volume / box if box else volume)
        for after, volume in recorded
        if volume is not None
    ]
    points.append((len(values["trials"]["number"]), points[-1][1]))
    figure, axes = _axes()
    axes.step(*zip(*points, strict=True), where="post", color=FRONT_COLOUR)
    axes.set_xlabel("finished trials")
    axes.set_ylabel("hypervolume [% of the reference box]" if box else "hypervolume")
    axes.set_ylim(bottom=0)
    return _png(figure)


def _importance(importance: Mapping[str, Any]) -> bytes:
    """Draw the choices' shares of the importance for one objective."""
    shares = dict(sorted(importance["shares"].items(), key=lambda item: item[1]))
    metric = importance["metric"].replace("_", " ")
    figure, axes = _axes(height=max(HEIGHT_INCHES, 0.2 * len(shares) + 0.8))
    axes.barh(list(shares), list(shares.values()), color=FRONT_COLOUR)
    axes.set_xlabel(f"importance for {metric} (PED-ANOVA, {importance['trials']} trials)")
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

    if metric["share"]:
        return PercentFormatter(1.0)
    return EngFormatter("" if metric["unit"] == "1" else metric["unit"])


def _png(figure: Any) -> bytes:
    with BytesIO() as file:
        figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
        return file.getvalue()
