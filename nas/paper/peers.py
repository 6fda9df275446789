"""The networks that the VoVNet paper and its successors compare, and the paper's own figures.

The figures are from "An Energy and GPU-Computation Efficient Backbone Network for Real-Time Object
Detection" (Lee et al. 2019, tables 2 and 4). They belong to whole detectors on a Titan X, which are
named with them, and cannot be compared with measurements of a backbone. The paper's FLOPs are MACs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.core.errors import UnknownNameError

HARDWARE = "Titan X, Caffe, power by nvidia-smi"
"""Hardware and software of the paper's figures; it states neither batch size nor clocks."""


@dataclass(frozen=True)
class Peer:
    """A network that the paper or a successor compares.

    `target` is its name for `nas measure`. `image_size` is set only if the network has a fixed one.
    """

    name: str
    family: str
    target: str
    image_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """The paper's figures of a whole detector with one of these backbones; None if not printed."""

    detector: str
    fps: float
    parameters: float | None = None
    macs: float | None = None
    memory_bytes: float | None = None
    energy_j: float | None = None
    macs_per_s: float | None = None

    @property
    def power_w(self) -> float | None:
        """Mean power in watts, implied by the printed joules and frames per second."""
        return None if self.energy_j is None else self.energy_j * self.fps


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("AlexNet", "mobile", "torchvision:alexnet"),
        Peer("SqueezeNet 1.0", "mobile", "torchvision:squeezenet1_0"),
        Peer("SqueezeNet 1.1", "mobile", "torchvision:squeezenet1_1"),
        Peer("MobileNet V1", "mobile", "timm:mobilenetv1_100"),
        Peer("MobileNet V2", "mobile", "torchvision:mobilenet_v2"),
        Peer("ShuffleNetV2 x1", "mobile", "torchvision:shufflenet_v2_x1_0"),
        Peer("ShuffleNetV2 x1.5", "mobile", "torchvision:shufflenet_v2_x1_5"),
        Peer("ResNet-50", "ResNet", "torchvision:resnet50"),
        Peer("ResNet-101", "ResNet", "torchvision:resnet101"),
        Peer("DenseNet-121", "DenseNet", "torchvision:densenet121"),
        Peer("DenseNet-161", "DenseNet", "torchvision:densenet161"),
        Peer("DenseNet-201", "DenseNet", "torchvision:densenet201"),
        Peer("PeleeNet", "DenseNet", "nas.model.peleenet:PeleeNet"),
        Peer("DenseNet-67", "DenseNet", "nas.model.densenet:DsodTrunk"),
        Peer("DenseNet-40", "DenseNet", "nas.model.densenet:densenet40", 32),
        Peer("VoVNet-27-slim", "VoVNet", "vovnet27_slim"),
        Peer("VoVNet-27-slim, paper's stem", "VoVNet", "vovnet27_slim_paper"),
        Peer("VoVNet-39", "VoVNet", "vovnet39"),
        Peer("VoVNet-57", "VoVNet", "vovnet57"),
        Peer("VoVNetV2-19-slim-dw", "VoVNetV2", "vovnet_v2_19_slim_dw"),
        Peer("VoVNetV2-19-dw", "VoVNetV2", "vovnet_v2_19_dw"),
        Peer("VoVNetV2-19-slim", "VoVNetV2", "vovnet_v2_19_slim"),
        Peer("VoVNetV2-19", "VoVNetV2", "vovnet_v2_19"),
        Peer("VoVNetV2-39", "VoVNetV2", "vovnet_v2_39"),
        Peer("VoVNetV2-57", "VoVNetV2", "vovnet_v2_57"),
        Peer("VoVNetV2-99", "VoVNetV2", "vovnet_v2_99"),
        Peer("PP-HGNet tiny", "HGNet", "timm:hgnet_tiny"),
        Peer("PP-HGNet small", "HGNet", "timm:hgnet_small"),
        Peer("HGNetV2-B0", "HGNet", "timm:hgnetv2_b0"),
        Peer("HGNetV2-B4", "HGNet", "timm:hgnetv2_b4"),
    )
}
"""All peers by name, in the order of the tables."""

