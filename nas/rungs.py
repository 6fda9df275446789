"""Whether a trial goes on after a rung, judged by all objectives at once. Pure functions on arrays of losses."""

import math

from numpy.typing import ArrayLike

from nas.pareto import ranks


def goes_on(losses: ArrayLike, index: int, keep: float, min_trials: int) -> bool:
    """Whether point `index` of the (n, m) losses of all trials that reached the rung belongs to the best `keep`.

    A point is kept where fewer than `ceil(keep * n)` points have a better non-dominated rank; so the whole front is
    always kept. With fewer than `min_trials` points everybody goes on.
    """
    order = ranks(losses)
    if len(order) < min_trials:
        return True
    better = int((order < order[index]).sum())
    return better < math.ceil(keep * len(order))
