"""The front of a recorded study with the standing of every trial.

All trials are compared as columns of figures. Only the members of the front and the certified
trials are loaded, which makes this about as quick for many trials as for a few.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.analysis.posterior import (
    UnbiasedHypervolume,
    averaged_trial,
    posterior_means,
    unbiased_hypervolume,
)
from nas.core.pareto import Intervals, Outcomes, ParetoFront, Standing, front_of, standings_of
from nas.core.stopping import SIZE_METRICS
from nas.core.study import Objective, StudySpec
from nas.core.trial import Trial, TrialState, rungs_after

if TYPE_CHECKING:
    from nas.record import Store
    from nas.record.columns import Columns, Figures

Array = NDArray[np.float64]
Estimates = Mapping[str, Mapping[int, tuple[float, float]]]
"""Posterior mean and half width of its interval, by trained metric and number of the trial."""


@dataclass(frozen=True, kw_only=True)
class StudyFront:
    """The front of a study by posterior means of the trained metrics.

    `members` are its trials with these means, by number. `standings` has every complete and
    feasible trial without duplicates, and `outcomes` every finished one. `unbiased` is None if no
    member of the searched front was trained again.
    """

    front: ParetoFront
    members: Mapping[int, Trial]
    standings: Mapping[int, Standing]
    outcomes: Outcomes
    unbiased: UnbiasedHypervolume | None


def study_front(store: "Store", spec: StudySpec) -> StudyFront:
    """Read the front of a study as it is now."""
    study, objectives = spec.name, spec.objectives
    metrics = {*(objective.key for objective in objectives), *spec.trained_metrics}
    columns = store.columns(study, metrics)
    searched = front_of(_outcomes(columns, objectives), objectives)
    estimates = _estimates(store, spec, columns)
    averaged = _with_means(columns, spec, estimates)
    outcomes = _outcomes(averaged, objectives)
    front = front_of(outcomes, objectives)
    again = searched.members if columns.replicates else ()
    recorded = store.trials(study, {*front.members, *again, *_certified(columns)})
    trials = {trial.number: _averaged(trial, spec, estimates) for trial in recorded}
    return StudyFront(
        front=front,
        members={number: trials[number] for number in front.members},
        standings=_standings(averaged, outcomes, objectives, trials),
        outcomes=outcomes,
        unbiased=unbiased_hypervolume([trial for trial in recorded if trial.number in again], spec),
    )


def standings_among(
    store: "Store", study: str, objectives: Sequence[Objective], numbers: Collection[int]
) -> dict[int, Standing]:
    """Return the standings of these trials among each other, by the search's own trainings."""
    columns = store.columns(study, [objective.key for objective in objectives])
    chosen = np.isin(columns.numbers, np.array(sorted(numbers), dtype=np.int64))
    outcomes = _outcomes(columns, objectives, chosen)
    certified = store.trials(study, set(_certified(columns)) & set(numbers))
    return _standings(columns, outcomes, objectives, {trial.number: trial for trial in certified})


def outcomes_of(store: "Store", study: str, objectives: Sequence[Objective]) -> Outcomes:
    """Return all finished trials without duplicates, with the errors of the search's trainings."""
    columns = store.columns(study, [objective.key for objective in objectives])
    return _outcomes(columns, objectives)


def _outcomes(
    columns: "Columns", objectives: Sequence[Objective], chosen: NDArray[np.bool_] | None = None
) -> Outcomes:
    """Return the finished trials of a study, or the chosen (n,) of them."""
    finished = columns.states != TrialState.RUNNING.value
    rows = finished if chosen is None else finished & chosen
    losses = [
        objective.loss(1.0) * columns.figures[objective.key].value for objective in objectives
    ]
    return Outcomes(
        numbers=columns.numbers[rows],
        complete=columns.states[rows] == TrialState.COMPLETE.value,
        losses=np.stack(losses, axis=1)[rows],
    )


def _certified(columns: "Columns") -> list[int]:
    """Return the numbers of the complete trials that have a certified figure."""
    complete = columns.states == TrialState.COMPLETE.value
    numbers: list[int] = columns.numbers[columns.certified & complete].tolist()
    return numbers


