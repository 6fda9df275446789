"""A network as one ONNX file with its BatchNorms folded into the convolutions.

`torch.onnx.export`'s default optimisation folds them; with it ONNX Runtime takes about three
quarters of the time. The exporter notes the source lines of every node, with paths of this machine:
they are taken out.
"""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.errors import ExportError, MissingDependencyError

OPSET = 20
"""What ONNX Runtime 1.17 and TensorRT 10 and 11 read."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MAX_BYTES = 2**31 - 1
"""A protobuf message, and so an ONNX file without another one beside it, is not longer."""
UNTOLD = ("metadata_props", "doc_string")
"""Fields with the exporter's notes."""
AXES = {0: "batch", 2: "height", 3: "width"}
"""The axes of the images that a file may leave free."""


def require_packages() -> None:
    """Import what the extra `export` installs. Raises `MissingDependencyError` for the first that
    is not there.
    """
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(package, "export") from error


def to_onnx(model: nn.Module, image_size: int) -> bytes:
    """The network in eval mode for images (batch, 3, image_size, image_size), any batch, to logits
    (batch, classes).

    Input and output are named `images` and `logits`, float32. Raises `ExportError` where the file
    would be too large.
    """
    example = torch.zeros(
        2, 3, image_size, image_size
    )  # with a batch of 1 the exporter would fix it at 1
    return onnx_bytes(
        model,
        (example,),
        model.state_dict(),
        ["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


def onnx_bytes(
    network: Any,
    example: tuple[Tensor, ...],
    weights: Mapping[str, Any],
    outputs: Sequence[str],
    **options: Any,
) -> bytes:
    """A module (with an example input) or an exported program as ONNX, its one input named
    `images`; `options` are `torch.onnx.export`'s. Raises `ExportError` where the file would be too
    large.
    """
    size = sum(value.numel() * value.element_size() for value in weights.values())
    if size > MAX_BYTES:
        raise ExportError(
            f"one ONNX file holds at most {MAX_BYTES:,} bytes, and the weights are {size:,}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own insides
        program = torch.onnx.export(
            network,
            example,
            None,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            input_names=["images"],
            output_names=outputs,
            **options,
        )
    if program is None:
        raise ExportError("torch gave no ONNX program")
    proto = program.model_proto
    _forget_origin(proto)
    _name_axes(proto.graph)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _name_axes(graph: Any) -> None:
    """Names instead of torch's symbols for the free axes of the input, wherever they stand
    alone.
    """
    dims = graph.input[0].type.tensor_type.shape.dim
    names = {dims[axis].dim_param: name for axis, name in AXES.items() if dims[axis].dim_param}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _forget_origin(message: Any) -> None:
    """Take the exporter's notes out of a protobuf message and all in it."""
    for field, value in message.ListFields():
        if field.name in UNTOLD:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                _forget_origin(inner)