PAPER: Mapping[str, PaperRow] = {
    name: PaperRow(
        detector=detector,
        macs=giga * 1e9,
        parameters=mega_parameters * 1e6,
        fps=fps,
        memory_bytes=mega * 1e6,
        energy_j=joules,
        macs_per_s=rate * 1e9,
    )
    for name, detector, giga, mega_parameters, fps, mega, joules, rate in (
        ("MobileNet V1", "SSD300", 1.1, 5.7, 37, 766, 2.3, 42),
        ("PeleeNet", "Pelee304", 1.2, 5.4, 35, 1104, 2.4, 43),
        ("DenseNet-67", "DSOD300", 5.3, 5.9, 35, 1294, 3.7, 189),
        ("VoVNet-27-slim, paper's stem", "DSOD300", 5.6, 5.9, 71, 825, 0.9, 400),
        ("ResNet-50", "RefineDet320", 25.43, 63.46, 23.2, 2229, 5.3, 591.3),
        ("DenseNet-201", "RefineDet320", 24.65, 56.13, 12.0, 3498, 9.9, 296.9),
        ("VoVNet-39", "RefineDet320", 32.6, 56.28, 25.0, 2199, 4.8, 815.0),
        ("ResNet-101", "RefineDet320", 33.02, 82.45, 17.5, 3013, 7.5, 579.2),
        ("DenseNet-161", "RefineDet320", 32.74, 66.76, 12.8, 3628, 10.0, 419.7),
        ("VoVNet-57", "RefineDet320", 36.45, 70.32, 21.2, 2511, 5.9, 775.5),
    )
}
"""Rows of the paper's tables 2 and 4, by the name of the peer that is the backbone."""

DETECTORS: Mapping[str, Peer] = {
    name: Peer(name, family, f"nas.paper.detectors:{function}", size)
    for name, family, function, size in (
        ("DSOD300 DenseNet-67", "DenseNet", "dsod_densenet67", 300),
        ("DSOD300 VoVNet-27-slim, paper's stem", "VoVNet", "dsod_vovnet27_slim", 300),
        ("DSOD300 VoVNet-27-slim, bottleneck", "VoVNet", "dsod_bottleneck", 300),
        ("RefineDet320 ResNet-50", "ResNet", "refinedet_resnet50", 320),
        ("RefineDet320 DenseNet-201", "DenseNet", "refinedet_densenet201", 320),
        ("RefineDet320 VoVNet-39", "VoVNet", "refinedet_vovnet39", 320),
        ("RefineDet320 ResNet-101", "ResNet", "refinedet_resnet101", 320),
        ("RefineDet320 DenseNet-161", "DenseNet", "refinedet_densenet161", 320),
        ("RefineDet320 VoVNet-57", "VoVNet", "refinedet_vovnet57", 320),
        ("Mask R-CNN ResNet-50", "ResNet", "mask_rcnn_resnet50", 800),
        ("Mask R-CNN ResNet-101", "ResNet", "mask_rcnn_resnet101", 800),
        ("Mask R-CNN VoVNet-39", "VoVNet", "mask_rcnn_vovnet39", 800),
        ("Mask R-CNN VoVNet-57", "VoVNet", "mask_rcnn_vovnet57", 800),
    )
}
"""The detectors of tables 2 to 5, without post-processing, by name. Of Mask R-CNN these are the
body and the pyramid.
"""
PRINTED: Mapping[str, PaperRow] = {
    **PAPER,
    **{f"{row.detector} {name}": row for name, row in PAPER.items()},
    "DSOD300 VoVNet-27-slim, bottleneck": PaperRow(
        detector="DSOD300", macs=4.6e9, parameters=4.8e6, fps=1 / 0.018, memory_bytes=895e6
    ),
    **{
        f"Mask R-CNN {name}": PaperRow(detector="Mask R-CNN", fps=1 / seconds)
        for name, seconds in (
            ("ResNet-50", 0.157),
            ("ResNet-101", 0.185),
            ("VoVNet-39", 0.152),
            ("VoVNet-57", 0.159),
        )
    },
}
"""Rows of the paper's tables 2 to 5, by the name of the backbone or of the detector. Tables 3 and 5
print milliseconds.
"""


def select_peers(names: Sequence[str], among: Mapping[str, Peer] = PEERS) -> list[Peer]:
    """Return the peers of these names in any case, or all of them without names.

    Raises `UnknownNameError`.
    """
    peers = {name.casefold(): peer for name, peer in among.items()}
    for name in names:
        if name.casefold() not in peers:
            raise UnknownNameError("the paper's networks", name, list(among))
    return [peers[name.casefold()] for name in names] or list(among.values())
