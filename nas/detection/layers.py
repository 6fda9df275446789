"""Layers that the paper's detectors share: (N, in, H, W) to (N, out, H', W')."""

import torch
from torch import Tensor, nn

from nas.model.vovnet import ConvNormAct

NORM_EPS = 1e-10
"""Added to the squared length of a position's channels, inside the root."""
INITIAL_SCALE = 20.0
"""Initial value of the learned length of normalised channels."""


class NormActConv(nn.Sequential):
    """BatchNorm, ReLU and a convolution without bias (pre-activation)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1
    ) -> None:
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
        )


class ConvNorm(nn.Sequential):
    """A convolution without bias, and BatchNorm with epsilon `eps`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels, eps),
        )


class Down(nn.Module):
    """DSOD's down-sampling to half the resolution, rounded up, with 2 * `growth` channels.

    The first half of the output is pooled, and the second half is convolved with stride 2.
    """

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.pooled = nn.Sequential(
            nn.MaxPool2d(2, 2, ceil_mode=True), NormActConv(in_channels, growth)
        )
        self.learned = nn.Sequential(
            NormActConv(in_channels, growth), NormActConv(growth, growth, 3, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        return torch.cat([self.pooled(x), self.learned(x)], dim=1)


class ChannelNorm(nn.Module):
    """Scale the channels of each position to length 1, then by a learned factor per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; the shape does not change."""
        length = (x.square().sum(1, keepdim=True) + NORM_EPS).sqrt()  # (N, 1, H, W)
        return x / length * self.scale[:, None, None]


class Residual(nn.Module):
    """A residual block with projection: 1x1 to `mid`, 3x3, and 1x1 to `out` channels.

    The stride is that of the first convolution and of the projection.
    """

    def __init__(self, in_channels: int, mid: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.shortcut = ConvNorm(in_channels, out_channels, 1, stride)
        self.branch = nn.Sequential(
            ConvNormAct(in_channels, mid, 1, stride),
            ConvNormAct(mid, mid, 3),
            ConvNorm(mid, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        return torch.relu(self.shortcut(x) + self.branch(x))


def flattened(x: Tensor, values: int) -> Tensor:
    """Return a predictor's output (N, boxes * values, H, W) as (N, H * W * boxes, values)."""
    n = x.shape[0]
    return x.permute(0, 2, 3, 1).reshape(n, -1, values)
