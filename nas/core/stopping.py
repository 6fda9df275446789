"""The futility rule, which stops a trial after a rung, by all objectives at once.

It stops a trial whose final error, even if it is estimated optimistically, would be dominated at
the trial's costs. The estimate is a regression on the errors so far and the sizes, fitted to trials
that reached the last rung. It is made optimistic by what 95 % of those trials did not exceed, each
predicted from the others. A network of small cost therefore continues if no network of such costs
is better.

Short training ranks networks poorly, and the best of them most poorly. For this reason the rule is
off by default, and stops no trial if it would have stopped a member of the front
(docs/stopping.md).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nas.core.dominance import ranks
from nas.core.study import StudySpec
from nas.core.trial import Trial, TrialState

Array = NDArray[np.float64]

MIN_CURVES = 20
"""Smallest number of trials at the last rung from which the futility rule is learned."""
CURVES_PER_WEIGHT = 4
"""Smallest number of such trials for each weight of the regression."""
OUTCOME_QUANTILE = 0.95
"""Share of the trials that did not exceed the optimistic estimate."""
ERROR_MARGIN = 0.02
"""Share by which the optimistic error must be worse than the error that dominates it."""
SIZE_METRICS = ("parameters", "macs")
"""Counted metrics from which final errors are estimated. Every trial has them."""
MIN_ERROR = 1e-4
"""Smallest error in logarithms; smaller ones count as this."""


def exempt(seed: int) -> bool:
    """Return whether the rule stops no trial of this seed.

    One trial in ten is exempt, so that rungs can be compared without bias.
    """
    return seed % 10 == 0


class Curve(NamedTuple):
    """Errors of a trial at every rung, its costs and its sizes, for the futility rule.

    An error is the shortfall of the study's trained objective (`TrainedMetric.shortfall`).
    """

    number: int
    errors: Sequence[float]
    costs: Sequence[float]
    sizes: Sequence[float]


def curve_of(trial: Trial, spec: StudySpec) -> Curve | None:
    """Return the curve of a trial.

    Returns None for a duplicate, unless it is complete, and if figures at a rung are unknown.
    """
    evaluation = trial.evaluation
    if trial.state is not TrialState.COMPLETE or trial.duplicate_of is not None:
        return None
    if not evaluation.rungs or len(evaluation.rungs) < len(spec.rungs):
        return None
    if not all(evaluation.value(size) for size in SIZE_METRICS):
        return None
    return Curve(
        number=trial.number,
        errors=shortfalls(trial, spec),
        costs=costs_of(trial, spec),
        sizes=sizes_of(trial),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """The curves of n networks that were trained to the last rung.

    `numbers` (n,) are those of their trials. `errors` (n, r) are those at every rung, `costs`
    (n, m) the losses of the other objectives, and `sizes` (n, s) the counts, which are positive.
    """

    numbers: NDArray[np.int64]
    errors: Array
    costs: Array
    sizes: Array

    @classmethod
    def of(cls, trials: Iterable[Trial], spec: StudySpec) -> Self:
        """Collect the curves of the complete trials, without duplicates."""
        curves = [curve_of(trial, spec) for trial in trials]
        return cls.of_curves([curve for curve in curves if curve is not None])

    @classmethod
    def of_curves(cls, curves: Sequence[Curve]) -> Self:
        """Collect these curves in their order."""
        return cls(
            numbers=np.array([curve.number for curve in curves], dtype=np.int64),
            errors=_table([curve.errors for curve in curves]),
            costs=_table([curve.costs for curve in curves]),
            sizes=_table([curve.sizes for curve in curves]),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def losses(self) -> Array:
        """Final errors and costs, shape (n, 1 + m)."""
        return np.column_stack([self.errors[:, -1], self.costs])


def shortfalls(trial: Trial, spec: StudySpec) -> list[float]:
    """Return the shortfall of the study's modelled metric at every rung, none without one."""
    metric = spec.modelled
    if metric is None:
        return []
    return [metric.shortfall(rung.metrics[metric.name]) for rung in trial.evaluation.rungs]


