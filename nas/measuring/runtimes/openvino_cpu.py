"""OpenVINO on a CPU. By default it runs float32 networks in bfloat16 on CPUs that have it;
therefore its inference precision is set, and the executed one is read back.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nas.core.errors import InvalidValueError, MissingDependencyError, UnavailableError
from nas.core.measurement import MeasurementPlan, Precision
from nas.measuring.runtimes import Loaded, Network, OnnxFile, Runtime
from nas.measuring.runtimes.exported import exported
from nas.model.onnx_file import require_packages

TYPES = {Precision.FP32: "f32", Precision.BF16: "bf16"}
"""OpenVINO's names of the precisions that its CPU plugin runs."""
FLOATS = ("bf16", "f16", "f32")
"""OpenVINO's names of floating-point types, from the fewest bits of mantissa to the most."""


class OpenVinoRuntime(Runtime):
    """Runs the network as an ONNX file that OpenVINO compiles for the plan's shape, precision and
    threads, in one stream.
    """

    package = "openvino"
    reads_onnx = True

    @property
    def version(self) -> str:
        """The version of OpenVINO."""
        import openvino

        return str(openvino.__version__).partition("-")[0]

    def obstacle(self, device_kind: str, plan: MeasurementPlan) -> str | None:
        """Return what is not installed, or what of the plan it cannot do."""
        if device_kind == "cuda":
            return "runtime openvino runs on a CPU here; on an NVIDIA GPU take graph or compile"
        if plan.precision not in TYPES:
            return f"runtime openvino runs in fp32 or bf16, not {plan.precision}"
        try:
            import openvino
        except ModuleNotFoundError:
            return str(MissingDependencyError("openvino", "openvino"))
        try:
            require_packages()
        except MissingDependencyError as error:
            return str(error)
        abilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if plan.precision is Precision.BF16 and "BF16" not in abilities:
            return "this CPU has no bf16, so OpenVINO would run in fp32; take precision fp32"
        return None

    def build(self, network: Network, plan: MeasurementPlan, device: str) -> OnnxFile:
        """Export the network."""
        return exported(network, plan.image_size)

    def load(self, built: OnnxFile, inputs: Sequence[Tensor], plan: MeasurementPlan) -> Loaded:
        """Return a request for each input, whose tensors OpenVINO reads in place.

        Raises `InvalidValueError` for a file that cannot be run on such inputs, and
        `UnavailableError` if OpenVINO would run in another precision.
        """
        import openvino

        compiled = _compiled(built, inputs[0], plan)
        executed = _executed_precision(compiled)
        if executed != TYPES[plan.precision]:
            raise UnavailableError(
                f"OpenVINO would run {built.name} in {executed}, not {TYPES[plan.precision]}"
            )
        requests = []
        for each in inputs:
            images = each.float().contiguous().numpy()
            request = compiled.create_infer_request()
            request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
            requests.append((request, images))  # the request does not keep the images alive

        def forward(index: int) -> Any:
            request = requests[index][0]
            request.infer(share_outputs=True)
            return request

        return Loaded(
            forward=forward,
            weights_bytes=len(built.data),
            precision=str(plan.precision),
            threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
            streams=int(compiled.get_property("NUM_STREAMS")),
            tensors=_tensors,
        )


def _compiled(file: OnnxFile, example: Tensor, plan: MeasurementPlan) -> Any:
    """Return the file compiled for inputs like the example."""
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(file.data)
    except Exception as error:  # openvino's errors have no narrower common base
        raise InvalidValueError(f"OpenVINO cannot load {file.name}: {_last_line(error)}") from error
    shape = openvino.PartialShape(list(example.shape))
    inputs = model.inputs
    if len(inputs) != 1 or not inputs[0].get_partial_shape().compatible(shape):
        takes = ", ".join(f"{_name(each)} {each.get_partial_shape()}" for each in inputs)
        raise InvalidValueError(
            f"{file.name} takes {takes}, not float images {list(example.shape)}; "
            "choose --batch and --size to fit"
        )
    model.reshape({inputs[0]: shape})
    settings = {
        "INFERENCE_PRECISION_HINT": TYPES[plan.precision],
        "INFERENCE_NUM_THREADS": plan.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(model, "CPU", settings)


def _name(port: Any) -> str:
    return " or ".join(sorted(port.get_names())) or "images"


def _executed_precision(compiled: Any) -> str:
    """Return the floating-point type with the fewest bits in which an operation runs."""
    operations = compiled.get_runtime_model().get_ops()
    types = {operation.get_rt_info()["runtimePrecision"].astype(str) for operation in operations}
    return next((name for name in FLOATS if name in types), "no floating-point type")


def _tensors(request: Any) -> list[Tensor]:
    return [torch.from_numpy(tensor.data.copy()) for tensor in request.output_tensors]


def _last_line(error: Exception) -> str:
    """Return the line that says what is wrong: after it there are only places in the source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


OPENVINO = OpenVinoRuntime()
