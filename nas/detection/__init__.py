"""Detectors on OSA networks: the VoVNet paper's three systems, and torchvision's.

    detector = nas.detection.dsod("vovnet27_slim", num_classes=3)
    losses = detector(images, targets)  # in training; images RGB, (3, H, W) each, from 0 to 1

Every builder takes an `Architecture`, the name of a published network, or the folder of a bundle.
In all of them class 0 is the background, except in FCOS and RetinaNet, which have none.
The package needs the extra `detection`.
"""

from nas.core.errors import MissingDependencyError

try:
    import torchvision.models.detection  # noqa: F401 - every module of the package needs it
except ImportError as missing:
    raise MissingDependencyError("torchvision", "detection") from missing

from nas.detection.adapters import fcos, mask_rcnn, retinanet, ssd
from nas.detection.dsod import dsod
from nas.detection.features import Features, Pyramid
from nas.detection.group_norm import mask_rcnn_gn
from nas.detection.refinedet import refinedet

__all__ = [
    "Features",
    "Pyramid",
    "dsod",
    "fcos",
    "mask_rcnn",
    "mask_rcnn_gn",
    "refinedet",
    "retinanet",
    "ssd",
]
