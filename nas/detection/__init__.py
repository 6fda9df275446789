"""Exported networks as backbones of torchvision's detectors: Mask R-CNN, RetinaNet, FCOS, SSD.

    detector = nas.detection.fcos("bundle", num_classes=4, min_size=480)
    losses = detector(images, targets)  # in training; images RGB, (3, H, W) each, from 0 to 1

Levels have the bundle's names: `c2` is the output of the first stage, and so on. Every detector
starts with the bundle's weights and uses its mean and standard deviation. The anchors fit the
strides of the levels, which a forward pass finds. `options` are passed to torchvision's class
unchanged. This module needs the extra `detection`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.errors import InvalidValueError, MissingDependencyError
from nas.export import Bundle, feature_names

try:
    from torchvision.models.detection import FCOS, MaskRCNN, RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD
    from torchvision.ops.feature_pyramid_network import (
        FeaturePyramidNetwork,
        LastLevelMaxPool,
        LastLevelP6P7,
    )
except ImportError as missing:
    raise MissingDependencyError("torchvision", "detection") from missing

NUM_PYRAMID_LEVELS = 3
"""One-stage detectors use this many of the last levels and compute two more from the last one."""
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
"""Heights of anchors divided by their widths."""
MIN_BOX, MAX_BOX = 0.1, 0.9
"""Sides of SSD's default boxes on the first and the last level, as shares of the image's side."""


class Features(nn.Module):
    """A torchvision backbone: stages of the network exported to `folder`, without its classifier.

    `levels` names the stages; without it the last `most` are used. Maps images (N, 3, H, W) to
    features (N, out_channels[i], H / strides[i], W / strides[i]) with the names "0", "1", …,
    highest resolution first. `mean` and `std` normalise the images. Raises `InvalidValueError` for
    an unknown level, and `CorruptFileError` if the folder is not a readable bundle.
    """

    def __init__(
        self, folder: Path | str, levels: Sequence[str] | None = None, *, most: int = 4
    ) -> None:
        super().__init__()
        bundle = Bundle(Path(folder))
        names = feature_names(len(bundle.architecture.stages))
        levels = names[-most:] if levels is None else levels
        if not levels or list(levels) != [name for name in names if name in levels]:
            raise InvalidValueError(
                f"levels must be some of {', '.join(names)}, in this order, not {list(levels)}"
            )
        self.stage_indices = [names.index(level) for level in levels]
        self.stem, self.stages = (
            bundle.model.stem,
            bundle.model.stages[: self.stage_indices[-1] + 1],
        )
        self.mean, self.std = list(bundle.facts["mean"]), list(bundle.facts["std"])
        self.out_channels, self.strides = _channels_and_strides(self.eval())
        self.train()

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the features by level."""
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return OrderedDict(
            (str(place), maps[index]) for place, index in enumerate(self.stage_indices)
        )


class Pyramid(nn.Module):
    """A feature pyramid over `features`, with `channels` channels at each level.

    With `pooled` it has one more level, the last one pooled, for Mask R-CNN. Otherwise it has two
    more levels by convolution, for one-stage detectors. Each further level halves the resolution.
    """

    def __init__(self, features: Features, channels: int = 256, *, pooled: bool = False) -> None:
        super().__init__()
        self.features = features
        self.fpn = FeaturePyramidNetwork(
            features.out_channels,
            channels,
            LastLevelMaxPool() if pooled else LastLevelP6P7(channels, channels),
        )
        self.out_channels = channels
        further = 1 if pooled else 2
        self.strides = [
            *features.strides,
            *(features.strides[-1] * 2 ** (i + 1) for i in range(further)),
        ]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the features by level, highest resolution first."""
        maps: OrderedDict[str, Tensor] = self.fpn(self.features(images))
        return maps


def fcos(
    folder: Path | str,
    num_classes: int,
    *,
    levels: Sequence[str] | None = None,
    channels: int = 256,
    **options: Any,
) -> nn.Module:
    """Build torchvision's FCOS, with one square anchor of the level's stride at each position."""
    pyramid = Pyramid(Features(folder, levels, most=NUM_PYRAMID_LEVELS), channels)
    anchors = AnchorGenerator(
        tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides)
    )
    return _build(FCOS, pyramid, num_classes, {"anchor_generator": anchors, **options})


def retinanet(
    folder: Path | str,
    num_classes: int,
    *,
    levels: Sequence[str] | None = None,
    channels: int = 256,
    **options: Any,
) -> nn.Module:
    """Build torchvision's RetinaNet.

    As in its paper, the nine anchors are 4, 5 and 6.3 strides long and have three ratios.
    """
    pyramid = Pyramid(Features(folder, levels, most=NUM_PYRAMID_LEVELS), channels)
    sizes = tuple(
        tuple(round(4 * stride * 2 ** (third / 3)) for third in range(3))
        for stride in pyramid.strides
    )
    return _build(
        RetinaNet,
        pyramid,
        num_classes,
        {"anchor_generator": AnchorGenerator(sizes, (ANCHOR_RATIOS,) * len(sizes)), **options},
    )


def mask_rcnn(
    folder: Path | str,
    num_classes: int,
    *,
    levels: Sequence[str] | None = None,
    channels: int = 256,
    **options: Any,
) -> nn.Module:
    """Build torchvision's Mask R-CNN, in which class 0 is the background.

    As in the paper of the feature pyramid, the three anchors are 8 strides long.
    """
    pyramid = Pyramid(Features(folder, levels), channels, pooled=True)
    sizes = tuple((8 * stride,) for stride in pyramid.strides)
    return _build(
        MaskRCNN,
        pyramid,
        num_classes,
        {"rpn_anchor_generator": AnchorGenerator(sizes, (ANCHOR_RATIOS,) * len(sizes)), **options},
    )


def ssd(
    folder: Path | str,
    num_classes: int,
    *,
    size: tuple[int, int],
    levels: Sequence[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Build torchvision's SSD, in which class 0 is the background.

    It uses the stages without a pyramid, for images of `size` (width and height in pixels). Its
    boxes grow evenly from a tenth to nine tenths of the image.
    """
    features = Features(folder, levels)
    boxes = DefaultBoxGenerator(
        [[2]] * len(features.stage_indices), min_ratio=MIN_BOX, max_ratio=MAX_BOX
    )
    return _build(SSD, features, num_classes, {"anchor_generator": boxes, "size": size, **options})


def _build(
    detector: Any, backbone: Features | Pyramid, num_classes: int, options: dict[str, Any]
) -> nn.Module:
    """Call torchvision's class with the bundle's normalisation and the user's options."""
    features = backbone.features if isinstance(backbone, Pyramid) else backbone
    options = {"image_mean": features.mean, "image_std": features.std, **options}
    model: nn.Module = detector(backbone, num_classes=num_classes, **options)
    return model


@torch.inference_mode()
def _channels_and_strides(features: Features) -> tuple[list[int], list[int]]:
    """Return the channels and strides of the levels, by a forward pass of 256x256 pixels."""
    levels = list(features(torch.zeros(1, 3, 256, 256)).values())
    return [level.shape[1] for level in levels], [256 // level.shape[2] for level in levels]
