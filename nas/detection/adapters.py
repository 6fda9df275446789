"""Torchvision's Mask R-CNN, RetinaNet, FCOS and SSD on a network of this package.

Every detector starts with the bundle's weights and uses its mean and standard deviation. The
anchors fit the strides of the levels, which a forward pass finds. `options` are passed to
torchvision's class unchanged.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models.detection import FCOS, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from nas.detection.features import Features, Pyramid, Source

NUM_PYRAMID_LEVELS = 3
"""One-stage detectors use this many of the last levels and compute two more from the last one."""
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
"""Heights of anchors divided by their widths."""
MIN_BOX, MAX_BOX = 0.1, 0.9
"""Sides of SSD's default boxes on the first and the last level, as shares of the image's side."""


def fcos(
    source: Source,
    num_classes: int,
    *,
    levels: Sequence[str] | None = None,
    channels: int = 256,
    **options: Any,
) -> nn.Module:
    """Build torchvision's FCOS, with one square anchor of the level's stride at each position."""
    pyramid = Pyramid(Features(source, levels, most=NUM_PYRAMID_LEVELS), channels)
    anchors = AnchorGenerator(
        tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides)
    )
    return _build(FCOS, pyramid, num_classes, {"anchor_generator": anchors, **options})


def retinanet(
    source: Source,
    num_classes: int,
    *,
    levels: Sequence[str] | None = None,
    channels: int = 256,
    **options: Any,
) -> nn.Module:
    """Build torchvision's RetinaNet.

    As in its paper, the nine anchors are 4, 5 and 6.3 strides long and have three ratios.
    """
    pyramid = Pyramid(Features(source, levels, most=NUM_PYRAMID_LEVELS), channels)
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
    source: Source,
    num_classes: int,
    *,
    levels: Sequence[str] | None = None,
    channels: int = 256,
    **options: Any,
) -> nn.Module:
    """Build torchvision's Mask R-CNN, in which class 0 is the background.

    As in the paper of the feature pyramid, the three anchors are 8 strides long.
    """
    pyramid = Pyramid(Features(source, levels), channels, pooled=True)
    sizes = tuple((8 * stride,) for stride in pyramid.strides)
    return _build(
        MaskRCNN,
        pyramid,
        num_classes,
        {"rpn_anchor_generator": AnchorGenerator(sizes, (ANCHOR_RATIOS,) * len(sizes)), **options},
    )


def ssd(
    source: Source,
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
    features = Features(source, levels)
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
