"""The published VoVNets as architectures; the tests hold the counts of their papers.

V1 is Lee et al. 2019, table 1; V2 is Lee & Park 2020. The authors' V2 code puts eSE in every block,
timm's code in the last block of each stage (`_timm`). The default stem is that of the PyTorch code,
with stride 2 in the third convolution. `_paper` has the paper's own stem, with a max pool instead.
`_cifar` keeps the size of 32x32 images in its stem and is in no paper.
"""

from dataclasses import replace

from nas.core.architecture import Architecture, Attention, OsaStage, Stem
from nas.core.errors import UnknownNameError

FULL_WIDTHS = ((128, 256), (160, 512), (192, 768), (224, 1024))
SLIM_WIDTHS = ((64, 128), (80, 256), (96, 384), (112, 512))
SLIM_V2_WIDTHS = ((64, 112), *SLIM_WIDTHS[1:])

Widths = tuple[tuple[int, int], ...]
"""For each stage the outputs of its convolutions and of its aggregation."""


def _vovnet(
    widths: Widths, blocks: tuple[int, ...] = (1, 1, 1, 1), layers: int = 5
) -> Architecture:
    stages = tuple(
        OsaStage(mid_channels=mid, out_channels=out, num_layers=layers, num_blocks=repeats)
        for (mid, out), repeats in zip(widths, blocks, strict=True)
    )
    return Architecture(stem_channels=(64, 64, 128), stages=stages)


def _published() -> dict[str, Architecture]:
    first = {
        "vovnet27_slim": _vovnet(SLIM_WIDTHS),
        "vovnet39": _vovnet(FULL_WIDTHS, (1, 1, 2, 2)),
        "vovnet57": _vovnet(FULL_WIDTHS, (1, 1, 4, 3)),
        "vovnet69": _vovnet(FULL_WIDTHS, (1, 1, 6, 3)),
        "vovnet93": _vovnet(FULL_WIDTHS, (1, 3, 8, 3)),
        "vovnet99": _vovnet(FULL_WIDTHS, (1, 3, 9, 3)),
    }
    second = {
        "vovnet_v2_19_slim": _vovnet(SLIM_V2_WIDTHS, layers=3),
        "vovnet_v2_19": _vovnet(FULL_WIDTHS, layers=3),
        "vovnet_v2_39": first["vovnet39"],
        "vovnet_v2_57": first["vovnet57"],
        "vovnet_v2_99": first["vovnet99"],
    }
    second = {
        name: replace(net, residual=True, attention=Attention.ALL) for name, net in second.items()
    }
    depthwise = {
        f"{name}_dw": replace(second[name], depthwise=True, stem_channels=(64, 64, 64))
        for name in ("vovnet_v2_19_slim", "vovnet_v2_19")
    }
    paper = {f"{name}_paper": replace(net, stem=Stem.PAPER) for name, net in first.items()}
    timm = {
        f"{name}_timm": replace(second[name], attention=Attention.LAST)
        for name in ("vovnet_v2_39", "vovnet_v2_57", "vovnet_v2_99")
    }
    cifar = {
        f"{name}_cifar": replace(net, stem=Stem.CIFAR)
        for name, net in (first | second | depthwise).items()
    }
    return first | paper | second | depthwise | timm | cifar


PUBLISHED = _published()
"""Architectures by name."""


def published(name: str) -> Architecture:
    """Return the published architecture of this name.

    Raises `UnknownNameError`, which lists the names.
    """
    try:
        return PUBLISHED[name]
    except KeyError:
        raise UnknownNameError("published architectures", name, list(PUBLISHED)) from None
