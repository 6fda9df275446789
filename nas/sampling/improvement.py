"""Expected hypervolume improvement of a candidate whose costs are known and whose log-error is
Gaussian: exact.

Above every point of the space of costs stands the least error e of the front members that reach it,
the reference's where none does. A candidate of costs c whose error comes out as y adds, at each
point of the box from c to the reference, max(e - y, 0). So the expectation is the integral of G(e)
over that box, with G(x) = E[max(x - y, 0)]. The space falls into boxes of one e each, once for all
candidates; what each shares with a candidate's box is a product.

Two costs: the front is inserted by increasing error into a staircase, which makes at most 2 K boxes
of K members. Three: slabs along the last cost, with boxes that stay the same through several slabs
joined.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
Box = tuple[tuple[float, ...], tuple[float, ...], float]
"""Lower and upper corner, and the error there."""
AT_ONCE = 2048
"""Boxes that all candidates are compared with in one array."""


def expected_shortfall(level: Array, mean: Array, deviation: Array) -> Array:
    """E[max(level - y, 0)] for log(y) ~ N(mean, deviation**2), `level` positive; the arguments
    broadcast.

    A European put's value where nothing is discounted: Black & Scholes, J. Political Economy 81,
    1973.
    """
    z = (np.log(level) - mean) / deviation
    return level * ndtr(z) - np.exp(mean + deviation**2 / 2) * ndtr(z - deviation)  # type: ignore[no-any-return]


def expected_improvement(
    *, mean: Array, deviation: Array, costs: Array, front: Array, reference: Array
) -> Array:
    """Of n candidates, shape (n,).

    `mean` and `deviation` (n,) of the logarithm of the error, `costs` (n, m); `front` (K, 1 + m),
    error first, dominated points are no harm; `reference` (1 + m,). Errors are positive.
    """
    inside = front[(front < reference).all(axis=1)]
    members = [tuple(member) for member in inside[np.argsort(inside[:, 0], kind="stable")].tolist()]
    most = expected_shortfall(reference[0], mean, deviation)
    total = most * np.maximum(reference[1:] - costs, 0.0).prod(axis=1)
    found = list(boxes(members, tuple(reference[1:].tolist())))
    levels = np.array(sorted({level for _, _, level in found}))
    less = most[:, None] - expected_shortfall(
        levels, mean[:, None], deviation[:, None]
    )  # by how much G falls there
    for start in range(0, len(found), AT_ONCE):
        low, high, level = (
            np.array(part) for part in zip(*found[start : start + AT_ONCE], strict=True)
        )
        shared = np.ones((len(costs), len(low)))
        for i in range(costs.shape[1]):
            shared *= np.maximum(high[:, i] - np.maximum(low[:, i], costs[:, [i]]), 0.0)
        total -= (shared * less[:, np.searchsorted(levels, level)]).sum(axis=1)
    return total  # type: ignore[no-any-return]


def boxes(members: list[tuple[float, ...]], reference: tuple[float, ...]) -> Iterator[Box]:
    """Disjoint boxes that make up what the members reach of the space of 1 to 3 costs.

    Members are (error, cost, ...), by increasing error, each better than the reference, which is of
    costs alone.
    """
    if len(reference) == 1:
        right = reference[0]
        for error, x in members:
            if x < right:
                yield (x,), (right,), error
                right = x
    elif len(reference) == 2:
        yield from _staircase(members, reference)
    else:
        yield from _slabs(members, reference)


def _staircase(members: list[tuple[float, ...]], reference: tuple[float, ...]) -> Iterator[Box]:
    """What each member reaches and those before it do not: a box for each stair that it hides, and
    one more.
    """
    xs, ys = [-np.inf, reference[0]], [reference[1], -np.inf]  # x rises, y falls
    for error, x, y in members:
        first = bisect_right(xs, x)
        top = ys[first - 1]
        if top <= y:
            continue
        left = x
        while True:
            right = xs[first]
            yield (left, y), (right, top), error
            top, left = ys[first], right
            if top <= y:
                break
            del xs[first], ys[first]
        if xs[first - 1] == x:
            ys[first - 1] = y
        else:
            xs.insert(first, x)
            ys.insert(first, y)


def _slabs(members: list[tuple[float, ...]], reference: tuple[float, ...]) -> Iterator[Box]:
    """Of the space of three costs."""
    edges = sorted({member[-1] for member in members})
    begun: dict[Box, float] = {}
    reaching: list[tuple[float, ...]] = []
    for low in edges:
        for error, *costs, last in members:
            if last == low:
                insort(reaching, (error, *costs))
        here = dict.fromkeys(_staircase(reaching, reference[:-1]), low)
        yield from (_up(box, since, low) for box, since in begun.items() if box not in here)
        begun = here | {box: since for box, since in begun.items() if box in here}
    yield from (_up(box, low, reference[-1]) for box, low in begun.items())


def _up(box: Box, low: float, high: float) -> Box:
    """With one more cost."""
    return (*box[0], low), (*box[1], high), box[2]
