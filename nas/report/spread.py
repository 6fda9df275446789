"""What other seeds say of a front: means instead of single trainings, how sure they are, and what was luck.

A front is chosen by one training of each network, so it holds those that were lucky: its own hypervolume is too good.
Replicates say by how much, because nothing was chosen by them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.measurement import Measurement
from nas.pareto import front
from nas.study import Objective
from nas.trial import Trial

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Honest:
    """Hypervolume of the `replicated` among the `members` of a front: by the trainings that they were chosen by, and by
    the means of their fresh seeds. None where an objective has no reference."""

    members: int
    replicated: int
    searched: float | None
    fresh: float | None

    def __str__(self) -> str:
        who = f"{self.replicated} of {self.members} members of the front that was searched"
        if self.searched is None or self.fresh is None:
            return f"{who} have fresh seeds"
        return f"hypervolume of {who}: {self.searched:.5g} as searched, {self.fresh:.5g} by fresh seeds"


def averaged(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with the mean over all their seeds as the error of their last rung, and the figure `error` with its
    95 % interval.

    How much one training deviates is pooled over all replicated networks of the trials (Student's t with their degrees
    of freedom), so a network that was trained once has an interval too, a wide one. Trials come back as they are where
    none was replicated.
    """
    groups = [_errors(trial) for trial in trials]
    freedom = sum(len(group) - 1 for group, trial in zip(groups, trials, strict=True)
                  if group and trial.duplicate_of is None)
    if freedom == 0:
        return list(trials)
    from scipy.stats import t as student  # noqa: PLC0415 - takes a second to import

    squares = sum(float(np.var(group)) * len(group) for group, trial in zip(groups, trials, strict=True)
                  if group and trial.duplicate_of is None)
    half = float(student.ppf(0.5 + CONFIDENCE / 2, freedom)) * math.sqrt(squares / freedom)
    return [_averaged(trial, group, half / math.sqrt(len(group))) if group else trial
            for trial, group in zip(trials, groups, strict=True)]


def honest(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Honest | None:
    """What the front that was searched is worth by fresh seeds; None where none of its members was replicated."""
    members = set(front(trials, objectives).members)
    replicated = [trial for trial in trials if trial.number in members and trial.evaluation.fresh_errors()]
    if not replicated:
        return None
    fresh = [_with_error(trial, float(np.mean(trial.evaluation.fresh_errors()))) for trial in replicated]
    return Honest(members=len(members), replicated=len(replicated),
                  searched=front(replicated, objectives).hypervolume, fresh=front(fresh, objectives).hypervolume)


def _errors(trial: Trial) -> tuple[float, ...]:
    """Of all seeds, the search's first; empty where nothing was trained."""
    rungs = trial.evaluation.rungs
    return (rungs[-1].error, *trial.evaluation.fresh_errors()) if rungs else ()


def _averaged(trial: Trial, errors: tuple[float, ...], half: float) -> Trial:
    mean = float(np.mean(errors))
    figure = Measurement(metric="error", unit="1", value=mean, ci_low=max(mean - half, 0.0),
                         ci_high=min(mean + half, 1.0), samples=errors, method=f"mean of {len(errors)} seeds")
    trial = _with_error(trial, mean)
    return replace(trial, evaluation=trial.evaluation.with_measurements([figure]))


def _with_error(trial: Trial, error: float) -> Trial:
    *before, last = trial.evaluation.rungs
    return replace(trial, evaluation=replace(trial.evaluation, rungs=(*before, replace(last, error=error))))
