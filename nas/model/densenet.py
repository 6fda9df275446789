"""DenseNets: those of ImageNet, DenseNet-40 for CIFAR, and DSOD's trunk; written from the papers'
specifications.

Huang et al., "Densely Connected Convolutional Networks", CVPR 2017: every layer (BatchNorm, ReLU,
convolution) reads all outputs before it. Names of parameters are torchvision's, so that state dicts
of its DenseNets load unchanged. DSOD's trunk ("DenseNet-67" in the VoVNet paper) is DS/64-64-16-1
of Shen et al., "DSOD", ICCV 2017.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """One layer: (N, in, H, W) to (N, growth, H, W); a 1x1 convolution to `bottleneck` channels
    first, 0 for none.
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
        """Apply it."""
        y: Tensor = self.conv1(self.relu(self.norm1(x)))
        if self.bottleneck:
            y = self.conv2(self.relu(self.norm2(y)))
        return y


class DenseBlock(nn.Module):
    """Layers of one resolution: (N, in, H, W) to (N, in + layers * growth, H, W), the input
    first.
    """

    def __init__(self, in_channels: int, layers: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        for index in range(layers):
            self.add_module(
                f"denselayer{index + 1}",
                DenseLayer(in_channels + index * growth, growth, bottleneck),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Transition(nn.Sequential):
    """BatchNorm, ReLU, 1x1 convolution, and a pool where the resolution changes."""

    def __init__(self, in_channels: int, out_channels: int, pool: nn.Module | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        if pool is not None:
            self.pool = pool


class DenseNet(nn.Module):
    """A DenseNet: stem, blocks with transitions between them, classifier; images (N, 3, H, W) to
    logits.

    `layers` are those of each block; `bottleneck` is the 1x1 convolutions' width, 0 for none; a
    transition keeps the share `compression` of its channels. With `small_images` the stem is one
    3x3 convolution that keeps the resolution, else ImageNet's 7x7 with stride 2 and a pool.
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
                kept = int(channels * compression)
                self.features.add_module(
                    f"transition{index - 1}", Transition(channels, kept, nn.AvgPool2d(2))
                )
                channels = kept
            self.features.add_module(
                f"denseblock{index}", DenseBlock(channels, number, growth, bottleneck)
            )
            channels += number * growth
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(channels, num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (N, num_classes)."""
        y: Tensor = self.classifier(self.relu(self.features(x)).mean((2, 3)))
        return y


def densenet40(num_classes: int = 10) -> DenseNet:
    """DenseNet-40 with growth 12 for images of 32x32 pixels: three blocks of twelve 3x3
    convolutions.
    """
    return DenseNet(
        growth=12, layers=(12, 12, 12), stem_channels=16, small_images=True, num_classes=num_classes
    )


class DsodTrunk(nn.Sequential):
    """DSOD's DS/64-64-16-1 up to its fourth transition: 67 convolutions, (N, 3, H, W) to 256
    maps.
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
        for layers, kept, halved in (
            (6, 224, True),
            (8, 352, True),
            (8, 480, False),
            (8, 256, False),
        ):
            self.append(DenseBlock(channels, layers, growth=16, bottleneck=64))
            pool = nn.MaxPool2d(2, 2, ceil_mode=True) if halved else None
            self.append(Transition(channels + 16 * layers, kept, pool))
            channels = kept
        self.apply(_initialise)


def _initialise(module: nn.Module) -> None:
    """Kaiming's normal for convolutions; torch's default is right for BatchNorm."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
