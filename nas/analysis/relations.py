"""Similarity of trials by their recorded choices: pure arithmetic on arrays."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core.search_space import Choice, Params, Value


def choices_seen(params: Iterable[Params]) -> tuple[Choice, ...]:
    """Return the choices and values that occur in these params of trials.

    The space itself may be missing, or may need code that must not run.
    """
    values: dict[str, set[Value]] = {}
    for each in params:
        for name, value in each.items():
            values.setdefault(name, set()).add(value)
    return tuple(
        Choice(name=name, values=tuple(sorted(seen, key=_numbers_first)))
        for name, seen in values.items()
    )


def _numbers_first(value: Value) -> tuple[bool, Value]:
    return isinstance(value, str), value


def positions(params: Sequence[Params], choices: Sequence[Choice]) -> NDArray[np.int64]:
    """Return the positions of the params' values among the values of each choice.

    The shape is (n, choices); a missing value has the position -1.
    """
    columns = []
    for choice in choices:
        index = {value: position for position, value in enumerate(choice.values)}
        columns.append([index.get(each.get(choice.name, ""), -1) for each in params])
    return np.asarray(columns, dtype=np.int64).reshape(len(choices), len(params)).T


def neighbours(
    places: NDArray[np.int64],
    choices: Sequence[Choice],
    number: int,
    of: Sequence[int] | None = None,
) -> NDArray[np.int64]:
    """Return the `number` most similar other points of each point, nearest first.

    `places` are `positions` of n points, and `of` the k points whose neighbours are returned, all
    of them by default. The result has the shape (k, at most `number`). The distance is a sum over
    the choices. An ordered choice adds the steps between the values as a share of all its steps;
    any other choice adds 0 for equal values and 1 for different ones.
    """
    columns = []
    for index, choice in enumerate(choices):
        place = places[:, [index]]
        if choice.ordered:
            columns.append(place / max(len(choice.values) - 1, 1))
        else:
            columns.append((place == np.arange(len(choice.values))) / 2)
    points = np.hstack(columns or [np.zeros((len(places), 1))]).astype(np.float32)
    number = max(min(number, len(points) - 1), 0)
    wanted = range(len(points)) if of is None else of
    nearest = np.zeros((len(wanted), number), dtype=np.int64)
    if not number:
        return nearest
    for row, index in enumerate(wanted):
        distances = np.abs(points - points[index]).sum(axis=1)
        distances[index] = np.inf
        closest = np.argpartition(distances, number - 1)[:number]
        nearest[row] = closest[np.lexsort((closest, distances[closest]))]
    return nearest
