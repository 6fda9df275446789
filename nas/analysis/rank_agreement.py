"""Agreement of rankings: Kendall's tau, and whether short rungs rank networks as long ones do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.study import Direction, TrainedMetric
from nas.core.trial import Trial

MIN_TRIALS = 3
"""Smallest number of trials whose rankings are compared."""
MIN_LEFT_VARIANCE = 1e-9
"""Share of the variances, multiplied, below which a third value leaves nothing to correlate."""
MIN_TOP_TRIALS = 5
"""Smallest number of trials in the best quarter for which its tau is computed."""

INTERVAL = (2.5, 97.5)
"""Percentiles of bootstrap samples that bound a 95 % interval."""


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return Kendall's tau (b) between two sequences of n values.

    Returns None if tau is undefined: for fewer than two pairs, or if all values of a sequence are
    equal.
    """
    from scipy.stats import kendalltau

    pairs = np.column_stack([np.asarray(first, dtype=float), np.asarray(second, dtype=float)])
    if len(pairs) < 2 or (np.ptp(pairs, axis=0) == 0).any():
        return None
    return float(kendalltau(*pairs.T).statistic)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Kendall's tau (b) between a trained metric at two rungs, over the `trials` that reached both.

    `first` and `second` are the epochs of the rungs. `top_tau` is the tau over the `top` trials
    that are the best quarter at the second rung. It is None if these are fewer than
    `MIN_TOP_TRIALS`, or if all their values at a rung are equal.
    """

    first: float
    second: float
    tau: float
    trials: int
    top_tau: float | None
    top: int


def agreement(first: float, second: float, errors: NDArray[np.float64]) -> Agreement | None:
    """Return the agreement of a metric's losses, such as errors (n, 2), at two rungs.

    Returns None for fewer than `MIN_TRIALS` trials, or if all losses at a rung are equal.
    """
    tau = kendall_tau(*errors.T)
    if len(errors) < MIN_TRIALS or tau is None:
        return None
    quarter = -(-len(errors) // 4)
    best = errors[np.argsort(errors[:, 1], kind="stable")[:quarter]]
    return Agreement(
        first=first,
        second=second,
        tau=tau,
        trials=len(errors),
        top=len(best),
        top_tau=kendall_tau(*best.T) if len(best) >= MIN_TOP_TRIALS else None,
    )


def agreements(trials: Sequence[Trial], metric: TrainedMetric) -> list[Agreement]:
    """Return the agreement of every pair of rungs, without pairs for which it is undefined."""
    return agreements_of(
        [
            {
                rung.epochs: rung.metrics[metric.name]
                for rung in trial.evaluation.rungs
                if metric.name in rung.metrics
            }
            for trial in trials
            if trial.duplicate_of is None
        ],
        metric,
    )


def agreements_of(
    values: Sequence[Mapping[float, float]], metric: TrainedMetric
) -> list[Agreement]:
    """Return the same as `agreements`, given the values of each network by epochs."""
    epochs = sorted({epoch for network in values for epoch in network})
    sign = 1 if metric.direction is Direction.MINIMIZE else -1
    pairs = []
    for first, second in combinations(epochs, 2):
        reached = [network for network in values if first in network and second in network]
        table = np.array([(network[first], network[second]) for network in reached])
        pairs.append(agreement(first, second, sign * table.reshape(-1, 2)))
    return [pair for pair in pairs if pair is not None]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value between the bounds of its interval, which is of 95 % for statistics over networks."""

    value: float
    low: float
    high: float

    @classmethod
    def of_mean(cls, values: Sequence[NDArray[np.float64]]) -> "Interval | None":
        """Return the bootstrap interval of the mean over seeds, None if it is undefined.

        The first value of a seed is that of all networks, the others those of bootstrap samples, of
        which undefined ones do not count.
        """
        if not values:
            return None
        mean = np.mean(values, axis=0)
        if not np.isfinite(mean[0]):
            return None
        low, high = np.percentile(mean[np.isfinite(mean)], INTERVAL)
        return cls(value=float(mean[0]), low=float(low), high=float(high))

    @classmethod
    def around(cls, value: float, spread: float) -> "Interval":
        """Return an interval with a relative half width."""
        return cls(value=value, low=value * (1 - spread), high=value * (1 + spread))

    def map(self, change: Callable[[float], float]) -> "Interval":
        """Return the interval of an increasing function of the statistic."""
        value, low, high = map(change, (self.value, self.low, self.high))
        return Interval(value=value, low=low, high=high)

    def is_vague(self, size: float) -> bool:
        """Return whether the interval is wider than half of the statistic's range, `size`."""
        return self.high - self.low > size / 2

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap_weights(count: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Return how often each of `count` networks is in each bootstrap sample, (draws, count).

    Equal arguments give equal samples, so that two statistics of the same networks are paired.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), draws).astype(float)


def weighted_taus(
    first: ArrayLike, second: ArrayLike, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Kendall's tau (b) of two sequences of n values for each row of weights, (draws,).

    Weights (draws, n) count how often a network is in a sample. Pairs of a network with itself are
    ties and do not count. Tau is NaN where it is undefined.
    """
    signs = [
        np.sign(np.subtract.outer(values, values)) for values in map(np.asarray, (first, second))
    ]

    def pairs(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(((weights @ matrix) * weights).sum(axis=1))

    untied = pairs(signs[0] ** 2) * pairs(signs[1] ** 2)
    with np.errstate(invalid="ignore"):
        return np.asarray(pairs(signs[0] * signs[1]) / np.sqrt(untied))


def weighted_partial_correlations(
    first: ArrayLike, second: ArrayLike, given: ArrayLike, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Pearson's correlation of two sequences of n values at equal values of a third one, for
    each row of weights (draws, n).

    It is the correlation of what straight lines through the third leave of both. It is NaN where it
    is undefined.
    """
    values = np.stack([np.asarray(each, dtype=float) for each in (first, second, given)])
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = weights / weights.sum(axis=1, keepdims=True)
        centred = values[None] - (shares @ values.T)[:, :, None]  # (draws, 3, n)
        moments = np.einsum("dn,din,djn->dij", shares, centred, centred)
        deviations = np.sqrt(np.einsum("dii->di", moments))
        r = moments / (deviations[:, :, None] * deviations[:, None, :])
        both, with_first, with_second = r[:, 0, 1], r[:, 0, 2], r[:, 1, 2]
        left = (1 - with_first**2) * (1 - with_second**2)
        left[left < MIN_LEFT_VARIANCE] = np.nan
        return np.asarray((both - with_first * with_second) / np.sqrt(left))
