"""Preparation of a network to be measured under a plan: format, threads and inputs, and everything
restored afterwards.
"""

import contextlib
import copy
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nas.core.errors import InvalidValueError, TrialFailedError
from nas.core.measurement import MeasurementPlan, Precision
from nas.measuring.meters import Meter
from nas.measuring.methods.runtimes import (
    RUNTIMES,
    Forward,
    Network,
    OnnxFile,
    faults_of,
    is_finite,
    runtime_problem,
)
from nas.model.onnx_file import to_onnx
from nas.model.torch_settings import cpu_threads, cudnn_algorithms, tf32

PRECISIONS = {
    Precision.FP32: torch.float32,
    Precision.TF32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}
"""The type of weights, inputs and activations. TF32 differs from FP32 only inside the GPU's
multipliers.
"""

INPUTS = 8
"""Number of different inputs. They alternate, so that no cache serves the same image again."""

MAX_COPIES, MAX_COPIES_BYTES = 6, 2**27
"""Number of copies of a network over which its places in memory average out, and the bytes that
they may take together.
"""


@dataclass
class Prepared:
    """A network on its runtime with its inputs. Each call runs one batch on the next input and
    returns the output.
    """

    network: Network
    forward: Forward
    inputs: Sequence[Tensor]
    """Input batches, each (B, 3, H, W)."""
    resident_bytes: int
    """Bytes of weights, buffers and one input."""
    _order: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._order = itertools.cycle(range(len(self.inputs)))

    def __call__(self) -> Any:
        """Return the output for the next input."""
        return self.forward(next(self._order))


def plan_problem(meter: Meter, plan: MeasurementPlan) -> str | None:
    """Return what this device cannot do of the plan, None if it can do all."""
    if meter.only_runtime:
        return meter.plan_problem(plan)
    if plan.precision is Precision.TF32 and meter.device.kind != "cuda":
        return f"precision tf32 is a mode of NVIDIA GPUs; {meter.device.name} has: fp32, fp16, bf16"
    return runtime_problem(meter.device.kind, plan)


@contextlib.contextmanager
def prepare(network: Network, plan: MeasurementPlan, meter: Meter) -> Iterator[Prepared]:
    """Prepare a copy of the network on the meter's device.

    It is in evaluation mode, in the plan's precision and the default memory layout, and runs on the
    plan's runtime with its threads under `inference_mode`. An ONNX file runs on ONNX Runtime only.
    There are eight different inputs of normal values, since zeros would be faster. Threads, TF32
    and cuDNN switches are restored at the end.

    Raises `InvalidValueError` for a plan that the device or the network cannot follow,
    `TrialFailedError` for a network that fails on such an input or returns numbers that are not
    finite, and `UnavailableError` for a runtime that would not run as requested.
    """
    if (loaded := meter.prepared_elsewhere(network, plan)) is not None:
        with loaded as elsewhere:
            yield elsewhere
        return
    problem = plan_problem(meter, plan)
    if not problem and isinstance(network, OnnxFile) and plan.runtime != "onnxruntime":
        problem = (
            f"{network.name} is an ONNX file: measure it with runtime onnxruntime, not "
            f"{plan.runtime}"
        )
    if problem:
        raise InvalidValueError(problem)
    where = f"batch {plan.batch_size} of {plan.image_size} pixels in {plan.precision}"
    ready = _on_device(network, plan, meter.torch_device)
    with _settings(plan), faults_of(where):
        inputs = _inputs(plan, meter.torch_device)
        forward = RUNTIMES[plan.runtime](ready, inputs, plan)
        prepared = Prepared(ready, forward, inputs, _resident_bytes(ready, inputs[0]))
        if not is_finite(prepared()):
            raise TrialFailedError(f"the network returns numbers that are not finite on a {where}")
    with _settings(plan):
        yield prepared


@contextlib.contextmanager
def prepare_copies(
    networks: Sequence[Network], plan: MeasurementPlan, meter: Meter
) -> Iterator[list[list[Prepared]]]:
    """Prepare several copies of each network, all at places in memory that are drawn at random.

    On a CPU the place changes a network's pace by a percent (`nas.measuring.methods.certify`). A
    large network has fewer copies. There is one copy on other devices, and with runtime `compile`,
    as compiling takes minutes. Raises the errors of `prepare`.
    """
    rng = random.SystemRandom()
    with contextlib.ExitStack() as prepared:

        def add(index: int) -> None:
            copies[index].append(prepared.enter_context(prepare(networks[index], plan, meter)))

        copies: list[list[Prepared]] = [[] for _ in networks]
        for index in rng.sample(range(len(networks)), len(networks)):
            add(index)
        if meter.device.kind == "cpu" and plan.runtime != "compile":
            more = [
                index
                for index, (first,) in enumerate(copies)
                for _ in range(min(MAX_COPIES, MAX_COPIES_BYTES // first.resident_bytes) - 1)
            ]
            networks = [first.network for (first,) in copies]
            for index in rng.sample(more, len(more)):
                add(index)
        yield copies


def _on_device(network: Network, plan: MeasurementPlan, device: str) -> Network:
    """Return a copy of the network as its runtime takes it.

    This happens outside `inference_mode`, in which the exporter to ONNX cannot trace.
    """
    if isinstance(network, OnnxFile):
        return network
    model = copy.deepcopy(network).eval()
    if plan.runtime == "onnxruntime":
        return OnnxFile(data=to_onnx(model.float().cpu(), plan.image_size), name="the network")
    return model.to(device, PRECISIONS[plan.precision])


def _inputs(plan: MeasurementPlan, device: str) -> list[Tensor]:
    shape = (plan.batch_size, 3, plan.image_size, plan.image_size)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(shape, generator=generator) for _ in range(INPUTS)]
    return [each.to(device, PRECISIONS[plan.precision]) for each in images]


def _resident_bytes(network: Network, one_input: Tensor) -> int:
    if isinstance(network, OnnxFile):
        return len(network.data) + one_input.nbytes
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers(), one_input))


@contextlib.contextmanager
def _settings(plan: MeasurementPlan) -> Iterator[None]:
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
