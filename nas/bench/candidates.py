"""Brief trainings that `nas plan` compares, chosen by the measured speed so that they last equally
long.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nas.core.study import RungSpec

NETWORKS = 10
"""Number of networks for which the trainings are chosen so short that the time lasts."""
SEEDS = 2
"""Trainings of each network by each recipe."""
AMOUNTS = (1.0, 0.5)
"""Lengths of the trainings with images of one side, as shares of the longest. Full images, which
take longest, have the first only.
"""
YARDSTICK = 4.0
"""Length of the yardstick in longest trainings of a candidate."""
JUDGE_COST = 1 / 3
"""Judging an image takes about this share of a training step with it."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The speed of training: seconds for each image by the image's side, the full side first.

    `judges` images judge at the end of each training. No training has fewer images than `fewest`.
    """

    per_image_s: Mapping[int, float]
    judges: int
    fewest: int

    @property
    def sides(self) -> list[int]:
        """The sides of the images in pixels."""
        return list(self.per_image_s)

    def images(self, side: int, seconds: float) -> float:
        """Return the number of images with which a training and its judging take the seconds."""
        return seconds / self.per_image_s[side] - self.judges * JUDGE_COST

    def seconds(self, parts: Sequence[tuple[float, int]]) -> float:
        """Return the seconds of a training in parts, each with its images and their side."""
        return sum(
            (images + self.judges * JUDGE_COST) * self._per_image_s(side) for images, side in parts
        )

    def _per_image_s(self, side: int) -> float:
        """Return the seconds of an image; of a side that was not measured, in proportion to the
        pixels.
        """
        _, nearest = min((abs(measured - side), measured) for measured in self.sides)
        return self.per_image_s[nearest] * (side / nearest) ** 2

    def rung(self, side: int, seconds: float, before: int = 0) -> RungSpec:
        """Return the rung that is `seconds` after a rung at `before` images."""
        amount = float(f"{max(self.images(side, seconds), self.fewest):.2g}")
        return RungSpec(
            images=before + int(amount), image_size=None if side == self.sides[0] else side
        )


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The rungs of each candidate, those of the yardstick, and the longest candidate's seconds.

    `network_s` are the seconds of all trainings of a network. `without_full` is True if the time is
    too short for trainings with full images.
    """

    rungs: tuple[RungSpec, ...]
    yardstick: tuple[RungSpec, ...]
    longest_s: float
    network_s: float
    without_full: bool


def candidates(pace: Pace, total_s: float, most_s: float = math.inf) -> Candidates:
    """Return candidates of which `NETWORKS` networks are trained in `total_s`.

    Candidates last equally long, or half of that, but not longer than `most_s`. The yardstick
    spends half of its time on reduced images, and then half on full ones.
    """
    full, *reduced = pace.sides
    smaller = [(side, share) for side in reduced or [full] for share in AMOUNTS]
    parts = [(full, AMOUNTS[0]), *smaller] if reduced else smaller
    longest_s = _longest_s(parts, total_s, most_s)
    without_full = bool(reduced) and pace.images(full, longest_s) < pace.fewest
    if without_full:
        parts = smaller
        longest_s = _longest_s(parts, total_s, most_s)
    half_s = YARDSTICK / 2 * longest_s
    first = pace.rung([*reduced, full][0], half_s)
    last = pace.rung(full, half_s, before=int(first.amount))
    rungs = tuple(dict.fromkeys(pace.rung(side, share * longest_s) for side, share in parts))
    yardstick = (first, last) if reduced else (last,)
    seconds = [pace.seconds([(rung.amount, rung.side(full))]) for rung in rungs]
    return Candidates(
        rungs=rungs,
        yardstick=yardstick,
        longest_s=max(seconds),
        network_s=SEEDS * sum(seconds) + pace.seconds(_parts(yardstick, full)),
        without_full=without_full,
    )


def _parts(rungs: Sequence[RungSpec], full: int) -> list[tuple[float, int]]:
    """Return the images of each part of a training in rungs of images, and their side."""
    ends = [0.0, *(rung.amount for rung in rungs)]
    return [
        (end - start, rung.side(full))
        for rung, (start, end) in zip(rungs, pairwise(ends), strict=True)
    ]


def _longest_s(parts: Sequence[tuple[int, float]], total_s: float, most_s: float) -> float:
    """Return the seconds of the longest candidate."""
    units = SEEDS * sum(share for _, share in parts) + YARDSTICK
    return min(total_s / (NETWORKS * units), most_s)
