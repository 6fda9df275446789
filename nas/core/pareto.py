"""Fronts of trials: their members, their hypervolume, their knee, and how sure each membership is.

Values decide which trials are on the front. `standings` adds how sure each membership is: there a
difference counts only if the 95 % intervals do not overlap (docs/decisions/0008).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.dominance import certainty, dominators, hypervolume, nondominated
from nas.core.errors import InvalidValueError
from nas.core.study import Objective
from nas.core.trial import Trial, TrialState

Array = NDArray[np.float64]


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """Finished trials without duplicates as columns, in any order.

    `numbers` (n,) are those of the trials, and `complete` (n,) says which of them are complete.
    `losses` has the shape (n, m), NaN for an objective without a value.
    """

    numbers: NDArray[np.int64]
    complete: NDArray[np.bool_]
    losses: Array

    @classmethod
    def of(cls, trials: Sequence[Trial], objectives: Sequence[Objective]) -> Self:
        """Collect the outcomes of these trials."""
        values = [[t.evaluation.value(o.key) for o in objectives] for t in trials]
        signs = [objective.loss(1.0) for objective in objectives]
        return cls(
            numbers=np.array([t.number for t in trials], dtype=np.int64),
            complete=np.array([t.state is TrialState.COMPLETE for t in trials], dtype=np.bool_),
            losses=np.array(values, dtype=float).reshape(-1, len(objectives)) * signs,
        )

    def violations(self, objectives: Sequence[Objective]) -> Array:
        """Return the sum of the violations of limits of each trial, as `Trial.violation`."""
        total = np.zeros(len(self.numbers))
        for column, objective in zip(self.losses.T, objectives, strict=True):
            if objective.limit is not None:
                over = np.fmax(column - objective.loss(objective.limit), 0.0)
                total += over / (abs(objective.limit) or 1.0)
        return total

    def comparable(self, objectives: Sequence[Objective]) -> NDArray[np.bool_]:
        """Return which trials are complete, feasible and have a value for every objective."""
        valued = ~np.isnan(self.losses).any(axis=1)
        within = self.violations(objectives) == 0
        comparable: NDArray[np.bool_] = self.complete & valued & within
        return comparable


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> ParetoFront:
    """Return the front of these trials.

    Only complete trials are on it, and duplicates of an architecture count once.
    """
    finished = [t for t in trials if t.state is not TrialState.RUNNING and t.duplicate_of is None]
    return front_of(Outcomes.of(finished, objectives), objectives)


def front_of(outcomes: Outcomes, objectives: Sequence[Objective]) -> ParetoFront:
    """Return the front of finished trials that are given as columns."""
    feasible = outcomes.comparable(objectives)
    if not feasible.any():
        return ParetoFront(
            members=_least_violating(outcomes, objectives),
            hypervolume=_volume([], objectives),
            after=len(outcomes.numbers),
            feasible=False,
        )
    numbers, losses = outcomes.numbers[feasible], outcomes.losses[feasible]
    best = np.flatnonzero(nondominated(losses))
    order = best[np.lexsort((numbers[best], *losses[best].T[::-1]))]
    return ParetoFront(
        members=tuple(numbers[order].tolist()),
        hypervolume=_volume(losses[order], objectives),
        after=len(outcomes.numbers),
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """The ends of the 95 % intervals of trials as columns.

    `low` and `high` (n, m) are the best and the worst of each loss, see `Trial.bounds`.
    `certified_low` and `certified_high` are those with certified figures. `sessions` (n,) name the
    sessions of the certified figures, and are empty texts for trials without such figures.
    """

    low: Array
    high: Array
    certified_low: Array
    certified_high: Array
    sessions: NDArray[np.str_]

    @classmethod
    def of(cls, trials: Sequence[Trial], objectives: Sequence[Objective]) -> Self:
        """Collect the intervals of trials that have a value for every objective."""
        screened, certified = (
            np.asarray(
                [t.bounds(objectives, certified=certified) for t in trials], dtype=float
            ).reshape(-1, len(objectives), 2)
            for certified in (False, True)
        )
        return cls(
            low=screened[:, :, 0],
            high=screened[:, :, 1],
            certified_low=certified[:, :, 0],
            certified_high=certified[:, :, 1],
            sessions=np.asarray([t.evaluation.certified_session or "" for t in trials], np.str_),
        )


def standings(trials: Sequence[Trial], objectives: Sequence[Objective]) -> dict[int, Standing]:
    """Return the standing of every complete and feasible trial by number, without duplicates.

    Trials that were certified in one session are compared with each other by their certified
    figures, and with all others by the screened figures.
    """
    originals = [trial for trial in trials if trial.duplicate_of is None]
    feasible = Outcomes.of(originals, objectives).comparable(objectives)
    candidates = [trial for trial, fits in zip(originals, feasible, strict=True) if fits]
    return standings_of(Outcomes.of(candidates, objectives), Intervals.of(candidates, objectives))


def standings_of(candidates: Outcomes, intervals: Intervals) -> dict[int, Standing]:
    """Return the standing of complete and feasible trials that are given as columns.

    Trials that a front member dominates even at the worst end of its interval are skipped: that
    member already accounts for their effect.
    """
    low, high, sessions = intervals.low, intervals.high, intervals.sessions
    on_front = nondominated(candidates.losses)
    near = dominators(low, high[on_front]) == 0
    certain, possible = np.zeros((2, len(on_front)), dtype=np.bool_)
    certain[near], possible[near] = certainty(low[near], high[near])
    together = (sessions != "") & (sessions == max(sessions, default=""))
    if together.any():
        certain[together], possible[together] = certainty(
            intervals.certified_low[together], intervals.certified_high[together]
        )
        certain[together] &= dominators(high[together], low[~together]) == 0
        possible[together] &= dominators(low[together], high[~together]) == 0
    numbers = candidates.numbers.tolist()
    return {
        number: _standing(certain=sure, possible=may, on_front=member)
        for number, sure, may, member in zip(
            numbers, certain.tolist(), possible.tolist(), on_front.tolist(), strict=True
        )
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


def _least_violating(outcomes: Outcomes, objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Return the numbers of the infeasible trials that violate the limits least."""
    violations = outcomes.violations(objectives)
    least = min(violations[violations > 0], default=None)
    return tuple(outcomes.numbers[violations == least].tolist()) if least is not None else ()


def _standing(*, certain: bool, possible: bool, on_front: bool) -> Standing:
    if certain:
        return Standing.CERTAIN
    if not possible:
        return Standing.DOMINATED
    return Standing.PROBABLE if on_front else Standing.POSSIBLE


def _volume(losses: ArrayLike, objectives: Sequence[Objective]) -> float | None:
    """Return the hypervolume in the objectives' units, None without a complete reference point."""
    reference = [o.loss(o.reference) for o in objectives if o.reference is not None]
    if len(reference) < len(objectives):
        return None
    return hypervolume(np.asarray(losses, dtype=float), reference)
