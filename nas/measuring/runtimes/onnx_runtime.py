"""ONNX Runtime on a CPU, or on a GPU with the package onnxruntime-gpu. BatchNorm is folded into the
convolutions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nas.agent.errors import NetworkError
from nas.agent.worker import (
    LOWEST_IR,
    LOWEST_OPSET,
    identity_model,
    image_input,
    refuse_fallback,
)
from nas.core.errors import InvalidValueError, MissingDependencyError, UnavailableError, first_line
from nas.core.measurement import MeasurementPlan, Precision
from nas.measuring.runtimes import Loaded, Network, OnnxFile, Runtime
from nas.measuring.runtimes.exported import exported
from nas.model.onnx_file import require_packages


class OnnxRuntime(Runtime):
    """Runs the network as an ONNX file, on the device on which the inputs lie."""

    package = "onnxruntime"
    reads_onnx = True

    @property
    def version(self) -> str:
        """The version of ONNX Runtime."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def obstacle(self, device_kind: str, plan: MeasurementPlan) -> str | None:
        """Return what is not installed, or the precision that it lacks."""
        if plan.precision not in {Precision.FP32, Precision.TF32}:
            return f"runtime onnxruntime runs in fp32 (tf32 on a GPU), not {plan.precision}"
        try:
            require_packages()
        except MissingDependencyError as error:
            return str(error)
        import onnxruntime

        if device_kind == "cuda" and _CUDA not in onnxruntime.get_available_providers():
            return "this onnxruntime has no CUDA provider: pip install onnxruntime-gpu instead"
        return None

    def build(self, network: Network, plan: MeasurementPlan, device: str) -> OnnxFile:
        """Export the network."""
        return exported(network, plan.image_size)

    def load(self, built: OnnxFile, inputs: Sequence[Tensor], plan: MeasurementPlan) -> Loaded:
        """Return a session with these inputs, and outputs that stay on the device.

        Raises `InvalidValueError` for a file that cannot be run on such inputs, and
        `UnavailableError` if ONNX Runtime cannot use the device.
        """
        session = _session(built, inputs[0], plan)
        try:
            name = image_input(session, tuple(inputs[0].shape), built.name)
        except NetworkError as error:
            raise InvalidValueError(f"{error}; choose --batch and --size to fit") from None
        outputs = [output.name for output in session.get_outputs()]
        device, number = inputs[0].device.type, inputs[0].device.index or 0
        bindings = []
        for each in inputs:
            binding = session.io_binding()
            images = each.contiguous()
            shape = tuple(images.shape)
            binding.bind_input(name, device, number, "float32", shape, images.data_ptr())
            for output in outputs:
                binding.bind_output(output, device, number)
            bindings.append((binding, images))  # the binding does not keep the images alive

        def forward(index: int) -> Any:
            session.run_with_iobinding(bindings[index][0])
            return bindings[index][0]

        return Loaded(
            forward=forward,
            weights_bytes=len(built.data),
            precision=str(plan.precision),
            threads=session.get_session_options().intra_op_num_threads,
            streams=session.get_session_options().inter_op_num_threads,
            tensors=_tensors,
        )


_CUDA = "CUDAExecutionProvider"


def _tensors(binding: Any) -> list[Tensor]:
    return [torch.from_numpy(array) for array in binding.copy_outputs_to_cpu()]


def _session(file: OnnxFile, example: Tensor, plan: MeasurementPlan) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised as exceptions anyway
    provider: Any = "CPUExecutionProvider"
    if example.device.type == "cuda":
        tf32 = int(plan.precision is Precision.TF32)
        provider = (_CUDA, {"device_id": example.device.index or 0, "use_tf32": tf32})
        identity = identity_model(LOWEST_OPSET, LOWEST_IR)
        alone = onnxruntime.InferenceSession(identity, options, providers=[provider])
        if _CUDA not in alone.get_providers():  # it fell back to the CPU, with a line in its log
            raise UnavailableError(
                f"ONNX Runtime cannot use its {_CUDA} here: install the CUDA and cuDNN libraries "
                "that this onnxruntime-gpu was built for"
            )
        refuse_fallback(options, tuple(example.shape))
    try:
        return onnxruntime.InferenceSession(file.data, options, providers=[provider])
    except Exception as error:  # onnxruntime's errors have no narrower common base
        raise InvalidValueError(
            f"ONNX Runtime cannot load {file.name}: {first_line(error)}"
        ) from error


ONNX_RUNTIME = OnnxRuntime()
