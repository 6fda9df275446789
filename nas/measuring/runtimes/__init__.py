"""Runtimes, which execute a network, found by name in the entry-point group `nas.runtimes`.

A runtime turns a network and its inputs into a function of the input's number, in two steps.
`build` does what takes seconds (exporting, compiling) and needs no exclusive use of the device.
`load` puts the network and its inputs where they run. The function that it returns does nothing
else: no conversion, no copy from the host. A runtime that would fall back to another one raises an
error. A new runtime needs one class that passes `nas.testing.runtime_contract`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.core import plugins
from nas.core.errors import NasError, TrialFailedError
from nas.core.measurement import MeasurementPlan, Precision
from nas.model.torch_settings import cpu_threads, cudnn_algorithms, is_out_of_memory, tf32

Forward = Callable[[int], Any]
"""Runs one batch on the input of this number and returns the output, in the runtime's type."""

PRECISIONS = {
    Precision.FP32: torch.float32,
    Precision.TF32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}
"""The type of weights, inputs and activations. TF32 differs from FP32 only inside the GPU's
multipliers.
"""


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """The bytes of an ONNX file with one image input, and its name in errors."""

    data: bytes
    name: str


Network = nn.Module | OnnxFile
"""Anything that can be measured."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network on its runtime, with the conditions under which the runtime really executes it."""

    forward: Forward
    weights_bytes: int
    """Bytes of weights and buffers."""
    precision: str
    threads: int
    streams: int = 1
    """Batches that run at once."""
    layout: str = "chosen by the runtime"
    """The order of the axes in memory."""
    tensors: Callable[[Any], Any] = lambda output: output
    """Converts an output of `forward` to torch tensors, in whatever container."""


class Runtime:
    """One way to execute networks. It keeps no state between networks. By default PyTorch executes,
    nothing is slow to build, and every device can run every plan.
    """

    package = "torch"
    """The name of the package that executes."""
    reads_onnx = False
    """True if it also executes ONNX files."""
    one_copy = False
    """True if loading takes too long for several copies of a network, over which its places in
    memory would average out.
    """

    @property
    def version(self) -> str:
        """The version of the package, such as `2.14.1`. It may only be asked for if there is no
        obstacle.
        """
        return str(torch.__version__)

    def obstacle(self, device_kind: str, plan: MeasurementPlan) -> str | None:
        """Return why a device of this kind cannot run the plan, and what to change; None if it
        can. A package that is not installed is named with the extra that brings it.
        """
        return None

    def build(self, network: Any, plan: MeasurementPlan, device: str) -> Any:
        """Do the slow part, which needs no exclusive use of `device` (torch's name), and return
        what `load` takes. It must not change the network.
        """
        return network

    def load(self, built: Any, inputs: Sequence[Tensor], plan: MeasurementPlan) -> Loaded:
        """Return the network with these inputs, each (B, 3, H, W), which lie on the device in the
        plan's precision and layout. Called under the settings of `settings_of`.
        """
        raise NotImplementedError


def find_runtime(name: str) -> Runtime:
    """Return the runtime registered as `name`.

    Raises `UnknownNameError`, and `InvalidValueError` for an object that is no runtime.
    """
    runtime: Runtime = plugins.load("nas.runtimes", name)
    return runtime


def runtime_problem(device_kind: str, plan: MeasurementPlan) -> str | None:
    """Return why such a device cannot run the plan's runtime and precision, None if it can."""
    try:
        return find_runtime(plan.runtime).obstacle(device_kind, plan)
    except NasError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - runtimes come from others and may raise anything
        return f"runtime {plan.runtime} fails: {one_line(error)}"


def deployed_runtime(device_kind: str, precision: Precision) -> tuple[str, str]:
    """Return the runtime that people deploy on such a device, and why it is eager if there is a
    reason: ONNX Runtime on a CPU, a CUDA graph on a GPU.

    At batch 1 the latency of eager PyTorch is mostly that of Python's dispatch. Ten networks of a
    CIFAR space took 2.2 to 5.5 ms on a CPU, and 0.22 to 1.08 ms on ONNX Runtime.
    """
    name = {"cuda": "graph", "cpu": "onnxruntime"}.get(device_kind)
    if name is None:
        return "eager", f"no other runtime is known for devices of kind {device_kind}"
    problem = runtime_problem(device_kind, MeasurementPlan(runtime=name, precision=precision))
    return ("eager", problem) if problem else (name, "")


@contextlib.contextmanager
def settings_of(plan: MeasurementPlan) -> Iterator[None]:
    """Run under the plan's settings of torch and without gradients.

    cuDNN times its algorithms at the first call of a shape, which is before the samples, and keeps
    the choice.
    """
    allowed = plan.precision is Precision.TF32
    with (
        cpu_threads(plan.threads),
        tf32(convolutions=allowed, matmuls=allowed),
        cudnn_algorithms(deterministic=torch.backends.cudnn.deterministic, benchmark=True),
        torch.inference_mode(),
    ):
        yield


@contextlib.contextmanager
def faults_of(where: str) -> Iterator[None]:
    """Report any error of a network or its runtime on a `where`, such as "batch 1", in one line.

    Raises `TrialFailedError`; errors of this package stay as they are.
    """
    try:
        yield
    except NasError:
        raise
    except Exception as error:  # runtimes and networks come from others and may raise anything
        raise fault(where, error) from error


def fault(where: str, error: Exception) -> TrialFailedError:
    """Return the error of a network that fails on a `where`, such as "batch 1"."""
    if is_out_of_memory(error):
        return TrialFailedError(
            f"a {where} takes more memory than there is; choose a smaller batch"
        )
    return TrialFailedError(f"the network fails on a {where}: {one_line(error)}")


def one_line(error: Exception) -> str:
    """Return the first line of an error, with its kind if the line alone says too little."""
    line = next(iter(str(error).strip().splitlines()), "")
    if line and isinstance(error, NasError | RuntimeError | TypeError | ValueError):
        return line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
