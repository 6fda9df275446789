"""Mean and standard deviation of a data set's pixels, computed exactly from their histogram.

This needs no copy of the pixels as floating-point numbers.
"""

import torch
from torch import Tensor

from nas.data import Channels

IMAGES_AT_ONCE = 256
"""Images whose pixels are 64-bit integers at once."""


def channel_statistics(images: Tensor) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of each channel of uint8 (N, 3, H, W), scaled to [0, 1].

    A channel with a single value has the standard deviation 1/255, one step of its scale.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        counts = torch.zeros(256, dtype=torch.int64)
        for part in torch.split(channel, IMAGES_AT_ONCE):
            counts += torch.bincount(part.flatten().to(torch.int64), minlength=256)
        share = counts.double()
        share /= share.sum()
        mean = share @ levels
        means.append(mean.item())
        stds.append(max((share @ (levels - mean) ** 2).sqrt().item(), 1 / 255))
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
