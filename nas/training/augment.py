"""Augmentation as pure functions: a batch and a random generator in, a new batch out. No loop over
images.

Batches are (N, C, H, W); the generator lies on the batch's device. The same generator state gives
the same result.
"""

import torch
from torch import Tensor

from nas.data import Channels


def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    mirrored = torch.rand(len(batch), 1, 1, 1, device=batch.device, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(-1), batch)


def shift(batch: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image moved by its own whole number of pixels, `down` and `right` (N,) int64, the border
    reflected.

    Pixel (y, x) of the result is pixel (y - down, x - right) of the image, mirrored at the
    outermost pixels; shifts must be smaller than the image.
    """
    height, width = batch.shape[-2:]
    rows = _reflected(torch.arange(height, device=batch.device) - down[:, None], height)  # (N, H)
    columns = _reflected(torch.arange(width, device=batch.device) - right[:, None], width)  # (N, W)
    source = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)  # (N, H * W)
    pixels = batch.flatten(2)  # (N, C, H * W)
    return pixels.gather(2, source[:, None].expand_as(pixels)).view_as(batch)


def translate(batch: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `pixels` in both directions, all shifts alike: pad by reflection,
    crop at random.
    """
    down, right = torch.randint(
        -pixels, pixels + 1, (2, len(batch)), device=batch.device, generator=generator
    )
    return shift(batch, down, right)


def cutout(batch: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """In each image a square of `side` pixels, its centre anywhere, set to zero; at the border a
    part of it.
    """
    height, width = batch.shape[-2:]
    centre = torch.rand(2, len(batch), 1, device=batch.device, generator=generator)
    rows = _near(centre[0], height, side)[:, None, :, None]
    columns = _near(centre[1], width, side)[:, None, None, :]
    return batch.masked_fill(rows & columns, 0)


def normalise(
    batch: Tensor,
    mean: Channels,
    std: Channels,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> Tensor:
    """uint8 to floating point: (pixel / 255 - mean) / std for each channel, in this layout.

    The layout comes last: on a CPU, scaling three channels side by side takes eight times as long.
    """
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=dtype, device=batch.device).view(
        -1, 1, 1
    )
    offset = torch.tensor(
        [-m / s for m, s in zip(mean, std, strict=True)], dtype=dtype, device=batch.device
    ).view(-1, 1, 1)
    return batch.to(dtype).mul_(scale).add_(offset).contiguous(memory_format=memory_format)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Indices beyond 0 and size - 1 mirrored there: -1 is 1, size is size - 2."""
    last = size - 1
    return last - (last - index.abs()).abs()


def _near(centre: Tensor, size: int, side: int) -> Tensor:
    """Whether each of `size` pixels lies within the `side` pixels around `centre` in [0, 1): (N,
    size).
    """
    start = (centre * size).long() - side // 2
    offset = torch.arange(size, device=centre.device) - start
    return (offset >= 0) & (offset < side)
