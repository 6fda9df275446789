"""The file `config.json` of a bundle, which timm's `local-dir:` and `hf-hub:` read.

Stock timm builds a subset of the design space as `vovnet39a` with other arguments, which override
those of the named configuration. All other networks are of the architecture `osa_vovnet`, which one
import registers. The parent is `vovnet39a` because it has no published weights, whose tag ours
would inherit.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from nas.core.architecture import Architecture, Attention, PoolPadding, Stem
from nas.core.complexity import count

STOCK, REGISTERED = "vovnet39a", "osa_vovnet"
"""Names of the architectures in timm."""
REGISTRY = "osa_nas_timm"
"""The module of a bundle that registers `osa_vovnet`."""
STEM_REDUCTION = {Stem.CIFAR: 1, Stem.CODE: 4, Stem.PAPER: 2}
"""Image pixels per output pixel of each stem, in height and in width."""
SQUASHED = "folder"
"""The data set that scales images of any shape to squares, with Pillow's bicubic filter."""


def timm_support(architecture: Architecture) -> dict[str, str]:
    """Return how timm loads the network, under `timm`, and `why`, both as the manifest has them.

    It is `stock`, or `registered` if one import must come first (holds for timm 0.9.16 to 1.0.31).
    """
    obstacles = "; ".join(_obstacles(architecture.canonical))
    return {
        "timm": "registered" if obstacles else "stock",
        "why": obstacles or "stock timm's VovNet has every setting of this network",
    }


def _obstacles(a: Architecture) -> Iterator[str]:
    """Yield each property of the network that stock timm has no setting for."""
    if a.stem is Stem.CIFAR:
        yield "its stem keeps the resolution"
    if len(a.stages) != 4:
        yield f"it has {len(a.stages)} stages, not 4"
    if len({stage.num_layers for stage in a.stages}) > 1:
        yield "its stages differ in layers per block"
    if any(stage.kernel_size != 3 for stage in a.stages):
        yield "it has 5x5 kernels"
    if a.pool_padding is not PoolPadding.CEIL:
        yield "its pools are padded"
    if a.attention is Attention.ALL:
        yield "it has eSE in every block"
    if (
        a.depthwise
        and a.residual
        and any(s.num_blocks > 1 and s.out_channels != s.mid_channels for s in a.stages)
    ):
        yield "its separable blocks with identity change their width"


def reductions(architecture: Architecture) -> tuple[int, ...]:
    """Return the image pixels per feature pixel of each stage, in height and in width."""
    first = STEM_REDUCTION[architecture.stem] * (2 if architecture.stem is Stem.PAPER else 1)
    return tuple(first * 2**index for index in range(len(architecture.stages)))


def timm_config(
    architecture: Architecture,
    *,
    classes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int,
    dataset: str,
    crop_pct: float | None = None,
) -> dict[str, Any]:
    """Return the JSON values of `config.json`. The arguments are those of `export_bundle`.

    `dataset` is the name in its record. timm shall scale images as that data set does.
    """
    support = timm_support(architecture)
    is_squashed = dataset == SQUASHED and crop_pct is None
    stages = count(architecture, image_size, len(classes)).stages
    stock = support["timm"] == "stock"
    return {
        "architecture": STOCK if stock else REGISTERED,
        "num_classes": len(classes),
        "num_features": stages[-1][0],
        "global_pool": "avg",
        "label_names": list(classes),
        "model_args": _stock_arguments(architecture) if stock else architecture.to_dict(),
        "pretrained_cfg": {
            "tag": "osa_nas",
            "custom_load": False,
            "input_size": [3, image_size, image_size],
            "fixed_input_size": False,
            "interpolation": "bicubic" if is_squashed else "bilinear",
            "crop_pct": crop_pct or 1.0,
            "crop_mode": "squash" if is_squashed else "center",
            "mean": list(mean),
            "std": list(std),
            "num_classes": len(classes),
            "pool_size": list(stages[-1][1:]),
            "first_conv": "stem.0.conv",
            "classifier": "head.fc",
        },
        "nas": {"digest": architecture.digest, **support},
    }


def _stock_arguments(architecture: Architecture) -> dict[str, Any]:
    """Return all eight keys of timm's own table, and the stride of the stem."""
    a, stages = architecture.canonical, architecture.stages
    return {
        "stem_chs": list(a.stem_channels),
        "stage_conv_chs": [s.mid_channels for s in stages],
        "stage_out_chs": [s.out_channels for s in stages],
        "layer_per_block": stages[0].num_layers,
        "block_per_stage": [s.num_blocks for s in stages],
        "residual": a.residual,
        "depthwise": a.depthwise,
        "attn": "" if a.attention is Attention.NONE else "ese",
        "stem_stride": STEM_REDUCTION[a.stem],
    }