def costs_of(trial: Trial, spec: StudySpec) -> list[float]:
    """Return the losses of the objectives that are measured before a trial is trained."""
    values = [(o, trial.evaluation.value(o.key)) for o in spec.measured_objectives]
    return [o.loss(value) for o, value in values if value is not None]


def sizes_of(trial: Trial) -> list[float]:
    """Return the trial's counts in the order of `SIZE_METRICS`."""
    return [trial.evaluation.value(size) or 0.0 for size in SIZE_METRICS]


def _table(rows: Sequence[Sequence[float]]) -> Array:
    return np.array(rows, dtype=float).reshape(len(rows), -1 if rows else 0)


class Futility:
    """The futility rule at rung number `rung`, counted from 1, learned from these curves.

    `mistakes` are the trials on the curves' front that the rule would have stopped if it had been
    learned from the others. The rule stops no trial if there is such a mistake, or if there are
    fewer than `min_curves` curves.
    """

    def __init__(self, curves: Curves, rung: int) -> None:
        self._curves = curves
        self.min_curves = max(MIN_CURVES, CURVES_PER_WEIGHT * (1 + rung + len(SIZE_METRICS)))
        self.mistakes: list[int] = []
        if not self.ready:
            return
        features = self._features(curves.errors[:, :rung], curves.sizes)
        final = np.log(np.maximum(curves.errors[:, -1], MIN_ERROR))
        inverse = np.linalg.pinv(features)
        self._weights = inverse @ final
        # Each network's prediction from all others, by the leave-one-out formula.
        leverage = np.einsum("ij,ji->i", features, inverse)
        residuals = final - features @ self._weights
        predicted = final - residuals / np.maximum(1 - leverage, 1e-9)
        self._gains = predicted - final
        for index in np.flatnonzero(ranks(curves.losses) == 0).tolist():
            optimistic = predicted[index] - _optimism(np.delete(self._gains, index))
            if self._dominated(optimistic, curves.costs[index], excluded=index):
                self.mistakes.append(int(curves.numbers[index]))

    @property
    def ready(self) -> bool:
        """True if there are enough curves."""
        return len(self._curves) >= self.min_curves

    @property
    def active(self) -> bool:
        """True if the rule may stop trials."""
        return self.ready and not self.mistakes

    @property
    def description(self) -> str:
        """The state of the rule in words."""
        if not self.ready:
            return f"waits for {self.min_curves} trials at the last rung"
        stopped = ", ".join(map(str, self.mistakes))
        return f"off: it would have stopped trial {stopped} of the front" if stopped else "on"

    def stops(
        self, errors: Sequence[float], costs: Sequence[float], sizes: Sequence[float]
    ) -> bool:
        """Return whether to stop a trial with these errors up to the rung, costs and sizes."""
        if not self.active:
            return False
        features = self._features(np.array([errors]), np.array([sizes]))
        optimistic = float((features @ self._weights)[0]) - _optimism(self._gains)
        return self._dominated(optimistic, np.array(costs))

    @staticmethod
    def _features(errors: Array, sizes: Array) -> Array:
        log_errors = np.log(np.maximum(errors, MIN_ERROR))
        return np.column_stack([np.ones(len(errors)), log_errors, np.log(sizes)])

    def _dominated(self, log_error: float, costs: Array, excluded: int | None = None) -> bool:
        """Return whether a curve with no larger cost has an error lower by more than the margin.

        The curve with the index `excluded` is ignored.
        """
        cheaper = (self._curves.costs <= costs).all(axis=1)
        better = self._curves.errors[:, -1] * (1 + ERROR_MARGIN) <= math.exp(log_error)
        dominating = cheaper & better
        if excluded is not None:
            dominating[excluded] = False
        return bool(dominating.any())


def _optimism(gains: Array) -> float:
    """Return how much better than predicted a network may become, in log-error.

    `OUTCOME_QUANTILE` of the networks gained no more. The result is never negative.
    """
    return max(float(np.quantile(gains, OUTCOME_QUANTILE, method="higher")), 0.0)
