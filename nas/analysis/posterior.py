"""Estimates of errors from several seeds: posterior means, their intervals, and selection bias.

A front is selected by one training of each network. It therefore prefers networks whose training
went better than usual, and its hypervolume is biased upwards (winner's curse). Replicates have new
seeds, by which nothing was selected, and so they show the size of this bias.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.core.measurement import Measurement
from nas.core.pareto import ParetoFront, front
from nas.core.stopping import SIZE_METRICS
from nas.core.study import Objective
from nas.core.trial import Trial

Array = NDArray[np.float64]

CONFIDENCE = 0.95
MIN_NETWORKS = 10
"""Smallest number of networks from which the error of networks of a size is estimated."""


@dataclass(frozen=True, kw_only=True)
class UnbiasedHypervolume:
    """Hypervolume of the `replicated` among the `members` of a front.

    `searched` is computed from the trainings that the members were selected by, `fresh` from the
    mean errors of their new seeds. Both are None if an objective has no reference.
    """

    members: int
    replicated: int
    searched: float | None
    fresh: float | None

    def __str__(self) -> str:
        who = f"{self.replicated} of {self.members} members of the front that was searched"
        if self.searched is None or self.fresh is None:
            return f"{who} have new seeds"
        return (
            f"hypervolume of {who}: {self.searched:.5g} as searched, {self.fresh:.5g} by new seeds"
        )


def with_posterior_means(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials with the posterior mean over all their seeds as error of the last rung.

    Each trained trial gets a figure `error` too, with its 95 % interval. The deviation of one
    training is pooled over all replicated networks (Student's t with their degrees of freedom), so
    that a network that was trained once has an interval as well, a wide one.

    With at least `MIN_NETWORKS` networks, the mean of a network's seeds is shrunk towards the error
    that networks of its size have, by the share of the seeds in the scatter around that error
    (empirical Bayes). This removes the selection bias. Without replicates the trials are returned
    unchanged.
    """
    originals = [trial for trial in trials if trial.evaluation.rungs and trial.duplicate_of is None]
    sizes = [[trial.evaluation.value(name) for name in SIZE_METRICS] for trial in originals]
    estimate = posterior_errors(
        np.array([trial.evaluation.rungs[-1].error for trial in originals]),
        [trial.evaluation.replicate_errors() for trial in originals],
        np.array(sizes, dtype=float),
    )
    if estimate is None:
        return list(trials)
    posterior = {
        trial.number: (float(mean), float(half))
        for trial, mean, half in zip(originals, *estimate, strict=True)
    }
    averaged = []
    for trial in trials:
        original = trial.number if trial.duplicate_of is None else trial.duplicate_of
        if original in posterior and trial.evaluation.rungs:
            averaged.append(averaged_trial(trial, *posterior[original]))
        else:
            averaged.append(trial)
    return averaged


def posterior_errors(
    errors: Array, others: Sequence[Sequence[float]], sizes: Array
) -> tuple[Array, Array] | None:
    """Return the posterior mean of each network's error and the half width of its interval.

    `errors` (n,) are those of the search's own trainings, and `others` those of the replicates of
    each network. `sizes` (n, s) are in the order of `SIZE_METRICS`, NaN for a missing one. Both
    results have the shape (n,). Returns None without replicates.
    """
    freedom = sum(map(len, others))
    if freedom == 0:
        return None
    from scipy.special import stdtrit

    means, counts, squares = errors.copy(), np.ones(len(errors)), 0.0
    for index, again in enumerate(others):
        if again:
            seeds = np.array([errors[index], *again])
            means[index], counts[index] = seeds.mean(), len(seeds)
            squares += float(seeds.var()) * len(seeds)
    means, variances = _posterior(sizes, means, squares / freedom / counts)
    return means, stdtrit(freedom, 0.5 + CONFIDENCE / 2) * np.sqrt(variances)


def _posterior(sizes: Array, means: Array, variances: Array) -> tuple[Array, Array]:
    """Return the posterior mean and variance of each network's error, shape (n,) each.

    `means` and `variances` (n,) are those of the mean over each network's seeds. The prior is a
    regression on the logarithms of the sizes, with the scatter that seeds do not explain.
    """
    if len(sizes) < MIN_NETWORKS or not (sizes > 0).all() or not variances.all():
        return means, variances
    design = np.column_stack([np.ones(len(sizes)), np.log(sizes)])
    basis, strength, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, strength > strength[0] * 1e-9]
    expected = basis @ (basis.T @ means)
    squares = float(((means - expected) ** 2).sum()) / (len(sizes) - basis.shape[1])
    scatter = max(squares - float(variances.mean()), 0.0)
    weight = scatter / (scatter + variances)
    expected_variances = (basis**2).sum(axis=1) * (scatter + variances)
    return (
        expected + weight * (means - expected),
        weight * variances + (1 - weight) ** 2 * expected_variances,
    )


def unbiased_hypervolume(
    trials: Sequence[Trial], objectives: Sequence[Objective]
) -> UnbiasedHypervolume | None:
    """Return the hypervolume of the searched front by new seeds.

    Returns None if none of its members was replicated.
    """
    members = set(front(trials, objectives).members)
    replicated = [
        trial for trial in trials if trial.number in members and trial.evaluation.replicate_errors()
    ]
    if not replicated:
        return None
    by_new_seeds = [
        _with_error(trial, float(np.mean(trial.evaluation.replicate_errors())))
        for trial in replicated
    ]
    return UnbiasedHypervolume(
        members=len(members),
        replicated=len(replicated),
        searched=front(replicated, objectives).hypervolume,
        fresh=front(by_new_seeds, objectives).hypervolume,
    )


def front_now(
    trials: Iterable[Trial], objectives: Sequence[Objective]
) -> tuple[ParetoFront, dict[int, Trial]]:
    """Return the front by posterior means, and the trials with these means by number."""
    means = with_posterior_means(list(trials))
    return front(means, objectives), {trial.number: trial for trial in means}


def averaged_trial(trial: Trial, mean: float, half: float) -> Trial:
    """Return the trial with this mean error and this half width of its interval."""
    errors = (trial.evaluation.rungs[-1].error, *trial.evaluation.replicate_errors())
    mean = min(max(mean, 0.0), 1.0)
    figure = Measurement(
        metric="error",
        unit="1",
        value=mean,
        ci_low=max(mean - half, 0.0),
        ci_high=min(mean + half, 1.0),
        samples=errors,
        method=f"posterior mean of {len(errors)} seeds",
    )
    trial = _with_error(trial, mean)
    return replace(trial, evaluation=trial.evaluation.with_measurements([figure]))


def _with_error(trial: Trial, error: float) -> Trial:
    """Return the trial with another error at its last rung."""
    *earlier, last = trial.evaluation.rungs
    rungs = (*earlier, replace(last, error=error))
    return replace(trial, evaluation=replace(trial.evaluation, rungs=rungs))
