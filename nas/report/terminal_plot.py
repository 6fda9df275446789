"""The front of a study as a small plot of characters, for the end of a search on a terminal."""

from collections.abc import Collection, Sequence

from nas.core.study import Objective
from nas.core.trial import Trial, TrialState
from nas.core.units import format_quantity

WIDTH, HEIGHT = 56, 12
"""Columns and rows of the area for points."""
MEMBER, OTHER = "●", "·"


def terminal_plot(
    trials: Sequence[Trial], members: Collection[int], objectives: Sequence[Objective]
) -> list[str]:
    """Draw the first objective upwards over the second one, each from its best to its worst value.

    The front's `members` are dots, other complete trials small points; if several fall on one
    character, a member is shown. Returns nothing for fewer than two objectives or two trials.
    """
    if len(objectives) < 2:
        return []
    y, x = objectives[:2]
    shown = [trial for trial in trials if _is_shown(trial, x, y)]
    if len(shown) < 2:
        return []
    columns = _places([_value(trial, x) for trial in shown], WIDTH)
    rows = _places([_value(trial, y) for trial in shown], HEIGHT)
    cells = [[" "] * WIDTH for _ in range(HEIGHT)]
    order = sorted(range(len(shown)), key=lambda index: shown[index].number in members)
    for index in order:
        is_member = shown[index].number in members
        cells[HEIGHT - 1 - rows[index]][columns[index]] = MEMBER if is_member else OTHER
    labels = _labels(shown, y, HEIGHT)
    margin = max(map(len, labels))
    low, high = _ends(shown, x)
    lines = [f"  {y.metric}"]
    lines += [
        f"  {label:>{margin}} │{''.join(row)}" for label, row in zip(labels, cells, strict=True)
    ]
    lines.append(f"  {'':>{margin}} └{'─' * WIDTH}")
    title = f"{x.metric}   {MEMBER} on the front  {OTHER} other trials"
    lines.append(f"  {'':>{margin}}  {low}{high:>{WIDTH - len(low)}}")
    lines.append(f"  {'':>{margin}}  {title}")
    return lines


def _is_shown(trial: Trial, x: Objective, y: Objective) -> bool:
    values = (trial.evaluation.value(x.metric), trial.evaluation.value(y.metric))
    return trial.state is TrialState.COMPLETE and trial.duplicate_of is None and None not in values


def _value(trial: Trial, objective: Objective) -> float:
    return float(trial.evaluation.value(objective.metric) or 0.0)


def _places(values: Sequence[float], cells: int) -> list[int]:
    """Return the cell of each value, from 0 for the lowest to the last for the highest."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return [min(int((value - low) / span * cells), cells - 1) for value in values]


def _labels(shown: Sequence[Trial], objective: Objective, rows: int) -> list[str]:
    """Return the labels of the rows: the highest value above, the lowest below."""
    low, high = _ends(shown, objective)
    return [high, *[""] * (rows - 2), low]


def _ends(shown: Sequence[Trial], objective: Objective) -> tuple[str, str]:
    """Return the lowest and the highest value with their unit."""
    values = [_value(trial, objective) for trial in shown]
    figure = shown[0].evaluation.measurements.get(objective.metric)
    unit = figure.unit if figure else "1"
    low, high = (
        format_quantity(value, unit, metric=objective.metric)
        for value in (min(values), max(values))
    )
    return low, high
