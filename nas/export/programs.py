"""A network as programs of other runtimes: `torch.export`'s .pt2, and ONNX in float32 and float16.

All take any batch, height and width. BatchNorms are folded into the convolutions: by the ONNX exporter in float32, by
hand before the conversion to half precision. The .pt2 keeps them, so its outputs are the network's to the bit.
"""

import copy
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas.model import VoVNet
from nas.model.onnx_file import AXES, onnx_bytes

FREE = dict.fromkeys(AXES, Dim.DYNAMIC)


class Backbone(nn.Module):
    """The network without its classifier: images (N, 3, H, W) to the tuple of every stage's output."""

    def __init__(self, model: VoVNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Give the features, highest resolution first."""
        return tuple(self.model.forward_features(images))


def feature_names(stages: int) -> list[str]:
    """`c2`, `c3`, … as in the paper, where the stem is stage 1."""
    return [f"c{index + 2}" for index in range(stages)]


def exported(model: VoVNet) -> ExportedProgram:
    """The backbone as `torch.export`'s program, without the exporter's notes, which name files of this machine."""
    with torch.no_grad(), _quiet():
        program = torch.export.export(Backbone(model).eval(), (_example(model),), dynamic_shapes=(FREE,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def to_pt2(program: ExportedProgram) -> bytes:
    """The bytes of a .pt2 file."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def backbone_onnx(program: ExportedProgram, stages: int) -> bytes:
    """`images` to `c2`, `c3`, …, in the program's number format. Raises `ExportError` where it would be too large."""
    with _quiet():
        return onnx_bytes(program, (), program.state_dict, feature_names(stages))


def classifier_onnx(model: VoVNet) -> bytes:
    """`images` to `logits`, float32. Raises `ExportError` where the file would be too large."""
    with _quiet():
        return onnx_bytes(model, (_example(model),), model.state_dict(), ["logits"], dynamic_shapes=(FREE,))


def folded(model: VoVNet) -> VoVNet:
    """A copy in eval mode whose BatchNorms are part of the convolutions before them."""
    result = copy.deepcopy(model).eval()
    for module in list(result.modules()):
        norm = getattr(module, "bn", None)
        if isinstance(norm, nn.BatchNorm2d):
            name = "conv_pw" if hasattr(module, "conv_pw") else "conv"
            setattr(module, name, fuse_conv_bn_eval(getattr(module, name), norm))
            setattr(module, "bn", nn.Identity())  # noqa: B010 - the type of the attribute is a BatchNorm's
    return result


def _example(model: VoVNet) -> Tensor:
    """Two odd oblongs that leave several pixels in the last stage: the exporter would fix a size of 1, and take even
    sizes for granted."""
    reduction = int(model.feature_info[-1]["reduction"])
    return torch.zeros(2, 3, 4 * reduction + 3, 6 * reduction + 1, dtype=next(model.parameters()).dtype)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings about inequalities of sizes that it cannot simplify; they change nothing."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
