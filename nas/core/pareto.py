"""Fronts of trials: their members, their hypervolume, their knee, and how sure each membership is.

Values decide which trials are on the front. `standings` adds how sure each membership is: there a
difference counts only if the 95 % intervals do not overlap (docs/decisions/0008).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from nas.core.dominance import certainty, dominators, hypervolume, ranks
from nas.core.errors import InvalidValueError
from nas.core.study import Objective
from nas.core.trial import Trial, TrialState


@dataclass(frozen=True, kw_only=True)
class ParetoFront:
    """The best trials so far: `members` are trial numbers in the order of the first objective.

    `hypervolume` is None if an objective has neither a reference nor a limit. `after` is the number
    of finished trials. If no trial is feasible, `feasible` is False and the members are the trials
    that violate the limits least.
    """

    members: tuple[int, ...]
    hypervolume: float | None
    after: int
    feasible: bool


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> ParetoFront:
    """Return the front of these trials.

    Only complete trials are on it, and duplicates of an architecture count once.
    """
    finished = [t for t in trials if t.state is not TrialState.RUNNING and t.duplicate_of is None]
    feasible = _comparable(finished, objectives)
    if not feasible:
        return ParetoFront(
            members=_least_violating(finished, objectives),
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
    """Certainty that a trial is on the front, given the 95 % intervals of all trials."""

    CERTAIN = "certain"
    """It is on the front for all values within the intervals."""
    PROBABLE = "probable"
    """It is on the front by its values, but within the intervals another trial may dominate it."""
    POSSIBLE = "possible"
    """Another trial dominates it by the values, but none does for all values in the intervals."""
    DOMINATED = "dominated"
    """Another trial dominates it for all values within the intervals."""


def standings(trials: Sequence[Trial], objectives: Sequence[Objective]) -> dict[int, Standing]:
    """Return the standing of every complete and feasible trial by number, without duplicates.

    Trials that a front member dominates even at the worst end of its interval are skipped: that
    member already accounts for their effect. Trials that were certified in one session are compared
    with each other by their certified figures, and with all others by the screened figures.
    """
    candidates = _comparable([t for t in trials if t.duplicate_of is None], objectives)
    if not candidates:
        return {}
    bounds = np.asarray([t.bounds(objectives) for t in candidates], dtype=float)
    low, high = bounds[:, :, 0], bounds[:, :, 1]  # (n, m) each
    rank_of = ranks([t.losses(objectives) or () for t in candidates])
    near = dominators(low, high[rank_of == 0]) == 0
    certain, possible = np.zeros((2, len(candidates)), dtype=bool)
    certain[near], possible[near] = certainty(low[near], high[near])
    together = _certified_together(candidates)
    if together.any():
        certified = [t.bounds(objectives, certified=True) for t in candidates]
        chosen = np.asarray(certified, dtype=float)[together]
        certain[together], possible[together] = certainty(chosen[:, :, 0], chosen[:, :, 1])
        certain[together] &= dominators(high[together], low[~together]) == 0
        possible[together] &= dominators(low[together], high[~together]) == 0
    return {
        trial.number: _standing(certain=sure, possible=may, on_front=rank == 0)
        for trial, sure, may, rank in zip(candidates, certain, possible, rank_of, strict=True)
    }


def knee(members: Sequence[Trial], objectives: Sequence[Objective]) -> Trial:
    """Return the best compromise of a front: the member with the least sum of scaled losses.

    Each loss is scaled to [0, 1] over the members. With two objectives the knee is the point
    farthest from the line through the two extremes. Raises `InvalidValueError` if there are no
    members.
    """
    if not members:
        raise InvalidValueError("an empty front has no knee")
    losses = np.asarray([trial.losses(objectives) for trial in members], dtype=float)
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    return members[int(scaled.sum(axis=1).argmin())]


def _comparable(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return the complete and feasible trials that have a value for every objective."""
    return [
        trial
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and trial.violation(objectives) == 0
        and trial.losses(objectives) is not None
    ]


def _least_violating(trials: Sequence[Trial], objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Return the numbers of the infeasible trials that violate the limits least."""
    violations = {trial.number: trial.violation(objectives) for trial in trials}
    least = min((violation for violation in violations.values() if violation > 0), default=None)
    return tuple(number for number, violation in violations.items() if violation == least)


def _standing(*, certain: bool, possible: bool, on_front: bool) -> Standing:
    if certain:
        return Standing.CERTAIN
    if not possible:
        return Standing.DOMINATED
    return Standing.PROBABLE if on_front else Standing.POSSIBLE


def _certified_together(trials: Sequence[Trial]) -> NDArray[np.bool_]:
    """Return which trials were certified in the newest session, shape (n,).

    Certified latencies of different sessions cannot be compared with each other.
    """
    sessions = [t.evaluation.certified_session or "" for t in trials]
    newest = max(sessions)
    return np.asarray([bool(newest) and session == newest for session in sessions])


def _volume(losses: Sequence[Sequence[float]], objectives: Sequence[Objective]) -> float | None:
    """Return the hypervolume in the objectives' units, None without a complete reference point."""
    reference = [o.loss(o.reference) for o in objectives if o.reference is not None]
    if len(reference) < len(objectives):
        return None
    return hypervolume(np.asarray(losses, dtype=float), reference)
