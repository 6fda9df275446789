"""The front of a study as a small plot of characters, for the end of a search on a terminal."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from nas.core.pareto import Outcomes
from nas.core.study import StudySpec
from nas.core.units import format_quantity

WIDTH, HEIGHT = 56, 12
"""Columns and rows of the area for points."""
MEMBER, OTHER = "●", "·"


def terminal_plot(
    outcomes: Outcomes,
    members: Collection[int],
    spec: StudySpec,
    units: Mapping[str, str],
    *,
    width: int = 80,
) -> list[str]:
    """Draw the first objective upwards over the second one, each from its best to its worst value.

    The front's `members` are dots, other complete trials small points; if several fall on one
    character, a member is shown. `units` are by metric. No line has more than `width` characters.
    Returns nothing for fewer than two objectives or two trials, or for a width without room.
    """
    if len(spec.objectives) < 2:
        return []
    signs = [objective.loss(1.0) for objective in spec.objectives[:2]]
    values = outcomes.losses[:, :2] * signs
    shown = outcomes.complete & ~np.isnan(values).any(axis=1)
    if shown.sum() < 2:
        return []
    heights, widths = values[shown].T
    y, x = (objective.key for objective in spec.objectives[:2])
    bottom, top = _ends(heights, units.get(y, "1"), share=spec.is_share(y))
    left, right = _ends(widths, units.get(x, "1"), share=spec.is_share(x))
    labels = [top, *[""] * (HEIGHT - 2), bottom]
    margin = max(map(len, labels))
    indent = f"  {'':>{margin}}  "
    area = min(WIDTH, width - len(indent))
    if area <= len(left) + len(right):
        return []
    columns, rows = _places(widths, area), _places(heights, HEIGHT)
    is_member = np.isin(outcomes.numbers[shown], list(members))
    cells = [[" "] * area for _ in range(HEIGHT)]
    for index in np.argsort(is_member, kind="stable"):
        cells[HEIGHT - 1 - rows[index]][columns[index]] = MEMBER if is_member[index] else OTHER
    lines = [f"  {y}"]
    lines += [
        f"  {label:>{margin}} │{''.join(row)}" for label, row in zip(labels, cells, strict=True)
    ]
    lines.append(f"  {'':>{margin}} └{'─' * area}")
    lines.append(f"{indent}{left}{right:>{area - len(left)}}")
    legend = f"{MEMBER} on the front  {OTHER} other trials"
    title = f"{indent}{x}   {legend}"
    lines += [title] if len(title) <= width else [f"{indent}{x}", f"  {legend}"]
    return lines if max(map(len, lines)) <= width else []


def _places(values: NDArray[np.float64], cells: int) -> list[int]:
    """Return the cell of each value, from 0 for the lowest to the last for the highest."""
    low, high = values.min(), values.max()
    places = (values - low) / ((high - low) or 1.0) * cells
    return [min(int(place), cells - 1) for place in places]


def _ends(values: NDArray[np.float64], unit: str, *, share: bool) -> tuple[str, str]:
    """Return the lowest and the highest value with their unit."""
    low, high = (
        format_quantity(float(value), unit, share=share) for value in (values.min(), values.max())
    )
    return low, high
