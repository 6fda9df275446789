"""VoVNet, V1 and V2, as one torch module that is built from plain values.

The design is by Lee et al., "An Energy and GPU-Computation Efficient Backbone Network for Real-Time
Object Detection", CVPRW 2019 (VoVNet), and Lee & Park, "CenterMask", CVPR 2020 (VoVNetV2: identity
and eSE). The modules are plain Conv2d, BatchNorm2d and ReLU with timm's names, so that state dicts
load into timm's VovNet and back unchanged, with the same outputs bit for bit. This file imports
nothing but torch, because exported networks contain a copy of it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

STEM_STRIDES = {"cifar": (1, 1, 1), "code": (2, 1, 2), "paper": (2, 1, 1)}
"""Strides of the stem's three convolutions. The paper's stem ends in a max pool, which the first
stage has as its `pool`.
"""
ATTENTIONS = ("none", "last", "all")
"""Blocks of a stage that have channel attention."""
POOL_PADDINGS = ("ceil", "same")
"""Paddings of the max pools: none with sizes rounded up, or 1."""


def _require(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm and ReLU, (N, in, H, W) to (N, out, H/stride, W/stride).

    Sizes are rounded up.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class SeparableConvNormAct(nn.Module):
    """The same as `ConvNormAct`, with a depthwise and a 1x1 convolution in a row."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            stride,
            kernel_size // 2,
            groups=in_channels,
            bias=False,
        )
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        y: Tensor = self.act(self.bn(self.conv_pw(self.conv_dw(x))))
        return y


class EffectiveSe(nn.Module):
    """Channel attention of VoVNetV2 (eSE).

    Each channel is scaled by the hard sigmoid of one dense layer on the means of all channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels, (N, C, H, W) to the same shape."""
        y = self.fc(x.mean((2, 3), keepdim=True))  # (N, C, 1, 1)
        return x * F.hardsigmoid(y)  # relu6(y + 3) / 6


class OsaBlock(nn.Module):
    """One-shot aggregation: a chain of convolutions, and a 1x1 convolution of all their outputs and
    the input, concatenated once.

    Separable convolutions keep their number of channels. If the input has another number, a 1x1
    reduction comes first; the aggregation takes the input before the reduction.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        mid_channels: int,
        out_channels: int,
        num_layers: int,
        kernel_size: int,
        depthwise: bool,
        attention: bool,
        residual: bool,
    ) -> None:
        super().__init__()
        reduced = depthwise and in_channels != mid_channels
        self.conv_reduction = ConvNormAct(in_channels, mid_channels) if reduced else None
        layer = SeparableConvNormAct if depthwise else ConvNormAct
        widths = [mid_channels if reduced else in_channels] + [mid_channels] * (num_layers - 1)
        self.conv_mid = nn.ModuleList(layer(width, mid_channels, kernel_size) for width in widths)
        self.conv_concat = ConvNormAct(in_channels + num_layers * mid_channels, out_channels)
        self.attn = EffectiveSe(out_channels) if attention else None
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Aggregate, (N, in, H, W) to (N, out, H, W)."""
        y: Tensor = x if self.conv_reduction is None else self.conv_reduction(x)
        features = [x]
        for layer in self.conv_mid:
            y = layer(y)
            features.append(y)
        y = self.conv_concat(torch.cat(features, dim=1))
        if self.attn is not None:
            y = self.attn(y)
        return y + x if self.residual else y


