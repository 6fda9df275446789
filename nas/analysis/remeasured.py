"""A front measured again under other conditions: which members remain, and whether order changed.

Errors are those of the study; every other figure was measured or counted again. Only members of the
front are compared. A network outside the front might be on it under the other conditions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from nas.analysis.rank_agreement import kendall_tau
from nas.core.dominance import dominators
from nas.core.measurement import Kind, Measurement
from nas.core.pareto import ParetoFront, Standing, front, standings
from nas.core.study import Objective
from nas.core.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Order:
    """Kendall's tau (b) between the old and the new values of a metric.

    It is taken over the `members` that have both values, and is None for fewer than two of them or
    if all old or all new values are equal.
    """

    metric: str
    tau: float | None
    members: int


@dataclass(frozen=True, kw_only=True)
class RemainingFront:
    """The front of members of another front with new figures.

    `fallen` gives the reason why a member is no longer on it, by trial number.
    """

    front: ParetoFront
    standings: Mapping[int, Standing]
    fallen: Mapping[int, str]

    @classmethod
    def of(cls, trials: Sequence[Trial], objectives: Sequence[Objective]) -> Self:
        """Return the front of these trials. None of them remains if none is within every limit."""
        remaining = front(trials, objectives)
        stays = remaining.members if remaining.feasible else ()
        return cls(
            front=remaining,
            standings=standings(trials, objectives),
            fallen={
                trial.number: _reason_off_front(trial, trials, objectives)
                for trial in trials
                if trial.number not in stays
            },
        )


@dataclass(frozen=True, kw_only=True)
class Remeasured:
    """A front after it was measured again.

    `trials` are its members with the new figures. `fallen` gives the reason why a member is no
    longer on the front, by trial number. `standings` holds how sure each membership is, for the
    members that have every figure and are within the limits.
    """

    trials: tuple[Trial, ...]
    fallen: Mapping[int, str]
    standings: Mapping[int, Standing]
    orders: tuple[Order, ...]


def remeasured(
    members: Sequence[Trial],
    figures: Mapping[int, Sequence[Measurement]],
    objectives: Sequence[Objective],
) -> Remeasured:
    """Compare the members of a front with themselves after the old figures were replaced.

    `figures` are the new ones by trial number.
    """
    trials = tuple(_with_figures(trial, figures[trial.number]) for trial in members)
    remaining = RemainingFront.of(trials, objectives)
    measured = {
        figure.metric
        for of_trial in figures.values()
        for figure in of_trial
        if figure.kind is not Kind.COUNTED
    }
    metrics = [objective.key for objective in objectives if objective.key in measured]
    return Remeasured(
        trials=trials,
        standings=remaining.standings,
        fallen=remaining.fallen,
        orders=tuple(_order(metric, members, trials) for metric in metrics),
    )


def _with_figures(trial: Trial, figures: Sequence[Measurement]) -> Trial:
    measurements = {figure.metric: figure for figure in figures}
    return replace(trial, evaluation=replace(trial.evaluation, measurements=measurements))


def _order(metric: str, before: Sequence[Trial], now: Sequence[Trial]) -> Order:
    values = [
        (old.evaluation.value(metric), new.evaluation.value(metric))
        for old, new in zip(before, now, strict=True)
    ]
    pairs = [(old, new) for old, new in values if old is not None and new is not None]
    tau = kendall_tau([old for old, _ in pairs], [new for _, new in pairs])
    return Order(metric=metric, tau=tau, members=len(pairs))


def _reason_off_front(
    trial: Trial, members: Sequence[Trial], objectives: Sequence[Objective]
) -> str:
    """Return the reason why one of a front's former members is no longer on it."""
    for objective in objectives:
        figure = trial.evaluation.measurements.get(objective.key)
        if figure is not None and figure.problem:
            return figure.problem
    violated = [
        objective.key
        for objective in objectives
        if (value := trial.evaluation.value(objective.key)) is not None
        and objective.violation(value) > 0
    ]
    if violated:
        return f"over the limit of {', '.join(violated)}"
    losses = np.asarray([trial.losses(objectives)], dtype=float)
    rivals = [
        str(rival.number)
        for rival in members
        if rival.violation(objectives) == 0
        and (rival_losses := rival.losses(objectives)) is not None
        and dominators(losses, [rival_losses])[0]
    ]
    return f"dominated by {', '.join(rivals)}"
