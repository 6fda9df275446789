"""Programs for other runtimes: `torch.export` (.pt2), and ONNX in float32 and float16.

All programs take any batch, height and width. The network is traced once and converted to ONNX
once. The ONNX exporter folds the BatchNorms into the convolutions. The other ONNX files are made
from its result, by other number formats or an added classifier. The .pt2 file keeps the BatchNorms,
therefore its outputs equal those of the network bit by bit.
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

DYNAMIC_AXES = dict.fromkeys(AXES, Dim.DYNAMIC)
"""Axes of the images whose size is not fixed."""


class Backbone(nn.Module):
    """The network without its classifier. It returns the outputs of all stages as a tuple."""

    def __init__(self, model: VoVNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features of images (N, 3, H, W), highest resolution first."""
        return tuple(self.model.forward_features(images))


def feature_names(stages: int) -> list[str]:
    """Return `c2`, `c3`, … as in the paper, which counts the stem as stage 1."""
    return [f"c{index + 2}" for index in range(stages)]


def exported(model: VoVNet) -> ExportedProgram:
    """Return the backbone as a program of `torch.export`.

    The stack traces in it are removed, because they name files of this machine.
    """
    with torch.no_grad(), _without_shape_warnings():
        program = torch.export.export(
            Backbone(model).eval(), (_example(model),), dynamic_shapes=(DYNAMIC_AXES,)
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def to_pt2(program: ExportedProgram) -> bytes:
    """Return the content of a .pt2 file."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def backbone_onnx(program: ExportedProgram, stages: int) -> bytes:
    """Return an ONNX file from `images` to `c2`, `c3`, …, in float32.

    Raises `ExportError` if the file would be too large.
    """
    with _without_shape_warnings():
        return onnx_bytes(program, (), program.state_dict, feature_names(stages))


def half_precision(backbone: bytes) -> bytes:
    """Return the same ONNX file with weights, input and outputs in float16."""
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
    """Add the classifier to `backbone_onnx`: an ONNX file from `images` to `logits`, in float32."""
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
    """Return two images from which the exporter infers no fixed size.

    They leave several pixels in the last stage, because the exporter would fix a size of 1. Height
    and width differ and are odd, because it would assume that even sizes stay even.
    """
    reduction = int(model.feature_info[-1]["reduction"])
    return torch.zeros(
        2, 3, 4 * reduction + 3, 6 * reduction + 1, dtype=next(model.parameters()).dtype
    )


@contextmanager
def _without_shape_warnings() -> Iterator[None]:
    """Hide the exporter's warnings about inequalities of sizes that it cannot simplify.

    They do not change the result.
    """
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
