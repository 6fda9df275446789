"""The networks of the paper's detectors, without post-processing, as targets of a measurement.

Tables 2 and 3 are DSOD300 for the 20 classes of VOC, table 4 is RefineDet320 for the 80 classes of
COCO, and table 5 is Mask R-CNN with GroupNorm, of which the body and the pyramid are here.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from nas.core.published import published
from nas.detection import dsod, mask_rcnn_gn, refinedet
from nas.detection.features import Source
from nas.detection.peer_bodies import DenseNet67Body, ResNetBody, densenet161, densenet201
from nas.paper.cifar_osa import with_bottleneck

CLASSES_OF_VOC, CLASSES_OF_COCO = 20, 80
DENSENET67_DOWNS = (256, 128, 128, 128)
"""Channels of each half of DSOD's down-samplings after its own body."""

Network = Callable[[], nn.Module]


def _dsod(source: Source) -> nn.Module:
    return dsod(source, CLASSES_OF_VOC).network


def dsod_densenet67() -> nn.Module:
    """Build DSOD's own network (DS/64-64-16-1)."""
    return dsod(DenseNet67Body(), CLASSES_OF_VOC, downs=DENSENET67_DOWNS).network


def dsod_bottleneck() -> nn.Module:
    """Build DSOD on VoVNet-27-slim with a 1x1 convolution before each convolution of its blocks."""
    return _dsod(with_bottleneck(published("vovnet27_slim_paper"), 0))


def _refinedet(body: str | Network) -> nn.Module:
    return refinedet(body if isinstance(body, str) else body(), CLASSES_OF_COCO).network


def _mask_rcnn(body: str | Network) -> nn.Module:
    source = body if isinstance(body, str) else body()
    backbone: nn.Module = mask_rcnn_gn(source, CLASSES_OF_COCO).backbone
    return backbone


dsod_vovnet27_slim: Network = partial(_dsod, "vovnet27_slim_paper")
refinedet_resnet50: Network = partial(_refinedet, partial(ResNetBody, 50))
refinedet_resnet101: Network = partial(_refinedet, partial(ResNetBody, 101))
refinedet_densenet201: Network = partial(_refinedet, densenet201)
refinedet_densenet161: Network = partial(_refinedet, densenet161)
refinedet_vovnet39: Network = partial(_refinedet, "vovnet39_paper")
refinedet_vovnet57: Network = partial(_refinedet, "vovnet57_paper")
mask_rcnn_resnet50: Network = partial(
    _mask_rcnn, partial(ResNetBody, 50, levels=4, first_strided=False)
)
mask_rcnn_resnet101: Network = partial(
    _mask_rcnn, partial(ResNetBody, 101, levels=4, first_strided=False)
)
mask_rcnn_vovnet39: Network = partial(_mask_rcnn, "vovnet39")
mask_rcnn_vovnet57: Network = partial(_mask_rcnn, "vovnet57")
