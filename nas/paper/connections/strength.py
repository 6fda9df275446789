"""Mean |w| of a target layer's weights by the source layer whose outputs they read, and the paper's
statistics on it.

Pure arithmetic. Sources and targets are counted from 1 within their block; source 0 is the block's
input. The last target is the block's end: the transition, the aggregation or the classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.errors import InvalidValueError

WEAK = 0.2
"""A connection below this share of its target's strongest one is called weak here; the paper names
no threshold.
"""


@dataclass(frozen=True, kw_only=True)
class BlockMap:
    """One block: `strengths[t, s]` is the mean |w| of target t over the channels of source s, NaN
    where it reads none.

    `targets` are names, the block's end last; shape of `strengths` (targets, sources).
    """

    name: str
    targets: tuple[str, ...]
    strengths: NDArray[np.float64]

    @property
    def normalised(self) -> NDArray[np.float64]:
        """Each target's strengths as shares of its strongest; zeros where a target reads zeros
        only.
        """
        strongest = np.nanmax(self.strengths, axis=1, keepdims=True)
        shares = self.strengths.copy()
        np.divide(shares, strongest, out=shares, where=strongest > 0)
        return shares

    @property
    def intermediate(self) -> NDArray[np.float64]:
        """Normalised rows of targets before the end that choose among two sources or more, shape
        (rows, sources).
        """
        rows = self.normalised[:-1]
        choosing: NDArray[np.float64] = rows[np.count_nonzero(~np.isnan(rows), axis=1) > 1]
        return choosing


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What the paper argues with, of one block; None where a block has too few connections to tell.

    `weak_share`: of the connections among intermediate layers, those below `WEAK`. `evenness` of
    the end's sources: the entropy of their strengths as shares over its maximum, 1 where all are
    alike, 0 where one is all. `correlation`: over sources, of their mean strength to intermediate
    layers with their strength to the end (Pearson); the hypothesis "strong between intermediate
    layers means weak to the end" says it is negative.
    """

    weak_share: float | None
    evenness: float | None
    correlation: float | None
    sources: int


def group_means(weight: ArrayLike, groups: Sequence[int]) -> NDArray[np.float64]:
    """Mean |w| of each group of consecutive input channels of a kernel (out, in, ...), shape
    (groups,).

    Raises `InvalidValueError` where the groups are not all of its channels.
    """
    values = np.abs(np.asarray(weight, dtype=np.float64))
    if sum(groups) != values.shape[1]:
        raise InvalidValueError(
            f"sources of {'+'.join(map(str, groups))} channels are not the {values.shape[1]} "
            "that the weights read"
        )
    ends = np.cumsum(groups)
    return np.array(
        [values[:, end - size : end].mean() for size, end in zip(groups, ends, strict=True)]
    )


def statistics(block: BlockMap, weak: float = WEAK) -> Statistics:
    """Of one block."""
    rows, end = block.intermediate, block.normalised[-1]
    known = rows[~np.isnan(rows)]
    sources = np.flatnonzero((~np.isnan(rows)).any(axis=0))
    means = np.array([np.nanmean(rows[:, source]) for source in sources])
    return Statistics(
        weak_share=float((known < weak).mean()) if len(known) else None,
        evenness=_evenness(end),
        correlation=correlation(means, end[sources]),
        sources=len(sources),
    )


def correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Pearson's, None for fewer than three pairs or values that are all alike."""
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _evenness(strengths: NDArray[np.float64]) -> float | None:
    total = strengths.sum()
    if len(strengths) < 2 or total == 0:
        return None
    shares = strengths[strengths > 0] / total
    return abs(float(-(shares * np.log(shares)).sum() / np.log(len(strengths))))
