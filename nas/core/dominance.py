"""Dominance, ranks and hypervolume of arrays of losses.

Losses have the shape (n, m), one row for each point, and smaller is better. Ranks start at 0, the
front; points of equal losses share their rank. moocore computes ranks and hypervolumes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK_ROWS = 256
"""Rows of the n x n' comparison of points that are in memory at once."""


def ranks(losses: ArrayLike) -> NDArray[np.int64]:
    """Return the non-dominated rank of each of the n points, shape (n,)."""
    points = np.atleast_2d(np.asarray(losses, dtype=float))
    if points.size == 0:
        return np.zeros(0, dtype=np.int64)
    import moocore  # takes a tenth of a second

    distinct, index = np.unique(points, axis=0, return_inverse=True)
    return np.asarray(moocore.pareto_rank(distinct), dtype=np.int64)[index.reshape(-1)]


def nondominated(losses: ArrayLike) -> NDArray[np.bool_]:
    """Return which of the n points no other point dominates, shape (n,)."""
    points = np.asarray(losses, dtype=float)
    if points.size == 0:
        return np.zeros(len(points), dtype=np.bool_)
    import moocore

    return np.asarray(moocore.is_nondominated(points, keep_weakly=True), dtype=np.bool_)


def dominators(losses: ArrayLike, others: ArrayLike | None = None) -> NDArray[np.int64]:
    """Count the points of `others` (n', m) that dominate each of the losses (n, m), shape (n,).

    Without `others` the points are compared with each other.
    """
    points = np.asarray(losses, dtype=float)
    rivals = points if others is None else np.asarray(others, dtype=float)
    counts = np.zeros(len(points), dtype=np.int64)
    for start in range(0, len(points), CHUNK_ROWS):
        chunk = points[start : start + CHUNK_ROWS]
        no_worse = np.ones((len(chunk), len(rivals)), dtype=np.bool_)
        better = np.zeros_like(no_worse)
        for loss, others_loss in zip(chunk.T, rivals.T, strict=True):
            no_worse &= others_loss <= loss[:, None]
            better |= others_loss < loss[:, None]
        counts[start : start + CHUNK_ROWS] = (no_worse & better).sum(axis=1)
    return counts


def certainty(low: ArrayLike, high: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which points are certainly on the front and which are possibly on it, (n,) each.

    `low` and `high` (n, m) are the ends of each loss's interval. A point is certain if no other
    point dominates it even when the other takes its low end and the point its high end. It is
    possible if no other point dominates it when the other takes its high end and the point its low
    end.
    """
    best, worst = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    # A point's own low end dominates its high end, but a point is no rival of itself.
    dominates_itself = (best <= worst).all(axis=1) & (best < worst).any(axis=1)
    rivals = dominators(worst, best) - dominates_itself.astype(np.int64)
    return rivals == 0, dominators(best, worst) == 0


def hypervolume(losses: ArrayLike, reference: Sequence[float]) -> float:
    """Return the volume between the points and the reference point (m,).

    A point that is not better than the reference in every loss adds nothing.
    """
    points = np.asarray(losses, dtype=float).reshape(-1, len(reference))
    inside = points[(points < np.asarray(reference)).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - inside.min())
    import moocore

    return float(moocore.hypervolume(inside, ref=np.asarray(reference, dtype=float)))
