"""Dominance, ranks and hypervolume on arrays of losses of shape (n, m), smaller is better. moocore does the maths.

Ranks start at 0, the front. Points of equal losses share their rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import InvalidValueError
from nas.study import Objective
from nas.trial import Trial, TrialState


def ranks(losses: ArrayLike) -> NDArray[np.int64]:
    """Non-dominated rank of each of n points, shape (n,)."""
    points = np.atleast_2d(np.asarray(losses, dtype=float))
    if points.size == 0:
        return np.zeros(0, dtype=np.int64)
    distinct, index = np.unique(points, axis=0, return_inverse=True)
    return np.asarray(moocore.pareto_rank(distinct), dtype=np.int64)[index.reshape(-1)]


def hypervolume(losses: ArrayLike, reference: Sequence[float]) -> float:
    """Volume that the points dominate up to the reference point; points not better than it in all count nothing."""
    points = np.asarray(losses, dtype=float).reshape(-1, len(reference))
    inside = points[(points < np.asarray(reference)).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - inside.min())
    return float(moocore.hypervolume(inside, ref=np.asarray(reference, dtype=float)))


@dataclass(frozen=True, kw_only=True)
class ParetoFront:
    """The best trials so far: `members` are trial numbers in the order of the first objective.

    `hypervolume` is None where an objective has neither reference nor limit. `after` is the number of finished
    trials. Where no trial is `feasible` the members are the least violating ones.
    """

    members: tuple[int, ...]
    hypervolume: float | None
    after: int
    feasible: bool


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> ParetoFront:
    """The front of these trials. Duplicates of an architecture count once; only complete trials are on it."""
    finished = [t for t in trials if t.state is not TrialState.RUNNING and t.duplicate_of is None]
    complete = [t for t in finished if t.state is TrialState.COMPLETE and t.losses(objectives) is not None]
    feasible = [t for t in complete if t.violation(objectives) == 0]
    if not feasible:
        beyond = [t for t in finished if t.violation(objectives) > 0]
        least = min((t.violation(objectives) for t in beyond), default=0.0)
        members = tuple(t.number for t in beyond if t.violation(objectives) == least)
        return ParetoFront(members=members, hypervolume=_volume([], objectives), after=len(finished), feasible=False)
    losses = [t.losses(objectives) or () for t in feasible]
    best = [(loss, t.number) for loss, t, rank in zip(losses, feasible, ranks(losses), strict=True) if rank == 0]
    return ParetoFront(
        members=tuple(number for _, number in sorted(best)),
        hypervolume=_volume([loss for loss, _ in best], objectives),
        after=len(finished),
        feasible=True,
    )


def knee(members: Sequence[Trial], objectives: Sequence[Objective]) -> Trial:
    """The best compromise among the members of a front: the least sum of losses, each scaled to [0, 1] over them.

    With two objectives it is the point farthest from the line through the two extremes. Raises `InvalidValueError`
    where there are no members.
    """
    if not members:
        raise InvalidValueError("an empty front has no knee")
    losses = np.asarray([trial.losses(objectives) for trial in members], dtype=float)
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    return members[int(scaled.sum(axis=1).argmin())]


def _volume(losses: Sequence[Sequence[float]], objectives: Sequence[Objective]) -> float | None:
    """Hypervolume in the objectives' own units, None without a complete reference point."""
    reference = [o.loss(o.reference) for o in objectives if o.reference is not None]
    return hypervolume(np.asarray(losses, dtype=float), reference) if len(reference) == len(objectives) else None
