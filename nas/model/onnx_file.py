"""ONNX files: reading one, and the export of a network to one with its BatchNorms folded into the
convolutions.

The default optimisation of `torch.onnx.export` folds them. With it ONNX Runtime takes about three
quarters of the time. The exporter records the source lines of every node, with paths of this
machine, which are removed.
"""

import importlib
import io
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.errors import (
    BrokenDependencyError,
    ExportError,
    InvalidValueError,
    first_line,
    require_package,
)
from nas.model.vovnet import VoVNet

OPSET = 20
"""The version of ONNX's operators, which ONNX Runtime 1.17 and TensorRT 10 and 11 read."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""The packages of the extra `export` that this needs."""
MAX_BYTES = 2**31 - 1
"""Longest protobuf message, and therefore longest ONNX file without another one beside it."""
EXPORTER_NOTES = ("metadata_props", "doc_string")
"""Fields in which the exporter records the origin of nodes."""
AXES = {0: "batch", 2: "height", 3: "width"}
"""Names of the axes of the images that a file may leave free."""


def require_packages(*others: str) -> None:
    """Raise `MissingDependencyError` for the first package of the extra `export`, of `PACKAGES` and
    `others`, that is not installed. None is imported: onnxscript takes a second, and only
    `torch.export` needs it.
    """
    for package in (*PACKAGES, *others):
        require_package(package, "export")


def import_package(name: str) -> Any:
    """Return a package of the extra `export`.

    Raises `MissingDependencyError` if it is not installed, and `BrokenDependencyError` if it cannot
    be imported, for whatever error: a library may be missing, or be of another version.
    """
    require_package(name, "export")
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise BrokenDependencyError(
            f"{name} cannot be imported: {first_line(error)}; install it again"
        ) from error


def to_onnx(
    model: nn.Module,
    image_size: int,
    *,
    outputs: Sequence[str] = ("logits",),
    opset: int = OPSET,
    max_ir: int | None = None,
) -> bytes:
    """Export a network in eval mode from `images` (batch, 3, image_size, image_size) to `logits`
    (batch, classes), or to other `outputs`, all float32, for any batch. The file's IR version is at
    most `max_ir`.

    A network of this package always runs the same operations, so it is traced, which takes a
    twentieth of the time of `torch.export`. ONNX Runtime makes the same graph of both. So does a
    module whose attribute `has_fixed_graph` is true. Other modules may choose their operations by
    the input, and go through `torch.export`.

    Raises `ExportError` if the file would be too large, and the errors of `import_package`.
    """
    import_package("onnx")
    # with a batch of 1 the exporter would fix the batch at 1
    example = torch.zeros(2, 3, image_size, image_size)
    if isinstance(model, VoVNet) or getattr(model, "has_fixed_graph", False):
        _require_small(model.state_dict())
        return _traced(model, example, outputs, opset)
    return onnx_bytes(
        model,
        (example,),
        model.state_dict(),
        outputs,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset=opset,
        max_ir=max_ir,
    )


def read_onnx(path: Path) -> bytes:
    """Return an ONNX file as one message, with the weights that `torch.onnx.export` writes into
    other files beside it.

    A file that is no ONNX file is returned as it is, since the runtime reports what is wrong. So is
    every file without the package `onnx`: runtimes here need that package and report it, and
    devices elsewhere do not. Raises `InvalidValueError` if a file cannot be read, or if the message
    would be too large.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidValueError(f"{path}: {error.strerror}") from error
    if find_spec("onnx") is None:
        return data
    onnx = import_package("onnx")
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # noqa: BLE001 - protobuf has several implementations without a common base
        return data
    names = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if not names:
        return data
    weights = f"{path} has its weights in {', '.join(sorted(names))}"
    try:
        size = len(data) + sum((path.parent / name).stat().st_size for name in names)
        if size <= MAX_BYTES:
            onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # errors of the operating system and of ONNX have no common base
        raise InvalidValueError(
            f"{weights}, which cannot be read: {first_line(error)}; keep all files of an export in "
            "one folder"
        ) from error
    if size > MAX_BYTES:
        raise InvalidValueError(
            f"{weights}; these are {size:,} bytes, and at most {MAX_BYTES:,} can be measured"
        )
    return bytes(model.SerializeToString())


def _traced(model: nn.Module, example: Tensor, outputs: Sequence[str], opset: int) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # torch advises against this exporter for modules in general
        torch.onnx.export(
            model,
            (example,),
            file,  # type: ignore[arg-type] # the traced export also writes to a buffer
            dynamo=False,
            opset_version=opset,
            input_names=["images"],
            output_names=list(outputs),
            dynamic_axes={"images": {0: "batch"}},
        )
    return file.getvalue()


def onnx_bytes(
    network: Any,
    example: tuple[Tensor, ...],
    weights: Mapping[str, Any],
    outputs: Sequence[str],
    *,
    opset: int = OPSET,
    max_ir: int | None = None,
    **options: Any,
) -> bytes:
    """Export a module (with an example input) or an exported program, with its only input named
    `images`.

    `options` are those of `torch.onnx.export`. Raises the errors of `to_onnx`.
    """
    import_package("onnxscript")
    _require_small(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern the exporter's own code
        program = torch.onnx.export(
            network,
            example,
            None,
            dynamo=True,
            opset_version=opset,
            external_data=False,
            verbose=False,
            input_names=["images"],
            output_names=outputs,
            **options,
        )
    if program is None:
        raise ExportError("torch gave no ONNX program")
    proto = program.model_proto
    _remove_notes(proto)
    _name_axes(proto.graph)
    proto.ir_version = min(proto.ir_version, max_ir or proto.ir_version)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _require_small(weights: Mapping[str, Any]) -> None:
    """Raise `ExportError` if one file cannot hold the weights."""
    size = sum(value.numel() * value.element_size() for value in weights.values())
    if size > MAX_BYTES:
        raise ExportError(
            f"one ONNX file holds at most {MAX_BYTES:,} bytes, and the weights are {size:,}"
        )


def _name_axes(graph: Any) -> None:
    """Replace torch's symbols for the free axes of the input by names, wherever they stand
    alone.
    """
    dims = graph.input[0].type.tensor_type.shape.dim
    names = {dims[axis].dim_param: name for axis, name in AXES.items() if dims[axis].dim_param}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _remove_notes(message: Any) -> None:
    """Remove the exporter's notes from a protobuf message and all its parts."""
    for field, value in message.ListFields():
        if field.name in EXPORTER_NOTES:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                _remove_notes(inner)
