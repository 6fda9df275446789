"""A network as programs of other runtimes: `torch.export`'s .pt2, and ONNX in float32 and float16.

All take any batch, height and width. The network is traced once, and converted once: the ONNX
exporter folds the BatchNorms into the convolutions, and the other ONNX files are that one with
other numbers or a classifier behind it. The .pt2 keeps the BatchNorms, so its outputs are the
network's to the bit.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nas.model import VoVNet
from nas.model.onnx_file import AXES, onnx_bytes

FREE = dict.fromkeys(AXES, Dim.DYNAMIC)


class Backbone(nn.Module):
    """The network without its classifier: images (N, 3, H, W) to the tuple of every stage's
    output.
    """

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
    """The backbone as `torch.export`'s program, without the exporter's notes, which name files of
    this machine.
    """
    with torch.no_grad(), _quiet():
        program = torch.export.export(
            Backbone(model).eval(), (_example(model),), dynamic_shapes=(FREE,)
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def to_pt2(program: ExportedProgram) -> bytes:
    """The bytes of a .pt2 file."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def backbone_onnx(program: ExportedProgram, stages: int) -> bytes:
    """`images` to `c2`, `c3`, …, float32. Raises `ExportError` where it would be too large."""
    with _quiet():
        return onnx_bytes(program, (), program.state_dict, feature_names(stages))


def half_precision(backbone: bytes) -> bytes:
    """The same file with weights, input and outputs in float16."""
    from onnx import TensorProto, load_from_string, numpy_helper

    proto = load_from_string(backbone)
    graph = proto.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(tensor).astype("float16"), tensor.name
                )
            )
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return _bytes(proto)


def classifier_onnx(backbone: bytes, head: nn.Linear) -> bytes:
    """The network of `backbone_onnx` with its classifier: `images` to `logits`, float32."""
    from onnx import TensorProto, helper, load_from_string, numpy_helper

    proto = load_from_string(backbone)
    graph = proto.graph
    features = list(graph.output)
    del graph.output[:]
    graph.value_info.extend(features)
    values = {
        "head.axes": np.array([2, 3]),
        "head.fc.weight": head.weight.detach().numpy(),
        "head.fc.bias": head.bias.detach().numpy(),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    graph.node.extend(
        (
            helper.make_node(
                "ReduceMean", [features[-1].name, "head.axes"], ["pooled"], "head.mean", keepdims=0
            ),
            helper.make_node(
                "Gemm",
                ["pooled", "head.fc.weight", "head.fc.bias"],
                ["logits"],
                "head.fc",
                transB=1,
            ),
        )
    )
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    graph.output.append(
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, head.out_features])
    )
    return _bytes(proto)


def _bytes(proto: Any) -> bytes:
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _example(model: VoVNet) -> Tensor:
    """Two odd oblongs that leave several pixels in the last stage: the exporter would fix a size of
    1, and take even sizes for granted.
    """
    reduction = int(model.feature_info[-1]["reduction"])
    return torch.zeros(
        2, 3, 4 * reduction + 3, 6 * reduction + 1, dtype=next(model.parameters()).dtype
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings about inequalities of sizes that it cannot simplify; they
    change nothing.
    """
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