class OsaStage(nn.Module):
    """All blocks of one resolution: a max pool if the resolution changes, then OSA blocks."""

    def __init__(
        self,
        in_channels: int,
        *,
        mid_channels: int,
        out_channels: int,
        num_layers: int,
        num_blocks: int,
        kernel_size: int,
        pool: nn.Module | None,
        depthwise: bool,
        attention: str,
        residual: bool,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.blocks = nn.Sequential(
            *(
                OsaBlock(
                    out_channels if index else in_channels,
                    mid_channels=mid_channels,
                    out_channels=out_channels,
                    num_layers=num_layers,
                    kernel_size=kernel_size,
                    depthwise=depthwise,
                    attention=attention == "all"
                    or (attention == "last" and index == num_blocks - 1),
                    residual=residual and index > 0,
                )
                for index in range(num_blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stage, (N, in, H, W) to (N, out, H', W')."""
        y: Tensor = self.blocks(x if self.pool is None else self.pool(x))
        return y


class Head(nn.Module):
    """Global average and classifier, (N, C, H, W) to (N, num_classes); 0 classes give (N, C)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, num_classes) if num_classes else None

    def forward(self, x: Tensor) -> Tensor:
        """Classify the mean of all positions."""
        y: Tensor = x.mean((2, 3))  # (N, C)
        if self.fc is not None:
            y = self.fc(y)
        return y


class VoVNet(nn.Module):
    """One network of the OSA design space: stem, stages, classifier.

    The values are those of the architecture's JSON:

    * `stages` are mappings of `mid_channels`, `out_channels`, `num_layers`, `num_blocks` and
      `kernel_size`.
    * `stem` is cifar, code or paper.
    * `attention` puts eSE in no block, in the last block of each stage, or in all.
    * `residual` adds a block's input to its output, from the second block of a stage on.
    * `depthwise` makes all 3x3 and 5x5 convolutions but the first one separable.
    * `pool_padding` is ceil (no padding, sizes rounded up) or same (padding 1).
    * `num_classes` 0 leaves the classifier out.

    `feature_info` holds the channels of each stage, its reduction (image pixels per feature pixel)
    and its name. Raises `ValueError` for an unknown setting.
    """

    def __init__(
        self,
        *,
        stem_channels: Sequence[int],
        stages: Sequence[Mapping[str, int]],
        stem: str = "code",
        residual: bool = False,
        depthwise: bool = False,
        attention: str = "none",
        pool_padding: str = "ceil",
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        _require("stem", stem, tuple(STEM_STRIDES))
        _require("attention", attention, ATTENTIONS)
        _require("pool_padding", pool_padding, POOL_PADDINGS)
        first, second, third = STEM_STRIDES[stem]
        separable = SeparableConvNormAct if depthwise else ConvNormAct
        self.stem = nn.Sequential(
            ConvNormAct(3, stem_channels[0], 3, first),
            separable(stem_channels[0], stem_channels[1], 3, second),
            separable(stem_channels[1], stem_channels[2], 3, third),
        )
        self.stages = nn.Sequential()
        self.feature_info: list[dict[str, int | str]] = []
        channels, reduction = stem_channels[2], first * second * third
        for index, values in enumerate(stages):
            pool = _pool(pool_padding) if index or stem == "paper" else None
            self.stages.append(
                OsaStage(
                    channels,
                    **values,
                    pool=pool,
                    depthwise=depthwise,
                    attention=attention,
                    residual=residual,
                )
            )
            channels, reduction = values["out_channels"], reduction * (1 if pool is None else 2)
            self.feature_info.append(
                {"num_chs": channels, "reduction": reduction, "module": f"stages.{index}"}
            )
        self.num_features = channels
        self.num_classes = num_classes
        self.head = Head(channels, num_classes)
        self.apply(_initialise)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the outputs (N, C, H, W) of all stages for images (N, 3, H, W), highest resolution
        first.
        """
        features = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, 3, H, W), or (N, C) for 0 classes."""
        y: Tensor = self.head(self.stages(self.stem(x)))
        return y


def _pool(padding: str) -> nn.Module:
    """Return a 3x3 max pool that halves the resolution.

    Sizes are rounded up, except odd ones without padding.
    """
    if padding == "ceil":
        return nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.MaxPool2d(3, 2, padding=1)


def _initialise(module: nn.Module) -> None:
    """Initialise a convolution by Kaiming's normal.

    Other modules keep torch's default, by which BatchNorm starts as the identity.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
