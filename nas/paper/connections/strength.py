"""Mean |w| of a target layer's weights by the source layer that they read, and the paper's
statistics of it.

Sources and targets are counted from 1 within their block, and source 0 is the block's input. The
last target is the block's end: the transition, the aggregation or the classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.errors import InvalidValueError

WEAK_SHARE = 0.2
"""Share of its target's strongest connection below which one is weak; the paper names none."""


@dataclass(frozen=True, kw_only=True)
class BlockMap:
    """Connections of one block.

    `strengths` has the shape (targets, sources): the mean |w| of target t over the channels of
    source s, or NaN if t does not read s. `targets` are names; the last one is the block's end.
    """

    name: str
    targets: tuple[str, ...]
    strengths: NDArray[np.float64]

    @property
    def normalised(self) -> NDArray[np.float64]:
        """Each target's strengths as shares of its strongest one, or zeros if all are zero."""
        strongest = np.nanmax(self.strengths, axis=1, keepdims=True)
        shares = self.strengths.copy()
        np.divide(shares, strongest, out=shares, where=strongest > 0)
        return shares

    @property
    def intermediate(self) -> NDArray[np.float64]:
        """Normalised rows of the targets before the end that read two or more sources.

        The shape is (rows, sources).
        """
        rows = self.normalised[:-1]
        several: NDArray[np.float64] = rows[np.count_nonzero(~np.isnan(rows), axis=1) > 1]
        return several


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The figures of the paper's argument for one block. A figure of too few connections is None.

    * `weak_share`: the share of connections among intermediate layers that are below `WEAK_SHARE`.
    * `evenness` of the end's sources: the entropy of their strengths as shares, divided by its
      maximum; 1 if all are equal, 0 if one has everything.
    * `correlation` over the `sources` (Pearson): between their mean strength to intermediate layers
      and their strength to the end. By the hypothesis "strong between intermediate layers means
      weak to the end" it is negative.
    """

    weak_share: float | None
    evenness: float | None
    correlation: float | None
    sources: int


def group_means(weight: ArrayLike, groups: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean |w| of each group of consecutive input channels, with the shape (groups,).

    `weight` is a kernel (out, in, ...). Raises `InvalidValueError` if the groups do not add up to
    its input channels.
    """
    values = np.abs(np.asarray(weight, dtype=np.float64))
    if sum(groups) != values.shape[1]:
        raise InvalidValueError(
            f"the weights read {values.shape[1]} channels, but their sources have "
            f"{'+'.join(map(str, groups))}"
        )
    ends = np.cumsum(groups)
    return np.array(
        [values[:, end - size : end].mean() for size, end in zip(groups, ends, strict=True)]
    )


def statistics(block: BlockMap, weak: float = WEAK_SHARE) -> Statistics:
    """Compute the statistics of one block."""
    rows, end = block.intermediate, block.normalised[-1]
    strengths = rows[~np.isnan(rows)]
    sources = np.flatnonzero((~np.isnan(rows)).any(axis=0))
    means = np.array([np.nanmean(rows[:, source]) for source in sources])
    return Statistics(
        weak_share=float((strengths < weak).mean()) if len(strengths) else None,
        evenness=_evenness(end),
        correlation=correlation(means, end[sources]),
        sources=len(sources),
    )


def correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return Pearson's correlation, or None for fewer than three pairs or for constant values."""
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _evenness(strengths: NDArray[np.float64]) -> float | None:
    """Return the entropy of the strengths as shares, divided by its maximum."""
    total = strengths.sum()
    if len(strengths) < 2 or total == 0:
        return None
    shares = strengths[strengths > 0] / total
    return abs(float(-(shares * np.log(shares)).sum() / np.log(len(strengths))))
