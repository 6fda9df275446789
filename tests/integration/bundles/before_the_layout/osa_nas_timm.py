"""OSA networks as a timm architecture: importing this module registers `osa_vovnet`, which timm then loads by
`timm.create_model("local-dir:FOLDER", pretrained=True)`, `hf-hub:` and `features_only=True` included.

For networks that stock timm's VovNet cannot express. Weights have the same names. As in timm, feature 0 is the stem's
and features 1 to the number of stages are the stages', so `out_indices=(1, 2, 3, 4)` means the same for both.
"""

from typing import Any

import torch
from timm.layers.classifier import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

"""VoVNet, V1 and V2, as one torch module built from plain values; needs nothing but torch.

Source of the design: Lee et al., "An Energy and GPU-Computation Efficient Backbone Network for Real-Time Object
Detection", CVPRW 2019 (VoVNet), and Lee & Park, "CenterMask", CVPR 2020 (VoVNetV2: identity and eSE). Children are
plain Conv2d, BatchNorm2d and ReLU under timm's names, so that state dicts go to and from timm's VovNet unchanged and
give the same outputs bit for bit. The file stands alone: exported networks carry a copy of it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

STEM_STRIDES = {"cifar": (1, 1, 1), "code": (2, 1, 2), "paper": (2, 1, 1)}
"""Strides of the stem's three convolutions; the paper's stem ends in a max pool, which is the first stage's `pool`."""
ATTENTIONS = ("none", "last", "all")
POOL_PADDINGS = ("ceil", "same")


