"""Expected hypervolume improvement of a candidate whose costs are known and whose error is Gaussian: exact.

For a front of errors e_1 <= ... <= e_K and a reference (r, r_c), a candidate of costs c whose error comes out as e
improves the hypervolume by the sum over k of A_k(c) times the length of what [e, r] and [e_k, e_(k+1)) share, with
e_0 = -inf, e_(K+1) = r and A_k(c) the volume of the cost box [c, r_c] that the first k members leave undominated. With
G(x) = E[max(x - e, 0)] the expectation is the sum of A_k(c) * (G(e_(k+1)) - G(e_k)), G(e_0) = 0: without sampling.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]


def expected_shortfall(level: Array, mean: Array, deviation: Array) -> Array:
    """E[max(level - e, 0)] for e ~ N(mean, deviation**2); the arguments broadcast."""
    z = (level - mean) / deviation
    return (level - mean) * ndtr(z) + deviation * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)  # type: ignore[no-any-return]


def expected_improvement(*, mean: Array, deviation: Array, costs: Array, front: Array, reference: Array) -> Array:
    """Of n candidates, shape (n,).

    `mean` and `deviation` (n,) of the error, `costs` (n, m); `front` (K, 1 + m), error first, dominated points are no
    harm; `reference` (1 + m,).
    """
    inside = front[(front < reference).all(axis=1)]
    inside = inside[np.argsort(inside[:, 0], kind="stable")]
    levels = np.append(inside[:, 0], reference[0])
    shortfall = expected_shortfall(levels, mean[:, None], deviation[:, None])
    gains = np.diff(shortfall, axis=1, prepend=0.0)
    return (volumes(costs, inside[:, 1:], reference[1:]) * gains).sum(axis=1)  # type: ignore[no-any-return]


def volumes(costs: Array, members: Array, reference: Array) -> Array:
    """The volume of each box [costs, reference] that the first k members do not dominate, k = 0..K: (n, K + 1)."""
    dimensions = len(reference)
    if dimensions == 1:
        least = np.minimum.accumulate(np.append(reference, members[:, 0]))
        return np.maximum(least - costs, 0.0)
    if dimensions == 2:
        return _areas(costs, members, reference)
    edges = np.append(np.unique(members[:, -1]), reference[-1])
    last = costs[:, -1:]
    total = np.maximum(edges[0] - last, 0.0) * np.maximum(reference[:-1] - costs[:, :-1], 0.0).prod(axis=1)[:, None]
    total = np.repeat(total, len(members) + 1, axis=1)
    for low, high in pairwise(edges):  # a slab, in which some members reach
        here = np.where(members[:, -1:] <= low, members[:, :-1], reference[:-1])
        total += np.maximum(high - np.maximum(low, last), 0.0) * volumes(costs[:, :-1], here, reference[:-1])
    return total


def _areas(costs: Array, members: Array, reference: Array) -> Array:
    """`volumes` for two costs: the members' coordinates make a grid, the area is bilinear within its cells."""
    costs = np.minimum(costs, reference)
    lowest = costs.min(axis=0)
    x, y = (np.unique(np.concatenate([[lowest[i]], np.clip(members[:, i], lowest[i], reference[i]), [reference[i]]]))
            for i in (0, 1))
    if len(x) == 1 or len(y) == 1:
        return np.zeros((len(costs), len(members) + 1))
    dominated = (members[:, 0] <= x[:-1, None])[:, None, :] & (members[:, 1] <= y[:-1, None])[None, :, :]
    free = np.ones((len(x) - 1, len(y) - 1, len(members) + 1))
    free[..., 1:] = ~np.logical_or.accumulate(dominated, axis=2)
    free *= (np.diff(x)[:, None] * np.diff(y))[..., None]
    table = np.zeros((len(x), len(y), len(members) + 1))  # from this corner to the reference
    table[:-1, :-1] = free[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    i, s = _cell(x, costs[:, 0])
    j, t = _cell(y, costs[:, 1])
    low = (1 - s) * table[i, j] + s * table[i + 1, j]
    high = (1 - s) * table[i, j + 1] + s * table[i + 1, j + 1]
    return (1 - t) * low + t * high


def _cell(edges: Array, values: Array) -> tuple[NDArray[np.int64], Array]:
    """In which cell each value lies, and how far in it from 0 to 1, as a column."""
    index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return index, ((values - edges[index]) / (edges[index + 1] - edges[index]))[:, None]
