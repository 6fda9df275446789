"""Dominance, ranks and hypervolume on arrays of losses of shape (n, m), smaller is better. moocore
does the maths.

Ranks start at 0, the front. Points of equal losses share their rank. Values decide who is on the
front; `standings` says how sure that is, counting a difference only where it is beyond the
intervals (docs/decisions/0008).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.errors import InvalidValueError
from nas.core.study import Objective
from nas.core.trial import Trial, TrialState


def ranks(losses: ArrayLike) -> NDArray[np.int64]:
    """Non-dominated rank of each of n points, shape (n,)."""
    points = np.atleast_2d(np.asarray(losses, dtype=float))
    if points.size == 0:
        return np.zeros(0, dtype=np.int64)
    distinct, index = np.unique(points, axis=0, return_inverse=True)
    return np.asarray(moocore.pareto_rank(distinct), dtype=np.int64)[index.reshape(-1)]


CHUNK = 256
"""Rows of the n x n comparison that are in memory at once."""


def dominators(losses: ArrayLike, others: ArrayLike | None = None) -> NDArray[np.int64]:
    """By how many of `others` (n', m) each of the losses (n, m) is dominated, shape (n,)."""
    points = np.asarray(losses, dtype=float)
    rivals = points if others is None else np.asarray(others, dtype=float)
    count = np.zeros(len(points), dtype=np.int64)
    for start in range(0, len(points), CHUNK):
        here = points[start : start + CHUNK, None, :]  # (chunk, 1, m) against (1, n', m)
        count[start : start + CHUNK] = (
            (rivals <= here).all(axis=2) & (rivals < here).any(axis=2)
        ).sum(axis=1)
    return count


def certainty(low: ArrayLike, high: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who is on the front whatever the true values within the intervals are, and who may be; each
    of shape (n,).

    A point is certain where no other one at its best dominates it at its worst, and possible where
    no other one at its worst dominates it at its best.
    """
    best, worst = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    own = ((best <= worst).all(axis=1) & (best < worst).any(axis=1)).astype(
        np.int64
    )  # a point does not rival itself
    return dominators(worst, best) - own == 0, dominators(best, worst) == 0


def hypervolume(losses: ArrayLike, reference: Sequence[float]) -> float:
    """Volume that the points dominate up to the reference point; points not better than it in all
    count nothing.
    """
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

    `hypervolume` is None where an objective has neither reference nor limit. `after` is the number
    of finished trials. Where no trial is `feasible` the members are the least violating ones.
    """

    members: tuple[int, ...]
    hypervolume: float | None
    after: int
    feasible: bool


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> ParetoFront:
    """The front of these trials. Duplicates of an architecture count once; only complete trials are
    on it.
    """
    finished = [t for t in trials if t.state is not TrialState.RUNNING and t.duplicate_of is None]
    complete = [
        t for t in finished if t.state is TrialState.COMPLETE and t.losses(objectives) is not None
    ]
    feasible = [t for t in complete if t.violation(objectives) == 0]
    if not feasible:
        beyond = [t for t in finished if t.violation(objectives) > 0]
        least = min((t.violation(objectives) for t in beyond), default=0.0)
        members = tuple(t.number for t in beyond if t.violation(objectives) == least)
        return ParetoFront(
            members=members,
            hypervolume=_volume([], objectives),
            after=len(finished),
            feasible=False,
        )
    losses = [t.losses(objectives) or () for t in feasible]
    best = sorted(
        (loss, t.number)
        for loss, t, rank in zip(losses, feasible, ranks(losses), strict=True)
        if rank == 0
    )
    return ParetoFront(
        members=tuple(number for _, number in best),
        hypervolume=_volume([loss for loss, _ in best], objectives),
        after=len(finished),
        feasible=True,
    )


class Standing(StrEnum):
    """How sure it is that a trial is on the front, given the intervals of all."""

    CERTAIN = "certain"
    """Whatever the true values within the intervals are."""
    PROBABLE = "probable"
    """By its values; within the intervals another may dominate it."""
    POSSIBLE = "possible"
    """Another dominates it by its values, none beyond the intervals."""
    DOMINATED = "dominated"


def standings(trials: Sequence[Trial], objectives: Sequence[Objective]) -> dict[int, Standing]:
    """Of every complete and feasible trial its standing, by number; duplicates are left out.

    Whom a member dominates beyond the intervals is not compared with the rest: wherever it could
    make a member uncertain or another trial impossible, that member does it too. Trials that were
    certified together are compared with each other by those figures, with all others by the
    screened ones.
    """
    able = [
        t
        for t in trials
        if t.state is TrialState.COMPLETE
        and t.duplicate_of is None
        and t.violation(objectives) == 0
        and t.losses(objectives) is not None
    ]
    if not able:
        return {}
    ends = np.asarray([t.bounds(objectives) for t in able], dtype=float)  # (n, m, best and worst)
    rank_of = ranks([t.losses(objectives) or () for t in able])
    near = dominators(ends[:, :, 0], ends[rank_of == 0, :, 1]) == 0
    certain, possible = np.zeros((2, len(able)), dtype=bool)
    certain[near], possible[near] = certainty(ends[near, :, 0], ends[near, :, 1])
    alike = _certified_together(able)
    if alike.any():
        again = np.asarray([t.bounds(objectives, certified=True) for t in able], dtype=float)[alike]
        certain[alike], possible[alike] = certainty(again[:, :, 0], again[:, :, 1])
        certain[alike] &= dominators(ends[alike, :, 1], ends[~alike, :, 0]) == 0
        possible[alike] &= dominators(ends[alike, :, 0], ends[~alike, :, 1]) == 0
    found = {}
    for trial, sure, rank, may in zip(able, certain, rank_of, possible, strict=True):
        by_value = (
            Standing.DOMINATED if not may else Standing.PROBABLE if rank == 0 else Standing.POSSIBLE
        )
        found[trial.number] = Standing.CERTAIN if sure else by_value
    return found


def _certified_together(trials: Sequence[Trial]) -> NDArray[np.bool_]:
    """Which trials were certified in the newest session; others cannot be compared with them in its
    seconds.
    """
    sessions = [t.evaluation.certified_in or "" for t in trials]
    newest = max(sessions)
    return np.asarray([bool(newest) and session == newest for session in sessions])


def knee(members: Sequence[Trial], objectives: Sequence[Objective]) -> Trial:
    """The best compromise among the members of a front: the least sum of losses, each scaled to [0,
    1] over them.

    With two objectives it is the point farthest from the line through the two extremes. Raises
    `InvalidValueError` where there are no members.
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
    return (
        hypervolume(np.asarray(losses, dtype=float), reference)
        if len(reference) == len(objectives)
        else None
    )
