"""Prior boxes: centres on a grid, sides by level. Boxes are (xmin, ymin, xmax, ymax), as shares of
the image's side.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Sides = Sequence[tuple[float, float]]
"""Widths and heights of the boxes of one cell, in pixels."""

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
"""Divisors of the offsets of centres and of the logarithms of sides."""
MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest logarithm of a box's side over its prior's (torchvision's bound), against overflow."""


def priors(
    maps: Sequence[tuple[int, int]], sides: Sequence[Sides], steps: Sequence[float], image_size: int
) -> Tensor:
    """Return the boxes (P, 4) of all maps in the order of map, row, column and side.

    `maps` are heights and widths. The centre of a cell is half a step from its corner. Boxes are
    not clipped.
    """
    parts = []
    for (height, width), here, step in zip(maps, sides, steps, strict=True):
        y, x = torch.meshgrid(
            (torch.arange(height) + 0.5) * step, (torch.arange(width) + 0.5) * step, indexing="ij"
        )
        centres = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)  # (H * W, 1, 2)
        halves = torch.tensor(here) / 2  # (boxes, 2)
        parts.append(torch.cat([centres - halves, centres + halves], dim=2).reshape(-1, 4))
    return torch.cat(parts) / image_size


def ssd_sizes(maps: int, image_size: int) -> list[int]:
    """Return the sides of the square boxes of `maps` maps and one more, in whole pixels.

    The first is a tenth of the image. From the second on they grow evenly from 20 % to about 90 %.
    """
    step = 70 // max(maps - 2, 1)
    shares = [10, *range(20, 20 + step * maps, step)]
    return [int(image_size * share / 100) for share in shares[: maps + 1]]


def ssd_sides(size: float, next_size: float, ratios: Sequence[float]) -> Sides:
    """Return the sides of SSD's boxes: two squares, then each ratio lying and standing."""
    between = math.sqrt(size * next_size)
    return [(size, size), (between, between), *stretched(size, ratios)]


def stretched(size: float, ratios: Sequence[float]) -> Sides:
    """Return boxes of the area `size` squared for each ratio: lying, then standing."""
    roots = [math.sqrt(ratio) for ratio in ratios]
    return [side for r in roots for side in ((size * r, size / r), (size / r, size * r))]


def encode(boxes: Tensor, at: Tensor) -> Tensor:
    """Return the targets (…, 4) of boxes at priors: offsets of centres and logarithms of sides."""
    size, prior = boxes[..., 2:] - boxes[..., :2], at[..., 2:] - at[..., :2]
    centre, middle = (boxes[..., 2:] + boxes[..., :2]) / 2, (at[..., 2:] + at[..., :2]) / 2
    offset = (centre - middle) / prior / CENTRE_VARIANCE
    return torch.cat([offset, (size / prior).log() / SIZE_VARIANCE], dim=-1)


def decode(deltas: Tensor, at: Tensor) -> Tensor:
    """Return the boxes (…, 4) that `encode` turns into `deltas` at these priors."""
    prior, middle = at[..., 2:] - at[..., :2], (at[..., 2:] + at[..., :2]) / 2
    centre = middle + deltas[..., :2] * CENTRE_VARIANCE * prior
    half = prior * (deltas[..., 2:] * SIZE_VARIANCE).clamp(max=MAX_LOG_SCALE).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)
