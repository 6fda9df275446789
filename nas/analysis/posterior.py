"""Estimates of trained figures from several seeds: posterior means, intervals, selection bias.

A front is selected by one training of each network. It therefore prefers networks whose training
went better than usual, and its hypervolume is biased upwards (winner's curse). Replicates have new
seeds, by which nothing was selected, and so they show the size of this bias.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.core.measurement import Measurement
from nas.core.pareto import ParetoFront, front
from nas.core.stopping import SIZE_METRICS
from nas.core.study import StudySpec, TrainedMetric
from nas.core.trial import Trial, TrialState
from nas.core.units import format_hypervolume

Array = NDArray[np.float64]

CONFIDENCE = 0.95
MIN_NETWORKS = 10
"""Smallest number of networks from which the figure of networks of a size is estimated."""


@dataclass(frozen=True, kw_only=True)
class UnbiasedHypervolume:
    """Hypervolume of the `replicated` among the `members` of a front.

    `searched` is computed from the trainings that the members were selected by, `fresh` from the
    means of their new seeds. Both are None if an objective has no reference. `box` is
    `StudySpec.reference_box`.
    """

    members: int
    replicated: int
    searched: float | None
    fresh: float | None
    box: float | None

    def __str__(self) -> str:
        who = f"{self.replicated} of {self.members} members of the front that was searched"
        if self.searched is None or self.fresh is None:
            return f"{who} have new seeds"
        return (
            f"hypervolume of {who}: {format_hypervolume(self.searched, self.box)} as searched, "
            f"{format_hypervolume(self.fresh, self.box)} by new seeds"
        )


def with_posterior_means(trials: Sequence[Trial], spec: StudySpec) -> list[Trial]:
    """Return the trials with the posterior means over all their seeds at the last rung.

    This holds for complete trials, which were trained for equally long; all others stay as they
    are. Each trained network gets a figure for each trained metric too, with its 95 % interval. The
    deviation of one training is pooled over all replicated networks (Student's t with their degrees
    of freedom), so that a network that was trained once has an interval as well, a wide one.

    With at least `MIN_NETWORKS` networks, the mean of a network's seeds is shrunk towards the value
    that networks of its size have, by the share of the seeds in the scatter around that value
    (empirical Bayes). This removes the selection bias. Without replicates the trials are returned
    unchanged.
    """
    averaged = list(trials)
    for metric in spec.trained or ():
        posterior = _posterior_of(trials, metric)
        for index, trial in enumerate(trials):
            original = trial.number if trial.duplicate_of is None else trial.duplicate_of
            if original in posterior and trial.evaluation.rungs:
                averaged[index] = averaged_trial(averaged[index], metric, *posterior[original])
    return averaged


def _posterior_of(trials: Sequence[Trial], metric: TrainedMetric) -> dict[int, tuple[float, float]]:
    """Return the posterior mean of a metric and the half width of its interval by complete trial.

    Returns nothing for a metric that no network has from two seeds.
    """
    originals = [
        trial
        for trial in trials
        if trial.duplicate_of is None
        and trial.state is TrialState.COMPLETE
        and trial.evaluation.values_of_seeds(metric.name)
    ]
    seeds = [trial.evaluation.values_of_seeds(metric.name) for trial in originals]
    sizes = [[trial.evaluation.value(name) for name in SIZE_METRICS] for trial in originals]
    estimate = posterior_means(
        np.array([values[0] for values in seeds]),
        [values[1:] for values in seeds],
        np.array(sizes, dtype=float),
    )
    if estimate is None:
        return {}
    return {
        trial.number: (float(mean), float(half))
        for trial, mean, half in zip(originals, *estimate, strict=True)
    }


def posterior_means(
    values: Array, others: Sequence[Sequence[float]], sizes: Array
) -> tuple[Array, Array] | None:
    """Return the posterior mean of each network's value and the half width of its interval.

    `values` (n,) of a trained metric are those of the search's own trainings, and `others` those of
    the replicates of each network. `sizes` (n, s) are in the order of `SIZE_METRICS`, NaN for a
    missing one. Both results have the shape (n,). Returns None without replicates.
    """
    freedom = sum(map(len, others))
    if freedom == 0:
        return None
    from scipy.special import stdtrit

    means, counts, squares = values.copy(), np.ones(len(values)), 0.0
    for index, again in enumerate(others):
        if again:
            seeds = np.array([values[index], *again])
            means[index], counts[index] = seeds.mean(), len(seeds)
            squares += float(seeds.var()) * len(seeds)
    means, variances = _posterior(sizes, means, squares / freedom / counts)
    return means, stdtrit(freedom, 0.5 + CONFIDENCE / 2) * np.sqrt(variances)


def _posterior(sizes: Array, means: Array, variances: Array) -> tuple[Array, Array]:
    """Return the posterior mean and variance of each network's value, shape (n,) each.

    `means` and `variances` (n,) are those of the mean over each network's seeds. The prior is a
    regression on the logarithms of the sizes, with the scatter that seeds do not explain.
    """
    if len(sizes) < MIN_NETWORKS or not (sizes > 0).all() or not variances.all():
        return means, variances
    design = np.column_stack([np.ones(len(sizes)), np.log(sizes)])
    basis, strength, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, strength > strength[0] * 1e-9]
    expected = basis @ (basis.T @ means)
    freedom = len(sizes) - basis.shape[1]
    squares = float(((means - expected) ** 2).sum()) / freedom
    scatter = max(squares - float(variances.mean()), 0.0)
    weight = scatter / (scatter + variances)
    expected_variances = (basis**2).sum(axis=1) * (scatter + variances)
    return (
        expected + weight * (means - expected),
        weight * variances + (1 - weight) ** 2 * expected_variances,
    )


def unbiased_hypervolume(trials: Sequence[Trial], spec: StudySpec) -> UnbiasedHypervolume | None:
    """Return the hypervolume of the searched front by new seeds.

    Returns None if none of its members was replicated.
    """
    members = set(front(trials, spec.objectives).members)
    replicated = [
        trial
        for trial in trials
        if trial.number in members and trial.evaluation.finished_replicates
    ]
    if not replicated:
        return None
    by_new_seeds = [_with_metrics(trial, _means_of_replicates(trial)) for trial in replicated]
    return UnbiasedHypervolume(
        members=len(members),
        replicated=len(replicated),
        searched=front(replicated, spec.objectives).hypervolume,
        fresh=front(by_new_seeds, spec.objectives).hypervolume,
        box=spec.reference_box,
    )


def front_now(trials: Iterable[Trial], spec: StudySpec) -> tuple[ParetoFront, dict[int, Trial]]:
    """Return the front by posterior means, and the trials with these means by number."""
    means = with_posterior_means(list(trials), spec)
    return front(means, spec.objectives), {trial.number: trial for trial in means}


def _means_of_replicates(trial: Trial) -> dict[str, float]:
    """Return the means of the trained figures over the new seeds."""
    names = trial.evaluation.rungs[-1].metrics
    seeds = {name: trial.evaluation.values_of_seeds(name)[1:] for name in names}
    return {name: float(np.mean(values)) for name, values in seeds.items() if values}


def averaged_trial(trial: Trial, metric: TrainedMetric, mean: float, half: float) -> Trial:
    """Return the trial with this mean of a metric and this half width of its interval."""
    values, mean = trial.evaluation.values_of_seeds(metric.name), metric.clip(mean)
    figure = Measurement(
        metric=metric.name,
        unit=metric.unit,
        value=mean,
        ci_low=metric.clip(mean - half),
        ci_high=metric.clip(mean + half),
        samples=values,
        method=f"posterior mean of {len(values)} seeds",
    )
    trial = _with_metrics(trial, {metric.name: mean})
    return replace(trial, evaluation=trial.evaluation.with_measurements([figure]))


def _with_metrics(trial: Trial, metrics: Mapping[str, float]) -> Trial:
    """Return the trial with other figures at its last rung."""
    *earlier, last = trial.evaluation.rungs
    rungs = (*earlier, replace(last, metrics={**last.metrics, **metrics}))
    return replace(trial, evaluation=replace(trial.evaluation, rungs=rungs))
