"""How trials stand to each other: certain and possible members of the front, who beats whom, who is most alike.

Pure arithmetic on arrays. Losses have shape (n, m), smaller is better; `low` and `high` bound them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search_space import Choice
from nas.trial import Trial

CHUNK = 256
"""Rows of the n x n comparison that are in memory at once."""


def dominators(losses: ArrayLike, others: ArrayLike | None = None) -> NDArray[np.int64]:
    """By how many of `others` (n', m) each of the losses (n, m) is dominated, shape (n,)."""
    points = np.asarray(losses, dtype=float)
    rivals = points if others is None else np.asarray(others, dtype=float)
    count = np.zeros(len(points), dtype=np.int64)
    for start in range(0, len(points), CHUNK):
        here = points[start:start + CHUNK, None, :]  # (chunk, 1, m) against (1, n', m)
        count[start:start + CHUNK] = ((rivals <= here).all(axis=2) & (rivals < here).any(axis=2)).sum(axis=1)
    return count


def certainty(low: ArrayLike, high: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who is on the front whatever the true values within the intervals are, and who may be; each of shape (n,).

    A point is certain where no other one at its best dominates it at its worst, and possible where no other one at
    its worst dominates it at its best.
    """
    best, worst = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    own = ((best <= worst).all(axis=1) & (best < worst).any(axis=1)).astype(np.int64)  # a point does not rival itself
    return dominators(worst, best) - own == 0, dominators(best, worst) == 0


def choices_seen(trials: Sequence[Trial]) -> tuple[Choice, ...]:
    """The choices and values that the record knows; the space itself may be gone, or need code that must not run."""
    values: dict[str, set[int | str | bool]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
    return tuple(Choice(name=name, values=tuple(sorted(found, key=lambda v: (isinstance(v, str), v))))
                 for name, found in values.items())


def positions(trials: Sequence[Trial], choices: Sequence[Choice]) -> NDArray[np.int64]:
    """Each trial's values as positions among the choice's values, shape (n, choices); -1 where it has none."""
    places = [{value: index for index, value in enumerate(choice.values)} for choice in choices]
    return np.asarray([[place.get(trial.params.get(choice.name, ""), -1)
                        for choice, place in zip(choices, places, strict=True)] for trial in trials],
                      dtype=np.int64).reshape(len(trials), len(choices))


def neighbours(places: NDArray[np.int64], choices: Sequence[Choice], number: int) -> NDArray[np.int64]:
    """The `number` most similar others of each point, nearest first, shape (n, at most number).

    The distance is a sum over choices: of ordered values their steps apart as a share of all steps, of others 0 or 1.
    """
    shares = [(places[:, [index]] / max(len(choice.values) - 1, 1)) if choice.ordered
              else (places[:, [index]] == np.arange(len(choice.values))) / 2 for index, choice in enumerate(choices)]
    points = np.hstack(shares).astype(np.float32) if shares else np.zeros((len(places), 1), dtype=np.float32)
    number = max(min(number, len(points) - 1), 0)
    nearest = np.zeros((len(points), number), dtype=np.int64)
    for index, point in enumerate(points):
        distances = np.abs(points - point).sum(axis=1)
        distances[index] = np.inf
        some = np.argpartition(distances, number - 1)[:number] if number else nearest[index]
        nearest[index] = some[np.lexsort((some, distances[some]))]
    return nearest
