"""Mask R-CNN with GroupNorm, trained from scratch, as in the VoVNet paper's table 5.

Every BatchNorm of the network becomes a GroupNorm, and the pyramid and the heads' convolutions have
one too. The parts are torchvision's, with its losses (smooth L1 with beta 1/9 for boxes).
"""

import math
from typing import Any, cast

from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from nas.core.errors import InvalidValueError
from nas.detection.adapters import ANCHOR_RATIOS
from nas.detection.features import Pyramid, Source, body

MAX_GROUPS, MIN_GROUPS = 32, 4
NUM_CONVOLUTIONS = 4
"""Convolutions of the box head and of the mask head."""
POOLED_PIXELS = 7
"""Side of a region in the box head."""
MIN_STRIDE = 4
ANCHOR_PER_STRIDE = 8
"""Side of an anchor, in strides of its level."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of as many groups as divide both 32 and the channels.

    Raises `InvalidValueError` for fewer than 4 groups.
    """
    groups = math.gcd(MAX_GROUPS, channels)
    if groups < MIN_GROUPS:
        raise InvalidValueError(
            f"GroupNorm needs widths that are multiples of {MIN_GROUPS}, better of {MAX_GROUPS}, "
            f"not {channels}"
        )
    return nn.GroupNorm(groups, channels)


def with_group_norm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm inside the module by a GroupNorm, and return the module."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, group_norm(child.num_features))
        else:
            with_group_norm(child)
    return module


def mask_rcnn_gn(
    source: Source | nn.Module,
    num_classes: int,
    *,
    width: int = 256,
    dense: int = 1024,
    anchor_per_stride: int = ANCHOR_PER_STRIDE,
    **options: Any,
) -> MaskRCNN:
    """Build Mask R-CNN with GroupNorm and random weights for `num_classes` classes without the
    background.

    `width` is that of the pyramid and the heads' convolutions, and `dense` that of the box head's
    dense layer. `options` are passed to torchvision's class. A bundle gives its architecture and
    normalisation, since its weights belong to BatchNorm. Raises `InvalidValueError` for widths that
    do not fit GroupNorm, and for a first stage of stride below 4.
    """
    features = body(source, min_stride=MIN_STRIDE)
    with_group_norm(cast("nn.Module", features)).apply(_initialise)
    pyramid = Pyramid(features, width, pooled=True, norm=cast("type[nn.Module]", group_norm))
    anchors = tuple((anchor_per_stride * stride,) for stride in pyramid.strides)
    head = FastRCNNConvFCHead(
        (width, POOLED_PIXELS, POOLED_PIXELS),
        [width] * NUM_CONVOLUTIONS,
        [dense],
        norm_layer=group_norm,
    )
    return MaskRCNN(
        pyramid,
        rpn_anchor_generator=AnchorGenerator(anchors, (ANCHOR_RATIOS,) * len(anchors)),
        box_head=head,
        box_predictor=FastRCNNPredictor(dense, num_classes + 1),
        mask_head=MaskRCNNHeads(width, [width] * NUM_CONVOLUTIONS, 1, norm_layer=group_norm),
        mask_predictor=MaskRCNNPredictor(width, width, num_classes + 1),
        image_mean=features.mean,
        image_std=features.std,
        **options,
    )


def _initialise(module: nn.Module) -> None:
    """Initialise a convolution by Kaiming's normal."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