def _standings(
    columns: "Columns",
    outcomes: Outcomes,
    objectives: Sequence[Objective],
    trials: Mapping[int, Trial],
) -> dict[int, Standing]:
    """Return the standings of the comparable trials; `trials` has at least the certified ones."""
    fits = outcomes.comparable(objectives)
    candidates = Outcomes(
        numbers=outcomes.numbers[fits],
        complete=outcomes.complete[fits],
        losses=outcomes.losses[fits],
    )
    rows = np.searchsorted(columns.numbers, candidates.numbers)
    bounds = [_bounds(objective, columns.figures[objective.key], rows) for objective in objectives]
    low, high = np.stack(bounds, axis=2)  # (n, m) each
    certified_low, certified_high = low.copy(), high.copy()
    sessions = [""] * len(rows)
    for index in np.flatnonzero(columns.certified[rows]).tolist():
        trial = trials[int(candidates.numbers[index])]
        ends = np.array(trial.bounds(objectives, certified=True))
        certified_low[index], certified_high[index] = ends.T
        sessions[index] = trial.evaluation.certified_session or ""
    intervals = Intervals(
        low=low,
        high=high,
        certified_low=certified_low,
        certified_high=certified_high,
        sessions=np.array(sessions, dtype=np.str_),
    )
    return standings_of(candidates, intervals)


def _bounds(
    objective: Objective, figures: "Figures", rows: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Return the best and the worst of one loss in these rows, as `Trial.bounds`."""
    columns = np.stack([figures.value, figures.low, figures.high])
    ends = objective.loss(1.0) * columns[:, rows]
    unknown = (figures.noisy & np.isnan(figures.low))[rows]
    low = np.where(unknown, -np.inf, np.fmin.reduce(ends))
    high = np.where(unknown, np.inf, np.fmax.reduce(ends))
    return low, high


def _estimates(store: "Store", spec: StudySpec, columns: "Columns") -> Estimates:
    """Return the posterior means of all complete networks, none without replicates."""
    if not columns.replicates:
        return {}
    sizes = store.columns(spec.name, SIZE_METRICS).figures
    estimates = {name: _estimates_of(name, columns, sizes) for name in spec.trained_metrics}
    return {name: estimate for name, estimate in estimates.items() if estimate}


def _estimates_of(
    metric: str, columns: "Columns", sizes: Mapping[str, "Figures"]
) -> dict[int, tuple[float, float]]:
    """Return the posterior means of one metric, none without replicates that have it."""
    values = columns.figures[metric].value
    complete = columns.states == TrialState.COMPLETE.value
    trained = np.flatnonzero(complete & ~np.isnan(values))
    numbers = columns.numbers[trained].tolist()
    others = [
        [
            rung.metrics[metric]
            for rung in rungs_after(columns.replicates.get(number, ()), epochs)
            if metric in rung.metrics
        ]
        for number, epochs in zip(numbers, columns.epochs[trained].tolist(), strict=True)
    ]
    size_table = np.stack([sizes[name].value[trained] for name in SIZE_METRICS], axis=1)
    posterior = posterior_means(values[trained], others, size_table)
    if posterior is None:
        return {}
    means, halves = (column.tolist() for column in posterior)
    return dict(zip(numbers, zip(means, halves, strict=True), strict=True))


def _with_means(columns: "Columns", spec: StudySpec, estimates: Estimates) -> "Columns":
    """Return the columns with the posterior means and their intervals."""
    figures = dict(columns.figures)
    for name, estimate in estimates.items():
        metric = spec.trained_metrics[name]
        rows = np.searchsorted(columns.numbers, np.array(list(estimate), dtype=np.int64))
        recorded = columns.figures[name]
        value, low, high = recorded.value.copy(), recorded.low.copy(), recorded.high.copy()
        for row, (mean, half) in zip(rows.tolist(), estimate.values(), strict=True):
            value[row] = metric.clip(mean)
            low[row] = metric.clip(value[row] - half)
            high[row] = metric.clip(value[row] + half)
        figures[name] = replace(recorded, value=value, low=low, high=high)
    return replace(columns, figures=figures)


def _averaged(trial: Trial, spec: StudySpec, estimates: Estimates) -> Trial:
    """Return the trial with its posterior means if there are any."""
    for name, estimate in estimates.items():
        if trial.number in estimate:
            trial = averaged_trial(trial, spec.trained_metrics[name], *estimate[trial.number])
    return trial
