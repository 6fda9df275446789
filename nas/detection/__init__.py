"""Exported networks as backbones of torchvision's detectors: Mask R-CNN, RetinaNet, FCOS, SSD.

    detector = nas.detection.fcos("bundle", num_classes=4, min_size=480)
    losses = detector(images, targets)  # in training; images RGB, (3, H, W) each, from 0 to 1

Levels have the bundle's names, `c2` for the first stage's output and so on. Every detector starts
with the bundle's weights, takes the bundle's mean and standard deviation, and has anchors that fit
the strides of its levels, which are found by a forward pass. `options` go to torchvision's class as
they are. Needs the extra `detection`.
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

PYRAMID = 3
"""Levels of one-stage detectors, the last ones that the network has; two more are made of the
last.
"""
RATIOS = (0.5, 1.0, 2.0)
"""Heights over widths of anchors."""
SMALL, LARGE = 0.1, 0.9
"""Sides of SSD's default boxes on the first and the last level, as a part of the image's."""


class Features(nn.Module):
    """The stages `levels`, or the last `most` of all, of the network exported to `folder`, without
    its classifier: what torchvision calls a backbone.

    Takes images (N, 3, H, W) and gives maps (N, out_channels[i], H / strides[i], W / strides[i])
    under the names "0", "1", …, highest resolution first. `mean` and `std` are what its images were
    normalised with. Raises `InvalidValueError` for a level that the network has not, and
    `CorruptFileError` where the folder cannot be read as a bundle.
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
        self.kept = [names.index(level) for level in levels]
        self.stem, self.stages = bundle.model.stem, bundle.model.stages[: self.kept[-1] + 1]
        self.mean, self.std = list(bundle.facts["mean"]), list(bundle.facts["std"])
        self.out_channels, self.strides = _found(self.eval())
        self.train()

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Give the maps."""
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return OrderedDict((str(place), maps[index]) for place, index in enumerate(self.kept))


class Pyramid(nn.Module):
    """A feature pyramid over `features`: maps of `channels` channels each, and further ones of half
    the resolution.

    With `pooled` one more level is the last one pooled, as Mask R-CNN takes it; else two more are
    convolved, as one-stage detectors take them.
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
        """Give the maps, highest resolution first."""
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
    """Torchvision's FCOS; its anchors are one square per position, as long as the level's
    stride.
    """
    pyramid = Pyramid(Features(folder, levels, most=PYRAMID), channels)
    anchors = AnchorGenerator(
        tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides)
    )
    return _made(FCOS, pyramid, num_classes, {"anchor_generator": anchors, **options})


def retinanet(
    folder: Path | str,
    num_classes: int,
    *,
    levels: Sequence[str] | None = None,
    channels: int = 256,
    **options: Any,
) -> nn.Module:
    """Torchvision's RetinaNet; its nine anchors are 4, 5 and 6.3 strides long, in three ratios, as
    in its paper.
    """
    pyramid = Pyramid(Features(folder, levels, most=PYRAMID), channels)
    sizes = tuple(
        tuple(round(4 * stride * 2 ** (third / 3)) for third in range(3))
        for stride in pyramid.strides
    )
    return _made(
        RetinaNet,
        pyramid,
        num_classes,
        {"anchor_generator": AnchorGenerator(sizes, (RATIOS,) * len(sizes)), **options},
    )


def mask_rcnn(
    folder: Path | str,
    num_classes: int,
    *,
    levels: Sequence[str] | None = None,
    channels: int = 256,
    **options: Any,
) -> nn.Module:
    """Torchvision's Mask R-CNN (class 0 is the background); its three anchors are 8 strides long,
    as in FPN's paper.
    """
    pyramid = Pyramid(Features(folder, levels), channels, pooled=True)
    sizes = tuple((8 * stride,) for stride in pyramid.strides)
    return _made(
        MaskRCNN,
        pyramid,
        num_classes,
        {"rpn_anchor_generator": AnchorGenerator(sizes, (RATIOS,) * len(sizes)), **options},
    )


def ssd(
    folder: Path | str,
    num_classes: int,
    *,
    size: tuple[int, int],
    levels: Sequence[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Torchvision's SSD (class 0 is the background) on the stages themselves, for images of `size`,
    width and height in pixels; its boxes grow evenly from a tenth to nine tenths of the image."""
    features = Features(folder, levels)
    boxes = DefaultBoxGenerator([[2]] * len(features.kept), min_ratio=SMALL, max_ratio=LARGE)
    return _made(SSD, features, num_classes, {"anchor_generator": boxes, "size": size, **options})


def _made(
    detector: Any, backbone: Features | Pyramid, num_classes: int, options: dict[str, Any]
) -> nn.Module:
    features = backbone.features if isinstance(backbone, Pyramid) else backbone
    made: nn.Module = detector(
        backbone,
        num_classes=num_classes,
        **{"image_mean": features.mean, "image_std": features.std, **options},
    )
    return made


@torch.inference_mode()
def _found(features: Features) -> tuple[list[int], list[int]]:
    """Channels and strides of the maps, by a forward pass of an image of 256 pixels."""
    maps = list(features(torch.zeros(1, 3, 256, 256)).values())
    return [found.shape[1] for found in maps], [256 // found.shape[2] for found in maps]
