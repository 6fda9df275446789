"""DenseNets for ImageNet, DenseNet-40 for CIFAR, and DSOD's trunk, written from the papers.

Huang et al., "Densely Connected Convolutional Networks", CVPR 2017: every layer (BatchNorm, ReLU,
convolution) reads all earlier outputs. Parameters have torchvision's names, so that state dicts of
its DenseNets load unchanged. DSOD's trunk ("DenseNet-67" in the VoVNet paper) is DS/64-64-16-1 of
Shen et al., "DSOD", ICCV 2017.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """One layer, (N, in, H, W) to (N, growth, H, W).

    A 1x1 convolution to `bottleneck` channels comes first; 0 leaves it out.
    """

    def __init__(self, in_channels: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.norm1 = nn.BatchNorm2d(in_channels)
        if bottleneck:
            self.conv1 = nn.Conv2d(in_channels, bottleneck, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(bottleneck)
            self.conv2 = nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)
        self.bottleneck = bottleneck

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        y: Tensor = self.conv1(self.relu(self.norm1(x)))
        if self.bottleneck:
            y = self.conv2(self.relu(self.norm2(y)))
        return y


class DenseBlock(nn.Module):
    """The layers of one resolution, (N, in, H, W) to (N, in + layers * growth, H, W).

    The first channels of the output are the input.
    """

    def __init__(self, in_channels: int, layers: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        for index in range(layers):
            self.add_module(
                f"denselayer{index + 1}",
                DenseLayer(in_channels + index * growth, growth, bottleneck),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Transition(nn.Sequential):
    """BatchNorm, ReLU, 1x1 convolution, and a pool if the resolution changes."""

    def __init__(self, in_channels: int, out_channels: int, pool: nn.Module | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        if pool is not None:
            self.pool = pool


class DenseNet(nn.Module):
    """A DenseNet from images (N, 3, H, W) to logits: stem, blocks with transitions, classifier.

    * `layers` holds the number of layers of each block.
    * `bottleneck` is the number of channels of the 1x1 convolutions; 0 leaves them out.
    * `compression` is the share of its channels that a transition keeps.
    * With `small_images`, the stem is one 3x3 convolution that keeps the resolution. Otherwise it
      is ImageNet's 7x7 convolution of stride 2 with a pool.
    """

    def __init__(
        self,
        *,
        growth: int,
        layers: Sequence[int],
        stem_channels: int,
        bottleneck: int = 0,
        compression: float = 1.0,
        small_images: bool = False,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        if small_images:
            self.features.add_module("conv0", nn.Conv2d(3, stem_channels, 3, padding=1, bias=False))
        else:
            self.features.add_module("conv0", nn.Conv2d(3, stem_channels, 7, 2, 3, bias=False))
            self.features.add_module("norm0", nn.BatchNorm2d(stem_channels))
            self.features.add_module("relu0", nn.ReLU(inplace=True))
            self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        channels = stem_channels
        for index, number in enumerate(layers, start=1):
            if index > 1:
                compressed = int(channels * compression)
                self.features.add_module(
                    f"transition{index - 1}", Transition(channels, compressed, nn.AvgPool2d(2))
                )
                channels = compressed
            self.features.add_module(
                f"denseblock{index}", DenseBlock(channels, number, growth, bottleneck)
            )
            channels += number * growth
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(channels, num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes)."""
        y: Tensor = self.classifier(self.relu(self.features(x)).mean((2, 3)))
        return y


def densenet40(num_classes: int = 10) -> DenseNet:
    """Build DenseNet-40 with growth 12 for 32x32 pixels: 3 blocks of 12 convolutions, all 3x3."""
    return DenseNet(
        growth=12, layers=(12, 12, 12), stem_channels=16, small_images=True, num_classes=num_classes
    )


class DsodTrunk(nn.Sequential):
    """DSOD's DS/64-64-16-1 up to its fourth transition, from images (N, 3, H, W) to 256 channels.

    It has 67 convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        for index, (read, written, stride) in enumerate(((3, 64, 2), (64, 64, 1), (64, 128, 1))):
            self.append(nn.Conv2d(read, written, 3, stride, 1, bias=False))
            self.append(nn.BatchNorm2d(written))
            self.append(nn.ReLU(inplace=True))
            if index == 2:
                self.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        channels = 128
        for layers, out_channels, is_halved in (
            (6, 224, True),
            (8, 352, True),
            (8, 480, False),
            (8, 256, False),
        ):
            self.append(DenseBlock(channels, layers, growth=16, bottleneck=64))
            pool = nn.MaxPool2d(2, 2, ceil_mode=True) if is_halved else None
            self.append(Transition(channels + 16 * layers, out_channels, pool))
            channels = out_channels
        self.apply(_initialise)


def _initialise(module: nn.Module) -> None:
    """Initialise a convolution by Kaiming's normal. BatchNorm keeps torch's default."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
