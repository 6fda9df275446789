"""Exact expected hypervolume improvement of candidates whose costs are known and whose log-error is
Gaussian.

At every point of the cost space, let e be the smallest error of the front members that reach this
point, and the reference error if none does. A candidate with costs c and error y adds max(e - y, 0)
at each point of the box from c to the reference. The expected improvement is therefore the integral
of G(e) over that box, with G(x) = E[max(x - y, 0)]. The cost space splits into boxes of constant e,
once for all candidates. A candidate's share of each box is a product over the costs.

With two costs, front members are inserted by increasing error into a staircase, which makes at most
2 K boxes for K members. With more costs, the space is cut into slabs along the last cost, each of
which is a space of the other costs, and a box that stays the same through several slabs is kept as
one. The number of boxes grows with K to the power of the costs less one, therefore a front with
four costs or more is thinned.
"""

import math
from bisect import bisect_right, insort
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
Box = tuple[tuple[float, ...], tuple[float, ...], float]
"""Lower corner, upper corner, and the error there."""
BOXES_PER_BATCH = 2048
"""Number of boxes that all candidates are compared with in one array."""
MAX_EXACT_COSTS = 3
"""With more costs, the front is thinned to `MAX_MEMBERS`."""
MAX_MEMBERS = 40
"""Members of a thinned front, at equal steps in the order of their errors."""


def expected_shortfall(level: Array, mean: Array, deviation: Array) -> Array:
    """Return E[max(level - y, 0)] for log(y) ~ N(mean, deviation**2), with a positive `level`.

    The arguments broadcast. This is the value of a European put without discounting: Black &
    Scholes, J. Political Economy 81, 1973.
    """
    z = (np.log(level) - mean) / deviation
    return level * ndtr(z) - np.exp(mean + deviation**2 / 2) * ndtr(z - deviation)  # type: ignore[no-any-return]


def expected_improvement(
    *, mean: Array, deviation: Array, costs: Array, front: Array, reference: Array
) -> Array:
    """Return the expected hypervolume improvement of n candidates, (n,).

    `mean` and `deviation` (n,) are those of the logarithm of the error, `costs` have the shape
    (n, m), `front` (K, 1 + m) and `reference` (1 + m,) with the error first. Errors are positive.
    Dominated points in `front` do no harm.
    """
    inside = front[(front < reference).all(axis=1)]
    by_error = inside[np.argsort(inside[:, 0], kind="stable")]
    if len(reference) > MAX_EXACT_COSTS + 1:
        by_error = by_error[:: max(math.ceil(len(by_error) / MAX_MEMBERS), 1)]
    members = [tuple(member) for member in by_error.tolist()]
    without_front = expected_shortfall(reference[0], mean, deviation)
    total = without_front * np.maximum(reference[1:] - costs, 0.0).prod(axis=1)
    reached = list(boxes(members, tuple(reference[1:].tolist())))
    levels = np.array(sorted({level for _, _, level in reached}))
    # How much smaller G is at each level than at the reference
    less = without_front[:, None] - expected_shortfall(levels, mean[:, None], deviation[:, None])
    for start in range(0, len(reached), BOXES_PER_BATCH):
        batch = reached[start : start + BOXES_PER_BATCH]
        low, high, level = (np.array(part) for part in zip(*batch, strict=True))
        shared = np.ones((len(costs), len(low)))
        for i in range(costs.shape[1]):
            begins = np.maximum(low[:, i], costs[:, [i]])
            shared *= np.maximum(high[:, i] - begins, 0.0)
        total -= (shared * less[:, np.searchsorted(levels, level)]).sum(axis=1)
    return total  # type: ignore[no-any-return]


def boxes(members: list[tuple[float, ...]], reference: tuple[float, ...]) -> Iterator[Box]:
    """Yield disjoint boxes that make up the region of the costs that the members reach.

    Members are (error, cost, ...), by increasing error, each better than the reference. The
    reference has costs alone.
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
    """Yield the boxes that each member reaches and the members before it do not.

    A member adds one box for each stair that it hides, and one more.
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
    """Yield the boxes of a space of three costs or more."""
    edges = sorted({member[-1] for member in members})
    open_boxes: dict[Box, float] = {}
    reaching: list[tuple[float, ...]] = []
    for low in edges:
        for error, *costs, last in members:
            if last == low:
                insort(reaching, (error, *costs))
        current = dict.fromkeys(boxes(reaching, reference[:-1]), low)
        for box, since in open_boxes.items():
            if box in current:
                current[box] = since
            else:
                yield _raised(box, since, low)
        open_boxes = current
    for box, since in open_boxes.items():
        yield _raised(box, since, reference[-1])


def _raised(box: Box, low: float, high: float) -> Box:
    """Return the box with `low` and `high` as one more cost."""
    return (*box[0], low), (*box[1], high), box[2]
