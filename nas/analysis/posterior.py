"""What other seeds say of a front: means instead of single trainings, how sure they are, and what
was luck.

A front is chosen by one training of each network, so it holds those that were lucky: its own
hypervolume is too good. Replicates say by how much, because nothing was chosen by them.
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
"""Networks from which what others of a size have can be told."""


@dataclass(frozen=True, kw_only=True)
class UnbiasedHypervolume:
    """Hypervolume of the `replicated` among the `members` of a front: by the trainings that they
    were chosen by, and by the means of their fresh seeds. None where an objective has no reference.
    """

    members: int
    replicated: int
    searched: float | None
    fresh: float | None

    def __str__(self) -> str:
        who = f"{self.replicated} of {self.members} members of the front that was searched"
        if self.searched is None or self.fresh is None:
            return f"{who} have fresh seeds"
        return f"hypervolume of {who}: {self.searched:.5g} as searched, {self.fresh:.5g} by fresh seeds"


def with_posterior_means(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with the posterior mean over all their seeds as the error of their last rung, and
    the figure `error` with its 95 % interval.

    How much one training deviates is pooled over all replicated networks of the trials (Student's t
    with their degrees of freedom), so a network that was trained once has an interval too, a wide
    one. From `MIN_NETWORKS` networks on the mean of a network's seeds is drawn towards the error that
    networks of its size have, by the share that seeds have in the scatter around it (empirical
    Bayes): what was chosen for being lucky is so taken for less lucky. Trials come back as they are
    where none was replicated.
    """
    own = [trial for trial in trials if trial.evaluation.rungs and trial.duplicate_of is None]
    groups = [np.array(_errors(trial)) for trial in own]
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return list(trials)
    from scipy.stats import t as student

    noise = sum(float(group.var()) * len(group) for group in groups) / freedom
    means, variances = _posterior(
        own,
        np.array([group.mean() for group in groups]),
        noise / np.array([len(group) for group in groups]),
    )
    halves = student.ppf(0.5 + CONFIDENCE / 2, freedom) * np.sqrt(variances)
    found = {
        trial.number: (float(mean), float(half))
        for trial, mean, half in zip(own, means, halves, strict=True)
    }
    first = [trial.number if trial.duplicate_of is None else trial.duplicate_of for trial in trials]
    return [
        _averaged(trial, *found[number]) if number in found and trial.evaluation.rungs else trial
        for trial, number in zip(trials, first, strict=True)
    ]


def _posterior(trials: Sequence[Trial], means: Array, variances: Array) -> tuple[Array, Array]:
    """Mean and variance of each network's error (n,), given the means over its seeds and how sure
    they are.

    The prior is a regression on the logarithms of the sizes, with the scatter that seeds do not
    explain.
    """
    sizes = [[trial.evaluation.value(name) for name in SIZE_METRICS] for trial in trials]
    if len(trials) < MIN_NETWORKS or not all(all(row) for row in sizes) or not variances.all():
        return means, variances
    design = np.column_stack([np.ones(len(trials)), np.log(np.array(sizes, dtype=float))])
    basis, strength, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, strength > strength[0] * 1e-9]
    expected = basis @ (basis.T @ means)
    squares = float(((means - expected) ** 2).sum()) / (len(trials) - basis.shape[1])
    scatter = max(squares - float(variances.mean()), 0.0)
    own = scatter / (scatter + variances)
    unsure = (basis**2).sum(axis=1) * (scatter + variances)  # of what is expected
    return expected + own * (means - expected), own * variances + (1 - own) ** 2 * unsure


def unbiased_hypervolume(
    trials: Sequence[Trial], objectives: Sequence[Objective]
) -> UnbiasedHypervolume | None:
    """What the front that was searched is worth by fresh seeds; None where none of its members was
    replicated.
    """
    members = set(front(trials, objectives).members)
    replicated = [
        trial for trial in trials if trial.number in members and trial.evaluation.replicate_errors()
    ]
    if not replicated:
        return None
    fresh = [
        _with_error(trial, float(np.mean(trial.evaluation.replicate_errors())))
        for trial in replicated
    ]
    return UnbiasedHypervolume(
        members=len(members),
        replicated=len(replicated),
        searched=front(replicated, objectives).hypervolume,
        fresh=front(fresh, objectives).hypervolume,
    )


def front_now(
    trials: Iterable[Trial], objectives: Sequence[Objective]
) -> tuple[ParetoFront, dict[int, Trial]]:
    """The front by the means where networks were replicated, and the trials with these means by
    number.
    """
    means = with_posterior_means(list(trials))
    return front(means, objectives), {trial.number: trial for trial in means}


def _errors(trial: Trial) -> tuple[float, ...]:
    """Of all seeds, the search's first; empty where nothing was trained."""
    rungs = trial.evaluation.rungs
    return (rungs[-1].error, *trial.evaluation.replicate_errors()) if rungs else ()


def _averaged(trial: Trial, mean: float, half: float) -> Trial:
    errors, mean = _errors(trial), min(max(mean, 0.0), 1.0)
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
    *before, last = trial.evaluation.rungs
    return replace(
        trial, evaluation=replace(trial.evaluation, rungs=(*before, replace(last, error=error)))
    )
