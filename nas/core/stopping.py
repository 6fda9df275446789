"""Whether a trial goes on after a rung, judged by all objectives at once. Pure functions on arrays
of losses.

Two rules. By *rank*, a trial is stopped where it is behind the others at its rung, whatever it may
become. By *futility*, where even an optimistic guess of its final error is dominated at the costs
that it has: the guess comes from its errors so far and its size, by a regression on the trials that
reached the last rung, and is better than what 95 % of those trials became, each predicted from the
others. Networks of small cost are so left alone for being small.

Short training ranks networks poorly, the best of them most of all, so neither rule is on by itself,
and futility stops nobody where it would have stopped a member of the front (docs/stopping.md).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.dominance import ranks
from nas.core.study import Objective
from nas.core.trial import Trial, TrialState

Array = NDArray[np.float64]

MIN_CURVES = 20
"""Trials that must have reached the last rung before futility is asked."""
CURVES_PER_WEIGHT = 4
"""And as many for each weight of the regression."""
OUTCOME_QUANTILE = 0.95
ERROR_MARGIN = 0.02
"""By this share the optimistic error must be worse than the one that dominates it."""
SIZE_METRICS = ("parameters", "macs")
"""Counts that say something of the final error. They are known of every trial."""
MIN_ERROR = 1e-4
"""Errors below count as this in logarithms."""


def continues(losses: ArrayLike, index: int, keep: float, min_trials: int) -> bool:
    """Whether point `index` of the (n, m) losses of all trials that reached the rung belongs to the
    best `keep`.

    A point is kept where fewer than `ceil(keep * n)` points have a better non-dominated rank; so
    the whole front is always kept. With fewer than `min_trials` points everybody goes on.
    """
    order = ranks(losses)
    if len(order) < min_trials:
        return True
    better = int((order < order[index]).sum())
    return better < math.ceil(keep * len(order))


def exempt(seed: int) -> bool:
    """Whether a trial of this seed is stopped by no rule: one in ten, so that rungs can be compared
    without bias.
    """
    return seed % 10 == 0


Curve = tuple[int, Sequence[float], Sequence[float], Sequence[float]]
"""A trial's number, its errors at every rung, its costs and its sizes."""


def curve_of(trial: Trial, objectives: Sequence[Objective]) -> Curve | None:
    """What futility learns from a trial; None unless it is complete and no duplicate."""
    known = trial.evaluation
    if (
        trial.state is not TrialState.COMPLETE
        or trial.duplicate_of is not None
        or not known.rungs
        or not all(known.value(size) for size in SIZE_METRICS)
    ):
        return None
    return (
        trial.number,
        [rung.error for rung in known.rungs],
        costs_of(trial, objectives),
        sizes_of(trial),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Networks that were trained to the last rung: `errors` (n, r) at every rung, `costs` (n, m),
    the losses of the other objectives, and `sizes` (n, s), positive counts. `numbers` (n,) is what
    they are called by.
    """

    numbers: NDArray[np.int64]
    errors: Array
    costs: Array
    sizes: Array

    @classmethod
    def of(cls, trials: Iterable[Trial], objectives: Sequence[Objective]) -> Self:
        """Of the complete trials, duplicates left out."""
        return cls.of_curves(
            [curve for trial in trials if (curve := curve_of(trial, objectives)) is not None]
        )

    @classmethod
    def of_curves(cls, curves: Sequence[Curve]) -> Self:
        """Of these, in their order."""
        return cls(
            numbers=np.array([number for number, *_ in curves], dtype=np.int64),
            errors=_table([errors for _, errors, _, _ in curves]),
            costs=_table([costs for _, _, costs, _ in curves]),
            sizes=_table([sizes for *_, sizes in curves]),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def losses(self) -> Array:
        """Final error and costs, (n, 1 + m)."""
        return np.column_stack([self.errors[:, -1], self.costs])


def costs_of(trial: Trial, objectives: Sequence[Objective]) -> list[float]:
    """The losses of all objectives but the error. They are known once a trial is trained."""
    known = [(o, trial.evaluation.value(o.metric)) for o in objectives if o.metric != "error"]
    return [o.loss(value) for o, value in known if value is not None]


def sizes_of(trial: Trial) -> list[float]:
    """Its counts, in the order of `SIZE_METRICS`."""
    return [trial.evaluation.value(size) or 0.0 for size in SIZE_METRICS]


def _table(rows: Sequence[Sequence[float]]) -> Array:
    return np.array(rows, dtype=float).reshape(len(rows), -1 if rows else 0)


class Futility:
    """The rule at the `rung`-th rung, from 1, learned from these curves. `mistakes` are the members
    of their front that it would have stopped, had it learned from the others; while there is one,
    or fewer curves than it `needs`, it stops nobody.
    """

    def __init__(self, curves: Curves, rung: int) -> None:
        self._curves, self._rung = curves, rung
        self.min_curves = max(MIN_CURVES, CURVES_PER_WEIGHT * (1 + rung + len(SIZE_METRICS)))
        self.mistakes: list[int] = []
        if not self.ready:
            return
        known = self._features(curves.errors[:, :rung], curves.sizes)
        final = np.log(np.maximum(curves.errors[:, -1], MIN_ERROR))
        inverse = np.linalg.pinv(known)
        self._weights = inverse @ final
        leverage = np.einsum("ij,ji->i", known, inverse)
        left_out = final - (final - known @ self._weights) / np.maximum(
            1 - leverage, 1e-9
        )  # (n,) from the others
        self._better = left_out - final
        front = np.flatnonzero(ranks(curves.losses) == 0)
        self.mistakes = [
            int(curves.numbers[i])
            for i in front.tolist()
            if self._dominated(
                left_out[i] - _quantile(np.delete(self._better, i)), curves.costs[i], but=i
            )
        ]

    @property
    def ready(self) -> bool:
        """Whether there are enough curves."""
        return len(self._curves) >= self.min_curves

    @property
    def active(self) -> bool:
        """Whether it stops anybody."""
        return self.ready and not self.mistakes

    @property
    def description(self) -> str:
        """In words."""
        if not self.ready:
            return f"waits for {self.min_curves} trials at the last rung"
        stopped = ", ".join(map(str, self.mistakes))
        return f"off: it would have stopped trial {stopped} of the front" if stopped else "on"

    def stops(
        self, errors: Sequence[float], costs: Sequence[float], sizes: Sequence[float]
    ) -> bool:
        """Whether to stop a trial with these errors up to the rung, costs and sizes."""
        if not self.active:
            return False
        known = self._features(np.array([errors]), np.array([sizes]))
        return self._dominated(
            float((known @ self._weights)[0]) - _quantile(self._better), np.array(costs)
        )

    @staticmethod
    def _features(errors: Array, sizes: Array) -> Array:
        return np.column_stack(
            [np.ones(len(errors)), np.log(np.maximum(errors, MIN_ERROR)), np.log(sizes)]
        )

    def _dominated(self, log_error: float, costs: Array, but: int | None = None) -> bool:
        """Whether a network of these costs, none dearer, has an error that is lower by more than
        the margin.
        """
        beats = (self._curves.costs <= costs).all(axis=1) & (
            self._curves.errors[:, -1] * (1 + ERROR_MARGIN) <= math.exp(log_error)
        )
        if but is not None:
            beats[but] = False
        return bool(beats.any())


def _quantile(better: Array) -> float:
    """How much better than predicted nearly all became at most; never worse."""
    return max(float(np.quantile(better, OUTCOME_QUANTILE, method="higher")), 0.0)
