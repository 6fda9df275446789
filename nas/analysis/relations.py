"""Which trials are most alike, by the choices that the record knows. Pure arithmetic on arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core.search_space import Choice, Value
from nas.core.trial import Trial


def choices_seen(trials: Sequence[Trial]) -> tuple[Choice, ...]:
    """The choices and values that the record knows; the space itself may be gone, or need code that
    must not run.
    """
    values: dict[str, set[Value]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
    return tuple(
        Choice(name=name, values=tuple(sorted(found, key=lambda v: (isinstance(v, str), v))))
        for name, found in values.items()
    )


def positions(trials: Sequence[Trial], choices: Sequence[Choice]) -> NDArray[np.int64]:
    """Each trial's values as positions among the choice's values, shape (n, choices); -1 where it
    has none.
    """
    places = [{value: index for index, value in enumerate(choice.values)} for choice in choices]
    return np.asarray(
        [
            [
                place.get(trial.params.get(choice.name, ""), -1)
                for choice, place in zip(choices, places, strict=True)
            ]
            for trial in trials
        ],
        dtype=np.int64,
    ).reshape(len(trials), len(choices))


def neighbours(
    places: NDArray[np.int64], choices: Sequence[Choice], number: int
) -> NDArray[np.int64]:
    """The `number` most similar others of each point, nearest first, shape (n, at most number).

    The distance is a sum over choices: of ordered values their steps apart as a share of all steps,
    of others 0 or 1.
    """
    shares = [
        (places[:, [index]] / max(len(choice.values) - 1, 1))
        if choice.ordered
        else (places[:, [index]] == np.arange(len(choice.values))) / 2
        for index, choice in enumerate(choices)
    ]
    points = (
        np.hstack(shares).astype(np.float32)
        if shares
        else np.zeros((len(places), 1), dtype=np.float32)
    )
    number = max(min(number, len(points) - 1), 0)
    nearest = np.zeros((len(points), number), dtype=np.int64)
    for index, point in enumerate(points):
        distances = np.abs(points - point).sum(axis=1)
        distances[index] = np.inf
        some = np.argpartition(distances, number - 1)[:number] if number else nearest[index]
        nearest[index] = some[np.lexsort((some, distances[some]))]
    return nearest
