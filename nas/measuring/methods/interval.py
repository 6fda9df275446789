"""Intervals from samples, by exact or textbook formulas.

Their limit: both take the samples as independent. Blocks timed one after another are not, since
clocks and neighbours drift. Then the true coverage is lower than 95 %: 72 % at a lag-1 correlation
of 0.5, by simulation. An interval shows how well *this* session determined the median, not how far
another session may be off. Only interleaving with a reference can show that.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import stdtrit


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % interval, in the samples' unit."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval as a share of the value."""
        return (self.high - self.low) / 2 / abs(self.value)


@lru_cache(maxsize=1024)
def median_rank(n: int) -> int:
    """Return the rank k of the interval's ends, 0 for fewer than 6 samples.

    It is the largest k for which the k-th smallest and k-th largest of n independent samples
    enclose the median with at least 95 %: 2 P(Binomial(n, 1/2) < k) <= 5 %.
    """
    below, k = 0, 0
    while 2 * (below + math.comb(n, k)) * 20 <= 2**n:
        below += math.comb(n, k)
        k += 1
    return k


def median_interval(samples: Sequence[float]) -> Interval | None:
    """Return the median with its distribution-free interval from order statistics, or None for
    fewer than 6 samples.
    """
    k = median_rank(len(samples))
    if not k:
        return None
    ordered = sorted(samples)
    return Interval(value=statistics.median(ordered), low=ordered[k - 1], high=ordered[-k])


def mean_interval(samples: Sequence[float]) -> Interval:
    """Return the mean of 2 or more samples with Student's t interval.

    It suits a few windows that are each long enough to be an average themselves.
    """
    mean = statistics.fmean(samples)
    factor = float(stdtrit(len(samples) - 1, 0.975))
    half = factor * statistics.stdev(samples) / math.sqrt(len(samples))
    return Interval(value=mean, low=mean - half, high=mean + half)
