"""Agreement of rankings: Kendall's tau, and whether short rungs rank networks as long ones do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.trial import Trial

MIN_TRIALS = 3
"""Smallest number of trials whose rankings are compared."""
MIN_TOP_TRIALS = 5
"""Smallest number of trials in the best quarter for which its tau is computed."""


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
    """Kendall's tau (b) between the errors at two rungs, over the `trials` that reached both.

    `first` and `second` are the epochs of the rungs. `top_tau` is the tau over the `top` trials
    that are the best quarter at the second rung. It is None if these are fewer than
    `MIN_TOP_TRIALS`, or if all their errors at a rung are equal.
    """

    first: float
    second: float
    tau: float
    trials: int
    top_tau: float | None
    top: int


def agreement(first: float, second: float, errors: NDArray[np.float64]) -> Agreement | None:
    """Return the agreement of the errors (n, 2) at two rungs.

    Returns None for fewer than `MIN_TRIALS` trials, or if all errors at a rung are equal.
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


def agreements(trials: Sequence[Trial]) -> list[Agreement]:
    """Return the agreement of every pair of rungs, without pairs for which it is undefined."""
    return agreements_of(
        [
            {rung.epochs: rung.error for rung in trial.evaluation.rungs}
            for trial in trials
            if trial.duplicate_of is None
        ]
    )


def agreements_of(errors: Sequence[Mapping[float, float]]) -> list[Agreement]:
    """Return the same as `agreements`, given the errors of each network by epochs."""
    epochs = sorted({epoch for network in errors for epoch in network})
    pairs = []
    for first, second in combinations(epochs, 2):
        reached = [network for network in errors if first in network and second in network]
        table = np.array([(network[first], network[second]) for network in reached])
        pairs.append(agreement(first, second, table.reshape(-1, 2)))
    return [pair for pair in pairs if pair is not None]
