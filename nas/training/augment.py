"""Augmentation as pure functions of a batch and a random generator, without a loop over images.

Batches are (N, C, H, W). The generator lies on the batch's device. The same generator state gives
the same result.
"""

import torch
from torch import Tensor

from nas.data import Channels


def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    mirrored = torch.rand(len(batch), 1, 1, 1, device=batch.device, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(-1), batch)


def shift(batch: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Move each image by its own whole number of pixels and reflect the border.

    `down` and `right` are (N,) int64. Pixel (y, x) of the result is pixel (y - down, x - right) of
    the image, mirrored at the outermost pixels. Shifts must be smaller than the image.
    """
    height, width = batch.shape[-2:]
    rows = _reflected(torch.arange(height, device=batch.device) - down[:, None], height)  # (N, H)
    columns = _reflected(torch.arange(width, device=batch.device) - right[:, None], width)  # (N, W)
    source = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)  # (N, H * W)
    pixels = batch.flatten(2)  # (N, C, H * W)
    return pixels.gather(2, source[:, None].expand_as(pixels)).view_as(batch)


def translate(batch: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Pad by reflection and crop at random: move each image by up to `pixels` in both directions,
    with the same probability for each shift.
    """
    size = 2, len(batch)
    shifts = torch.randint(-pixels, pixels + 1, size, device=batch.device, generator=generator)
    return shift(batch, *shifts)


def cutout(batch: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set a square of `side` pixels to zero in each image. Its centre may lie anywhere, so at the
    border only a part of the square is inside.
    """
    height, width = batch.shape[-2:]
    centre = torch.rand(2, len(batch), 1, device=batch.device, generator=generator)
    rows = _near(centre[0], height, side)[:, None, :, None]
    columns = _near(centre[1], width, side)[:, None, None, :]
    return batch.masked_fill(rows & columns, 0)


class Normalisation:
    """Converts uint8 images to (pixel / 255 - mean) / std for each channel, in a type and layout.

    The constants are sent to the device once: a tensor made of numbers in each training step would
    be a copy that waits for the device. The arithmetic is in fp32 whatever the type, since bf16 has
    only 8 bits of mantissa. The layout comes last: on a CPU, scaling three channels side by side
    takes eight times as long.
    """

    def __init__(
        self,
        mean: Channels,
        std: Channels,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        scales = [1 / (255 * s) for s in std]
        offsets = [-m / s for m, s in zip(mean, std, strict=True)]
        self._scale = torch.tensor(scales, dtype=torch.float32, device=device).view(-1, 1, 1)
        self._offset = torch.tensor(offsets, dtype=torch.float32, device=device).view(-1, 1, 1)
        self._dtype, self._memory_format = dtype, memory_format

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in floating point."""
        scaled = batch.to(torch.float32).mul_(self._scale).add_(self._offset)
        return scaled.to(self._dtype, memory_format=self._memory_format)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Mirror indices outside of 0 to size - 1 at these ends: -1 is 1, size is size - 2."""
    last = size - 1
    return last - (last - index.abs()).abs()


def _near(centre: Tensor, size: int, side: int) -> Tensor:
    """Return (N, size): true for the `side` of `size` pixels around `centre`, a share in [0, 1)."""
    start = (centre * size).long() - side // 2
    offset = torch.arange(size, device=centre.device) - start
    return (offset >= 0) & (offset < side)
