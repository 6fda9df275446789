"""A front measured again under other conditions: which members stay, and whether the order is the
same.

Accuracy is the study's; whatever else the front is made of was measured or counted again. Only
members are compared: a network that is on the front there but was none here is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.analysis.rank_agreement import kendall_tau
from nas.core.dominance import dominators
from nas.core.measurement import Kind, Measurement
from nas.core.pareto import Standing, front, standings
from nas.core.study import Objective
from nas.core.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Order:
    """Kendall's tau (b) between a metric's values before and now over the `members` that have both;
    None where all values are the same or fewer than two.
    """

    metric: str
    tau: float | None
    members: int


@dataclass(frozen=True, kw_only=True)
class Remeasured:
    """What became of a front. `trials` are its members with the new figures; `fallen` says why some
    are no longer on it; `standings` says how sure all that is, of those that have every figure and
    are within the limits.
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
    """The members of a front with the new figures of each, by its number, in the place of the old
    ones.
    """
    again = tuple(_with(trial, figures[trial.number]) for trial in members)
    found = front(again, objectives)
    staying = found.members if found.feasible else ()
    metrics = [
        o.metric
        for o in objectives
        if any(
            m.metric == o.metric and m.kind is not Kind.COUNTED
            for each in figures.values()
            for m in each
        )
    ]
    return Remeasured(
        trials=again,
        standings=standings(again, objectives),
        fallen={t.number: _why(t, again, objectives) for t in again if t.number not in staying},
        orders=tuple(_order(metric, members, again) for metric in metrics),
    )


def _with(trial: Trial, figures: Sequence[Measurement]) -> Trial:
    known = {figure.metric: figure for figure in figures}
    return replace(trial, evaluation=replace(trial.evaluation, measurements=known))


def _order(metric: str, before: Sequence[Trial], now: Sequence[Trial]) -> Order:
    pairs = [
        (old, new)
        for a, b in zip(before, now, strict=True)
        if (old := a.evaluation.value(metric)) is not None
        and (new := b.evaluation.value(metric)) is not None
    ]
    tau = kendall_tau([old for old, _ in pairs], [new for _, new in pairs])
    return Order(metric=metric, tau=tau, members=len(pairs))


def _why(trial: Trial, again: Sequence[Trial], objectives: Sequence[Objective]) -> str:
    """Why a trial is not on the front any more."""
    without = [m for m in trial.evaluation.measurements.values() if m.value is None]
    if without:
        return f"{without[0].metric} is {without[0].status}: {without[0].reason}"
    beyond = [
        o.metric
        for o in objectives
        if (value := trial.evaluation.value(o.metric)) is not None and o.violation(value) > 0
    ]
    if beyond:
        return f"beyond the limit of {', '.join(beyond)}"
    own = np.asarray([trial.losses(objectives)], dtype=float)
    rivals = [
        t.number
        for t in again
        if t.violation(objectives) == 0
        and (losses := t.losses(objectives)) is not None
        and dominators(own, [losses])[0]
    ]
    return f"dominated by {', '.join(map(str, rivals))}"
