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


@dataclass(frozen=True, kw_only=True)
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
    """The paper's figures of a whole detector with one of these backbones."""

    detector: str
    macs: float
    fps: float
    memory_bytes: float
    energy_j: float
    macs_per_s: float

    @property
    def power_w(self) -> float:
        """Mean power in watts, implied by the printed joules and frames per second."""
        return self.energy_j * self.fps


def _peers() -> dict[str, Peer]:
    rows = (
        ("AlexNet", "mobile", "torchvision:alexnet"),
        ("SqueezeNet 1.0", "mobile", "torchvision:squeezenet1_0"),
        ("SqueezeNet 1.1", "mobile", "torchvision:squeezenet1_1"),
        ("MobileNet V1", "mobile", "timm:mobilenetv1_100"),
        ("MobileNet V2", "mobile", "torchvision:mobilenet_v2"),
        ("ShuffleNetV2 x1", "mobile", "torchvision:shufflenet_v2_x1_0"),
        ("ShuffleNetV2 x1.5", "mobile", "torchvision:shufflenet_v2_x1_5"),
        ("ResNet-50", "ResNet", "torchvision:resnet50"),
        ("ResNet-101", "ResNet", "torchvision:resnet101"),
        ("DenseNet-121", "DenseNet", "torchvision:densenet121"),
        ("DenseNet-161", "DenseNet", "torchvision:densenet161"),
        ("DenseNet-201", "DenseNet", "torchvision:densenet201"),
        ("PeleeNet", "DenseNet", "nas.model.peleenet:PeleeNet"),
        ("DenseNet-67", "DenseNet", "nas.model.densenet:DsodTrunk"),
        ("DenseNet-40", "DenseNet", "nas.model.densenet:densenet40"),
        ("VoVNet-27-slim", "VoVNet", "vovnet27_slim"),
        ("VoVNet-27-slim, paper's stem", "VoVNet", "vovnet27_slim_paper"),
        ("VoVNet-39", "VoVNet", "vovnet39"),
        ("VoVNet-57", "VoVNet", "vovnet57"),
        ("VoVNetV2-19-slim-dw", "VoVNetV2", "vovnet_v2_19_slim_dw"),
        ("VoVNetV2-19-dw", "VoVNetV2", "vovnet_v2_19_dw"),
        ("VoVNetV2-19-slim", "VoVNetV2", "vovnet_v2_19_slim"),
        ("VoVNetV2-19", "VoVNetV2", "vovnet_v2_19"),
        ("VoVNetV2-39", "VoVNetV2", "vovnet_v2_39"),
        ("VoVNetV2-57", "VoVNetV2", "vovnet_v2_57"),
        ("VoVNetV2-99", "VoVNetV2", "vovnet_v2_99"),
        ("PP-HGNet tiny", "HGNet", "timm:hgnet_tiny"),
        ("PP-HGNet small", "HGNet", "timm:hgnet_small"),
        ("HGNetV2-B0", "HGNet", "timm:hgnetv2_b0"),
        ("HGNetV2-B4", "HGNet", "timm:hgnetv2_b4"),
    )
    return {
        name: Peer(
            name=name,
            family=family,
            target=target,
            image_size=32 if name == "DenseNet-40" else None,
        )
        for name, family, target in rows
    }


def _paper() -> dict[str, PaperRow]:
    rows = (  # detector, G, FPS, MB, J per image, G per second
        ("MobileNet V1", "SSD300", 1.1, 37, 766, 2.3, 42),
        ("PeleeNet", "Pelee304", 1.2, 35, 1104, 2.4, 43),
        ("DenseNet-67", "DSOD300", 5.3, 35, 1294, 3.7, 189),
        ("VoVNet-27-slim, paper's stem", "DSOD300", 5.6, 71, 825, 0.9, 400),
        ("ResNet-50", "RefineDet320", 25.43, 23.2, 2229, 5.3, 591.3),
        ("DenseNet-201", "RefineDet320", 24.65, 12.0, 3498, 9.9, 296.9),
        ("VoVNet-39", "RefineDet320", 32.6, 25.0, 2199, 4.8, 815.0),
        ("ResNet-101", "RefineDet320", 33.02, 17.5, 3013, 7.5, 579.2),
        ("DenseNet-161", "RefineDet320", 32.74, 12.8, 3628, 10.0, 419.7),
        ("VoVNet-57", "RefineDet320", 36.45, 21.2, 2511, 5.9, 775.5),
    )
    return {
        name: PaperRow(
            detector=detector,
            macs=giga * 1e9,
            fps=fps,
            memory_bytes=mega * 1e6,
            energy_j=joules,
            macs_per_s=rate * 1e9,
        )
        for name, detector, giga, fps, mega, joules, rate in rows
    }


PEERS: Mapping[str, Peer] = _peers()
"""All peers by name, in the order of the tables."""

PAPER: Mapping[str, PaperRow] = _paper()
"""Rows of the paper's tables 2 and 4, by the name of the peer that is the backbone."""


def select_peers(names: Sequence[str]) -> list[Peer]:
    """Return the peers of these names in any case, or all peers without names.

    Raises `UnknownNameError`.
    """
    peers = {name.casefold(): peer for name, peer in PEERS.items()}
    for name in names:
        if name.casefold() not in peers:
            raise UnknownNameError("the paper's networks", name, list(PEERS))
    return [peers[name.casefold()] for name in names] or list(PEERS.values())
