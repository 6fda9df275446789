"""Expected time of the next network, so that no network begins that would not end in time."""

import statistics
from collections import deque
from itertools import combinations

WINDOW = 30
"""Number of the latest networks from which the next one is estimated."""
MIN_NETWORKS = 3
"""Smallest number of networks from which the next one is estimated."""


class Pace:
    """Seconds that networks take from their start to their first rung, as `a + b * macs`.

    The constant part is measuring and what surrounds it, such as exporting (which is not recorded,
    so that networks of an earlier call count without it); training grows with the MACs. The line is
    that of Theil and Sen (b is the median of the slopes between two networks, a that of the rests),
    which single disturbed networks hardly move. Neither part is negative.
    """

    def __init__(self) -> None:
        self._networks: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def add(self, macs: float, seconds: float) -> None:
        """Take in a network that reached its first rung after so many seconds."""
        self._networks.append((macs, seconds))

    def expected_s(self, macs: float) -> float | None:
        """Return the expected seconds of a network, None before three networks are known."""
        if len(self._networks) < MIN_NETWORKS:
            return None
        slopes = [
            (seconds - other_s) / (own - other)
            for (own, seconds), (other, other_s) in combinations(self._networks, 2)
            if own != other
        ]
        through_zero = statistics.median(seconds / own for own, seconds in self._networks)
        per_mac = min(max(statistics.median(slopes or [0.0]), 0.0), through_zero)
        constant = statistics.median(seconds - per_mac * own for own, seconds in self._networks)
        return max(constant, 0.0) + per_mac * macs
