"""An exported ONNX file checked against torch."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nas.errors import ExportError
from nas.export.manifest import Check
from nas.model.onnx_file import PACKAGES, require_packages, to_onnx

__all__ = ["PACKAGES", "check_onnx", "require_packages", "to_onnx"]

TOLERANCE = 1e-4
"""Of the largest logit; float32 gives about 1e-6."""


def check_onnx(data: bytes, model: nn.Module, images: Tensor) -> Iterator[Check]:
    """Check the file by ONNX's own rules and by running it beside torch on the first image and on all, (N, 3, H, W).

    Raises `ExportError` at the first check that fails.
    """
    import onnx  # noqa: PLC0415 - of an extra
    import onnxruntime  # noqa: PLC0415 - of an extra

    proto = onnx.load_model_from_string(data)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"classifier.onnx is not valid ONNX: {str(error).splitlines()[0]}") from error
    left = sum(node.op_type == "BatchNormalization" for node in proto.graph.node)
    yield Check(name="BatchNormalization nodes left in classifier.onnx", found=left, allowed=0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    for batch in (images[:1], images):
        with torch.inference_mode():
            reference = model(batch)
        (logits,) = session.run(["logits"], {"images": batch.numpy()})
        yield Check(name=f"relative difference of classifier.onnx from torch, batch {len(batch)}",
                    found=_relative_difference(torch.from_numpy(logits), reference), allowed=TOLERANCE)


def _relative_difference(found: Tensor, reference: Tensor) -> float:
    """The largest difference over the largest reference; 0 where both are 0 throughout."""
    if found.shape != reference.shape:
        raise ExportError(f"classifier.onnx gives {tuple(found.shape)}, torch {tuple(reference.shape)}")
    difference, scale = (found - reference).abs().max().item(), reference.abs().max().item()
    return difference / scale if scale else difference
