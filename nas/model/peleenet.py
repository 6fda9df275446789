"""PeleeNet, a DenseNet for small devices, written from Wang et al., "Pelee", NeurIPS 2018.

Every layer has two paths, with one and with two 3x3 convolutions. The stem has two branches,
transitions keep their channels, and each convolution is followed by BatchNorm and ReLU.
"""

import torch
from torch import Tensor, nn

from nas.model.vovnet import ConvNormAct

GROWTH = 32
"""Channels that a layer adds."""
STEM_CHANNELS = 32
"""Output channels of the stem."""
LAYERS = (3, 4, 8, 6)
"""Number of layers of each stage."""
BOTTLENECKS = (1, 2, 4, 4)
"""Channels of each stage's 1x1 convolutions, as multiples of half the growth."""


class PeleeStem(nn.Module):
    """The stem, (N, 3, H, W) to (N, 32, H/4, W/4): a strided convolution beside a max pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvNormAct(3, STEM_CHANNELS, 3, 2)
        self.strided = nn.Sequential(
            ConvNormAct(STEM_CHANNELS, STEM_CHANNELS // 2),
            ConvNormAct(STEM_CHANNELS // 2, STEM_CHANNELS, 3, 2),
        )
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.last = ConvNormAct(2 * STEM_CHANNELS, STEM_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        x = self.first(x)
        y: Tensor = self.last(torch.cat([self.strided(x), self.pool(x)], dim=1))
        return y


class TwoWayLayer(nn.Module):
    """One layer, (N, in, H, W) to (N, in + 32, H, W).

    The output is the input, 16 channels of one 3x3 convolution and 16 channels of two in a row.
    """

    def __init__(self, in_channels: int, bottleneck: int) -> None:
        super().__init__()
        half = GROWTH // 2
        width = half * bottleneck
        if width > in_channels // 2:
            width = in_channels // 8 * 4
        self.short = nn.Sequential(ConvNormAct(in_channels, width), ConvNormAct(width, half, 3))
        self.long = nn.Sequential(
            ConvNormAct(in_channels, width), ConvNormAct(width, half, 3), ConvNormAct(half, half, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        return torch.cat([x, self.short(x), self.long(x)], dim=1)


class PeleeNet(nn.Module):
    """PeleeNet from images (N, 3, H, W) to logits (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(PeleeStem())
        channels = STEM_CHANNELS
        for stage, (layers, bottleneck) in enumerate(zip(LAYERS, BOTTLENECKS, strict=True)):
            for _ in range(layers):
                self.features.append(TwoWayLayer(channels, bottleneck))
                channels += GROWTH
            self.features.append(ConvNormAct(channels, channels))
            if stage < len(LAYERS) - 1:
                self.features.append(nn.AvgPool2d(2))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes)."""
        y: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return y
