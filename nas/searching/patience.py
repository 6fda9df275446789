"""When to stop: the latest trainings brought no more hypervolume than noise explains.

Replayed on recorded searches of 200 trainings (known-cost, ten seeds): with a patience of 30 they
end after 151 (NAS-Bench-Macro) and 196 (Channel-Bench) on average, and lose 0.1 % of the final
hypervolume, in no run more than 0.5 %.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from nas.core.dominance import hypervolume, ranks
from nas.core.study import StudySpec
from nas.core.trial import Trial, TrialState

Array = NDArray[np.float64]
MIN_RELATIVE_GAIN = 1e-3
"""Share of the hypervolume below which a gain is none."""


class Patience:
    """Compares the front with the one before the latest `spec.budget.patience` trainings.

    Trainings count in the order in which their trials end. The noise of an error is that of drawing
    the validation images: sqrt(error (1 - error) / images).
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec, self._patience = spec, spec.budget.patience or 0
        objectives = spec.objectives
        self._reference = [o.loss(o.reference) for o in objectives if o.reference is not None]
        self._old: Array = np.empty((0, len(objectives)))
        self._latest: deque[tuple[Array, Array]] = deque()
        """Losses and their noise of each of the latest trainings, (m,) each; infinite if a trial
        was stopped or is over a limit."""
        self._reason: str | None = None
        """The last result of comparing, None after another trial ended."""

    def add(self, trial: Trial) -> None:
        """Take in a trial that ended. Skipped and failed ones do not count, and one that was
        evaluated elsewhere is no training of this search.
        """
        if not self._patience or trial.skipped or trial.state is TrialState.FAILED:
            return
        self._reason = None
        if trial.origin:
            self._keep(self._losses(trial))
            return
        self._latest.append((self._losses(trial), self._noise(trial)))
        if len(self._latest) > self._patience:
            self._keep(self._latest.popleft()[0])

    def _keep(self, losses: Array) -> None:
        """Take losses (m,) into the front before the latest trainings."""
        points = np.vstack([self._old, losses])
        points = points[np.isfinite(points).all(axis=1)]
        self._old = points[ranks(points) == 0]

    @property
    def reason(self) -> str:
        """Why the search should end, or an empty string."""
        if self._reason is None:
            self._reason = self._compared()
        return self._reason

    def _compared(self) -> str:
        if not self._patience or len(self._latest) < self._patience or not len(self._old):
            return ""
        before = hypervolume(self._old, self._reference)
        latest = np.array([losses for losses, _ in self._latest])
        now = hypervolume(np.vstack([self._old, latest]), self._reference)
        if not before or now - before > max(MIN_RELATIVE_GAIN * before, self._gain_noise(now)):
            return ""
        return (
            f"the last {self._patience} trained networks improved the hypervolume by "
            f"{100 * (now - before) / before:.2g} %, no more than noise explains (budget.patience)"
        )

    def _gain_noise(self, now: float) -> float:
        """Return the standard deviation of the gain, given the present hypervolume."""
        latest = np.array([losses for losses, _ in self._latest])
        changes = []
        for index, (losses, noise) in enumerate(self._latest):
            if not np.isfinite(losses).all():
                continue
            worse = latest.copy()
            worse[index] += noise
            changes.append(now - hypervolume(np.vstack([self._old, worse]), self._reference))
        return float(np.linalg.norm(changes))

    def _losses(self, trial: Trial) -> Array:
        losses = trial.losses(self._spec.objectives)
        is_complete = trial.state is TrialState.COMPLETE
        if losses is None or not is_complete or trial.violation(self._spec.objectives) > 0:
            return np.full(len(self._spec.objectives), np.inf)
        return np.array(losses)

    def _noise(self, trial: Trial) -> Array:
        spec = self._spec
        noise = np.zeros(len(spec.objectives))
        for index, objective in enumerate(spec.objectives):
            value = trial.evaluation.value(objective.key)
            if value is not None and spec.is_share(objective.metric):
                noise[index] = np.sqrt(value * (1 - value) / spec.data.validation_images)
        return noise