def _require(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        message = f"{name} must be one of {', '.join(known)}, not {value!r}"
        raise ValueError(message)


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm, ReLU: (N, in, H, W) to (N, out, H/stride, W/stride), sizes rounded up."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class SeparableConvNormAct(nn.Module):
    """The same with a depthwise and a 1x1 convolution, nothing between the two."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(in_channels, in_channels, kernel_size, stride, kernel_size // 2, groups=in_channels,
                                 bias=False)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        y: Tensor = self.act(self.bn(self.conv_pw(self.conv_dw(x))))
        return y


class EffectiveSe(nn.Module):
    """Channel attention of VoVNetV2 (eSE): each map is scaled by the hard sigmoid of one dense layer on all means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the maps, (N, C, H, W) to the same shape."""
        gate = F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))  # relu6(y + 3) / 6, (N, C, 1, 1)
        return x * gate


class OsaBlock(nn.Module):
    """One-shot aggregation: a chain of convolutions, all their outputs and the input concatenated once, then 1x1.

    Separable convolutions keep their width, so a 1x1 reduction goes first where the widths differ; the aggregation
    takes the input as it was before the reduction.
    """

    def __init__(self, in_channels: int, *, mid_channels: int, out_channels: int, num_layers: int, kernel_size: int,
                 depthwise: bool, attention: bool, residual: bool) -> None:
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
    """One resolution: a max pool where the resolution changes, then OSA blocks."""

    def __init__(self, in_channels: int, *, mid_channels: int, out_channels: int, num_layers: int, num_blocks: int,
                 kernel_size: int, pool: nn.Module | None, depthwise: bool, attention: str, residual: bool) -> None:
        super().__init__()
        self.pool = pool
        self.blocks = nn.Sequential(*(
            OsaBlock(out_channels if index else in_channels, mid_channels=mid_channels, out_channels=out_channels,
                     num_layers=num_layers, kernel_size=kernel_size, depthwise=depthwise,
                     attention=attention == "all" or (attention == "last" and index == num_blocks - 1),
                     residual=residual and index > 0)
            for index in range(num_blocks)
        ))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it, (N, in, H, W) to (N, out, H', W')."""
        y: Tensor = self.blocks(x if self.pool is None else self.pool(x))
        return y


class Head(nn.Module):
    """Global average and classifier: (N, C, H, W) to (N, num_classes), or to (N, C) with no classes."""

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

    The values are those of the architecture's JSON. Each of `stages` is a mapping of `mid_channels`, `out_channels`,
    `num_layers`, `num_blocks` and `kernel_size`; `stem` is cifar, code or paper; `attention` puts eSE in no block, in
    each stage's last or in all; `residual` adds a block's input to its output from a stage's second block on;
    `depthwise` makes all 3x3 and 5x5 convolutions but the first separable; `pool_padding` is ceil (none, sizes rounded
    up) or same (1). `num_classes` 0 leaves the classifier out.
    `feature_info` has for each stage its channels, its reduction (image pixels per feature pixel) and its name.
    Raises `ValueError` for an unknown setting.
    """

    def __init__(self, *, stem_channels: Sequence[int], stages: Sequence[Mapping[str, int]], stem: str = "code",
                 residual: bool = False, depthwise: bool = False, attention: str = "none", pool_padding: str = "ceil",
                 num_classes: int = 1000) -> None:
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
            self.stages.append(OsaStage(channels, **values, pool=pool, depthwise=depthwise, attention=attention,
                                        residual=residual))
            channels, reduction = values["out_channels"], reduction * (1 if pool is None else 2)
            self.feature_info.append({"num_chs": channels, "reduction": reduction, "module": f"stages.{index}"})
        self.num_features = channels
        self.num_classes = num_classes
        self.head = Head(channels, num_classes)
        self.apply(_initialise)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Give every stage's output, (N, C, H, W) each, highest resolution first, for images (N, 3, H, W)."""
        features = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (N, num_classes), or the pooled features (N, C) with no classes, of images (N, 3, H, W)."""
        y: Tensor = self.head(self.stages(self.stem(x)))
        return y


def _pool(padding: str) -> nn.Module:
    """Halve the resolution by a 3x3 max pool; sizes are rounded up either way but for odd ones without padding."""
    return nn.MaxPool2d(3, 2, ceil_mode=True) if padding == "ceil" else nn.MaxPool2d(3, 2, padding=1)


def _initialise(module: nn.Module) -> None:
    """Kaiming's normal for convolutions; torch's default is right for the rest (BatchNorm starts as identity)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

default_cfgs = generate_default_cfgs({"osa_vovnet": {
    "input_size": (3, 224, 224), "first_conv": "stem.0.conv", "classifier": "head.fc"}})


class OsaVoVNet(nn.Module):
    """A VoVNet with timm's head and methods; `architecture` are the values of `VoVNet` but the number of classes."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.0,
                 **architecture: Any) -> None:
        super().__init__()
        if in_chans != 3:
            message = f"this architecture takes images of 3 channels, not {in_chans}"
            raise ValueError(message)
        net = VoVNet(num_classes=0, **architecture)
        self.stem, self.stages = net.stem, net.stages
        self.tap = 1 if architecture.get("stem", "code") == "code" else 2
        widths, strides = architecture["stem_channels"], STEM_STRIDES[architecture.get("stem", "code")]
        stem = {"num_chs": widths[self.tap], "reduction": strides[0] * (1 if self.tap == 1 else strides[2]),
                "module": f"stem.{self.tap}"}
        self.feature_info: list[dict[str, int | str]] = [stem, *net.feature_info]
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = net.num_features
        self.head = ClassifierHead(net.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last stage's output (N, C, H, W) for images (N, 3, H, W)."""
        y: Tensor = self.stages(self.stem(x))
        return y

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits, or the pooled features before the classifier."""
        y: Tensor = self.head(x, pre_logits=pre_logits)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(self, x: Tensor, indices: int | list[int] | None = None, norm: bool = False,  # noqa: ARG002, PLR0917 - timm's signature
                              stop_early: bool = False, output_fmt: str = "NCHW",
                              intermediates_only: bool = False) -> Any:
        """The features of these indices, and the last stage's output unless `intermediates_only`."""
        if output_fmt != "NCHW":
            message = f"output_fmt must be NCHW, not {output_fmt!r}"
            raise ValueError(message)
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        features = []
        for index, layer in enumerate(self.stem):
            x = layer(x)
            if index == self.tap and 0 in wanted:
                features.append(x)
        for index, stage in enumerate(self.stages, start=1):
            if stop_early and index > last:
                break
            x = stage(x)
            if index in wanted:
                features.append(x)
        return features if intermediates_only else (x, features)

    def prune_intermediate_layers(self, indices: int | list[int] = 1, prune_norm: bool = False,  # noqa: ARG002
                                  prune_head: bool = True) -> Any:
        """Drop what these features do not need."""
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        self.stages = self.stages[:last]
        if prune_head or last + 1 < len(self.feature_info):
            self.num_features = self.head_hidden_size = int(self.feature_info[last]["num_chs"])
            self.reset_classifier(0, "")
        return wanted

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        layer: nn.Module = self.head.fc
        return layer

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new last layer, or none."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, in_features=self.num_features)

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Layers for learning rates that fall with depth."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.blocks\.(\d+)"}


@register_model
def osa_vovnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Any network of the OSA design space, from the values of its architecture."""
    model: nn.Module = build_model_with_cfg(OsaVoVNet, "osa_vovnet", pretrained,
                                            feature_cfg={"flatten_sequential": True}, **kwargs)
    return model
