"""A study as plotly figures, for notebooks and scripts."""

from collections.abc import Collection, Sequence

import plotly.graph_objects as go

from nas.core.dominance import ranks
from nas.core.study import Objective
from nas.core.trial import Baseline, Evaluated, Trial, TrialState

BLUE, GREY, ORANGE = "#0072b2", "#b0b0b0", "#d55e00"


def front_figure(
    trials: Sequence[Trial],
    members: Collection[int],
    objectives: Sequence[Objective],
    x: str,
    y: str,
    *,
    baselines: Sequence[Baseline] = (),
) -> go.Figure:
    """Draw the metrics `x` and `y` of all complete trials and of the baselines, with 95 %
    intervals.

    `members` are the numbers of the front's trials. If both metrics are objectives, a staircase
    bounds what the front dominates in these two: between two members nothing is known to be
    reached.
    """
    shown = [trial for trial in trials if _is_shown(trial, x, y)]
    front = [trial for trial in shown if trial.number in members]
    others = [trial for trial in shown if trial.number not in members]
    figure = go.Figure(
        layout={
            "xaxis": {"title": {"text": _title(shown, x)}},
            "yaxis": {"title": {"text": _title(shown, y)}},
            "template": "plotly_white",
        }
    )
    figure.add_trace(_points(others, x, y, "dominated", GREY))
    figure.add_trace(_points(front, x, y, "on the front", BLUE))
    wanted = {objective.key: objective for objective in objectives}
    if front and x in wanted and y in wanted:
        figure.add_trace(_staircase(front, wanted[x], wanted[y]))
    if drawn := [each for each in baselines if _has_values(each, x, y)]:
        points = _points(drawn, x, y, "baselines", ORANGE)
        names = [each.name for each in drawn]
        figure.add_trace(points.update(text=names, marker={"symbol": "diamond"}))
    return figure


def hypervolume_figure(history: Sequence[tuple[int, float]]) -> go.Figure:
    """Draw the hypervolume over the number of finished trials, as a staircase."""
    after = [count for count, _ in history]
    volumes = [volume for _, volume in history]
    figure = go.Figure(
        layout={
            "xaxis": {"title": {"text": "finished trials"}},
            "yaxis": {"title": {"text": "hypervolume"}},
            "template": "plotly_white",
        }
    )
    line = {"shape": "hv", "color": BLUE}
    figure.add_trace(go.Scatter(x=after, y=volumes, mode="lines", line=line, name="hypervolume"))
    return figure


def _is_shown(trial: Trial, x: str, y: str) -> bool:
    is_original = trial.state is TrialState.COMPLETE and trial.duplicate_of is None
    return is_original and _has_values(trial, x, y)


def _has_values(network: Evaluated, x: str, y: str) -> bool:
    return None not in {network.evaluation.value(x), network.evaluation.value(y)}


def _points(trials: Sequence[Evaluated], x: str, y: str, name: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[trial.evaluation.value(x) for trial in trials],
        y=[trial.evaluation.value(y) for trial in trials],
        error_x=_bars(trials, x),
        error_y=_bars(trials, y),
        mode="markers",
        marker={"color": colour, "size": 8},
        name=name,
        text=[f"trial {trial.number}" for trial in trials if isinstance(trial, Trial)],
    )


def _bars(trials: Sequence[Evaluated], metric: str) -> dict[str, object]:
    """Error bars up and down to the ends of the 95 % intervals; none where there is no interval."""
    up, down = [], []
    for trial in trials:
        figure = trial.evaluation.measurements.get(metric)
        if figure is None or None in {figure.value, figure.ci_low, figure.ci_high}:
            up.append(0.0)
            down.append(0.0)
        else:
            up.append(float(figure.ci_high or 0.0) - float(figure.value or 0.0))
            down.append(float(figure.value or 0.0) - float(figure.ci_low or 0.0))
    return {"type": "data", "array": up, "arrayminus": down, "thickness": 1}


def _staircase(front: Sequence[Trial], x: Objective, y: Objective) -> go.Scatter:
    """The border of the region that the members dominate in the metrics of `x` and `y`."""
    losses = [
        (
            x.loss(float(trial.evaluation.value(x.key) or 0.0)),
            y.loss(float(trial.evaluation.value(y.key) or 0.0)),
        )
        for trial in front
    ]
    best = sorted(loss for loss, rank in zip(losses, ranks(losses), strict=True) if rank == 0)
    return go.Scatter(
        x=[x.loss(loss) for loss, _ in best],
        y=[y.loss(loss) for _, loss in best],
        mode="lines",
        line={"shape": "hv", "color": BLUE, "dash": "dot"},
        name="front",
    )


def _title(trials: Sequence[Trial], metric: str) -> str:
    """The metric with its unit, as recorded."""
    figures = [trial.evaluation.measurements.get(metric) for trial in trials]
    units = {figure.unit for figure in figures if figure is not None} - {"1"}
    return f"{metric.replace('_', ' ')} [{units.pop()}]" if units else metric.replace("_", " ")
