"""Runtimes, which execute a network: PyTorch operation by operation, a CUDA graph, `torch.compile`,
or ONNX Runtime.

Each runtime turns a network and its inputs into a function of the input's number. Thus the timed
call does nothing else: no conversion, no copy from the host. A runtime that would fall back to
another one raises an error.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.errors import (
    InvalidValueError,
    MissingDependencyError,
    TrialFailedError,
    UnavailableError,
)
from nas.core.measurement import MeasurementPlan, Precision
from nas.model.compiling import Compiled
from nas.model.onnx_file import require_packages

Forward = Callable[[int], Any]
"""Runs one batch on the input of this number and returns the output, in the runtime's type."""

CALLS_BEFORE_CAPTURE = 3
"""Calls before a CUDA graph is captured, in which cuDNN chooses its algorithms and allocates."""


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """The bytes of an ONNX file with one image input, and its name in errors."""

    data: bytes
    name: str


Network = nn.Module | OnnxFile
"""Anything that can be measured."""


def eager(model: nn.Module, inputs: Sequence[Tensor], _plan: MeasurementPlan) -> Forward:
    """Run the network operation by operation."""
    return lambda index: model(inputs[index])


def compiled(model: nn.Module, inputs: Sequence[Tensor], _plan: MeasurementPlan) -> Forward:
    """Compile the network with `torch.compile` now, for this shape.

    Raises `UnavailableError` if torch does not compile it.
    """
    network = Compiled(model, dynamic=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern the compiler's own code
        network(inputs[0])
    fast = network.function
    return lambda index: fast(inputs[index])


def graph(model: nn.Module, inputs: Sequence[Tensor], _plan: MeasurementPlan) -> Forward:
    """Capture one CUDA graph for each input, all in one memory pool.

    A call is a replay, and nothing is copied.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch leaves it untyped
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(CALLS_BEFORE_CAPTURE):
            model(inputs[0])
    torch.cuda.current_stream().wait_stream(side)
    graphs, outputs, pool = [], [], None
    for each in inputs:
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured, pool=pool):
            outputs.append(model(each))
        graphs.append(captured)
        pool = pool or captured.pool()

    def forward(index: int) -> Any:
        graphs[index].replay()
        return outputs[index]

    return forward


def onnx_runtime(file: OnnxFile, inputs: Sequence[Tensor], plan: MeasurementPlan) -> Forward:
    """Run the file on ONNX Runtime with the plan's threads, on the device on which the inputs lie.

    Raises `MissingDependencyError` without the extra `export`, `InvalidValueError` for a file that
    cannot be run on such inputs, `UnavailableError` if ONNX Runtime cannot use the device, and
    `TrialFailedError` if the session fails.
    """
    session = _session(file, inputs[0], plan)
    name = _image_input(session, inputs[0], file.name)
    outputs = [output.name for output in session.get_outputs()]
    device, index = inputs[0].device.type, inputs[0].device.index or 0
    bindings = []
    for each in inputs:
        binding = session.io_binding()
        images = each.contiguous()
        binding.bind_input(name, device, index, "float32", tuple(images.shape), images.data_ptr())
        for output in outputs:
            binding.bind_output(output, device, index)
        bindings.append((binding, images))  # the binding does not keep the images alive

    def forward(number: int) -> Any:
        session.run_with_iobinding(bindings[number][0])
        return bindings[number][0]

    return forward


def _session(file: OnnxFile, example: Tensor, plan: MeasurementPlan) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingDependencyError("onnxruntime", "export") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised as exceptions anyway
    provider: Any = "CPUExecutionProvider"
    if example.device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise InvalidValueError(
                "this onnxruntime has no CUDA provider: pip install onnxruntime-gpu instead"
            )
        provider = (
            "CUDAExecutionProvider",
            {
                "device_id": example.device.index or 0,
                "use_tf32": int(plan.precision is Precision.TF32),
            },
        )
    try:
        session = onnxruntime.InferenceSession(file.data, options, providers=[provider])
    except Exception as error:  # onnxruntime's errors have no narrower common base
        raise InvalidValueError(
            f"ONNX Runtime cannot load {file.name}: {str(error).splitlines()[0]}"
        ) from error
    name = provider if isinstance(provider, str) else provider[0]
    if name not in session.get_providers():  # it fell back to the CPU, with a line in its log
        raise UnavailableError(
            f"ONNX Runtime cannot use its {name} here: install the CUDA and cuDNN libraries that "
            "this onnxruntime-gpu was built for"
        )
    return session


def _image_input(session: Any, example: Tensor, name: str) -> str:
    """Return the name of the session's only input. Raises `InvalidValueError` if it takes no such
    images.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not _fits(inputs[0], example):
        takes = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
        raise InvalidValueError(
            f"{name} takes {takes}, not float images {list(example.shape)}; "
            "choose --batch and --size to fit"
        )
    return str(inputs[0].name)


def _fits(image_input: Any, example: Tensor) -> bool:
    """Return true if each fixed axis of the input is as long as the example's."""
    shape = image_input.shape
    if len(shape) != example.ndim:
        return False
    axes = zip(shape, example.shape, strict=True)
    return all(fixed == given for fixed, given in axes if isinstance(fixed, int))


RUNTIMES: dict[str, Callable[[Any, Sequence[Tensor], MeasurementPlan], Forward]] = {
    "eager": eager,
    "graph": graph,
    "compile": compiled,
    "onnxruntime": onnx_runtime,
}
"""The runtimes by name."""


def runtime_problem(device_kind: str, plan: MeasurementPlan) -> str | None:
    """Return why such a device cannot run the plan's runtime and precision, None if it can."""
    if plan.runtime not in RUNTIMES:
        return f"no {plan.runtime!r} among the runtimes; there are: {', '.join(RUNTIMES)}"
    if plan.runtime == "graph" and device_kind != "cuda":
        return (
            "runtime graph is a CUDA graph and needs an NVIDIA GPU; on a CPU take eager, compile "
            "or onnxruntime"
        )
    if plan.runtime == "onnxruntime" and plan.precision not in {Precision.FP32, Precision.TF32}:
        return f"runtime onnxruntime runs in fp32 (tf32 on a GPU), not {plan.precision}"
    return None


def deployed_runtime(device_kind: str, precision: Precision) -> tuple[str, str]:
    """Return the runtime that people deploy on such a device, and why it is eager if there is a
    reason: ONNX Runtime on a CPU, a CUDA graph on a GPU.

    At batch 1 the latency of eager PyTorch is mostly that of Python's dispatch. Ten networks of a
    CIFAR space took 2.2 to 5.5 ms on a CPU, and 0.22 to 1.08 ms on ONNX Runtime.
    """
    if device_kind == "cuda":
        return "graph", ""
    if device_kind != "cpu":
        return "eager", f"no other runtime is known for devices of kind {device_kind}"
    problem = runtime_problem("cpu", MeasurementPlan(runtime="onnxruntime", precision=precision))
    if problem:
        return "eager", problem
    try:
        require_packages()
    except MissingDependencyError as error:
        return "eager", str(error)
    return "onnxruntime", ""


def is_finite(output: Any) -> bool:
    """Return true if all numbers of an output are finite.

    Raises `TrialFailedError` for an output that holds anything but tensors.
    """
    if isinstance(output, Tensor):
        return bool(output.isfinite().all())
    if hasattr(output, "copy_outputs_to_cpu"):  # ONNX Runtime's
        return all(is_finite(torch.from_numpy(array)) for array in output.copy_outputs_to_cpu())
    if isinstance(output, dict):
        return all(is_finite(value) for value in output.values())
    if isinstance(output, list | tuple):
        return all(is_finite(value) for value in output)
    raise TrialFailedError(f"the network returns a {type(output).__name__}, not tensors")


@contextlib.contextmanager
def faults_of(where: str) -> Iterator[None]:
    """Report errors of a first call in one line: the network or the plan causes them."""
    try:
        yield
    except InvalidValueError:
        raise
    # torch's errors, out of memory included, and ONNX Runtime's
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise TrialFailedError(
                f"a {where} takes more memory than there is; choose a smaller batch"
            ) from error
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TrialFailedError(f"the network fails on a {where}: {line}") from error
