"""Mean and standard deviation of the pixels of a data set, from its histogram: exact and without a
float copy.
"""

import torch
from torch import Tensor

from nas.data import Channels


def channel_statistics(images: Tensor) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel of uint8 (N, 3, H, W), for pixels scaled to [0,
    1].

    A channel of one single value gets the standard deviation 1/255, one step of its scale.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten().to(torch.int64), minlength=256).double()
        share /= share.sum()
        mean = share @ levels
        means.append(mean.item())
        stds.append(max((share @ (levels - mean) ** 2).sqrt().item(), 1 / 255))
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
