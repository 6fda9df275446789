"""A network made ready to be measured under a plan: format, threads, inputs, and everything put
back afterwards.
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
"""Type of weights, inputs and activations; TF32 differs from FP32 inside the GPU's multipliers
only.
"""

INPUTS = 8
"""Different inputs used in turn, so that no cache serves the same image again."""

COPIES, COPIES_BYTES = 6, 2**27
"""How many copies of a network make its places in memory average out, and what all of one may take
together.
"""


@dataclass
class Prepared:
    """A network on its runtime with its inputs; each call runs one batch on the next input and
    returns the output.
    """

    network: Network
    forward: Forward
    inputs: Sequence[Tensor]  # each (B, 3, H, W)
    resident_bytes: int
    """Bytes of weights, buffers and one input."""
    _turn: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._turn = itertools.cycle(range(len(self.inputs)))

    def __call__(self) -> Any:
        """The output for the next input."""
        return self.forward(next(self._turn))


def plan_problem(meter: Meter, plan: MeasurementPlan) -> str | None:
    """What of the plan cannot be done on this device, None where all can."""
    if plan.precision is Precision.TF32 and meter.device.kind != "cuda":
        return f"precision tf32 is a mode of NVIDIA GPUs; {meter.device.name} has: fp32, fp16, bf16"
    return runtime_problem(meter.device.kind, plan)


@contextlib.contextmanager
def prepare(network: Network, plan: MeasurementPlan, meter: Meter) -> Iterator[Prepared]:
    """A copy of the network in evaluation mode on the meter's device, in the plan's precision and
    the default memory layout, on the plan's runtime with its threads, under `inference_mode`, and
    eight different normal inputs (zeros would be faster). An ONNX file runs on ONNX Runtime only.

    Threads, TF32 and cuDNN switches are put back at the end. Raises `InvalidValueError` for a plan
    that the device or the network cannot follow, `TrialFailedError` for a network that fails on
    such an input or returns numbers that are not finite.
    """
    problem = plan_problem(meter, plan)
    if not problem and isinstance(network, OnnxFile) and plan.runtime != "onnxruntime":
        problem = f"{network.name} is an ONNX file: measure it with runtime onnxruntime, not {plan.runtime}"
    if problem:
        raise InvalidValueError(problem)
    dtype = PRECISIONS[plan.precision]
    where = f"batch {plan.batch_size} of {plan.image_size} pixels in {plan.precision}"
    ready = _ready(network, plan, meter.torch_device)
    with _settings(plan), faults_of(where):
        shape = (plan.batch_size, 3, plan.image_size, plan.image_size)
        generator = torch.Generator().manual_seed(0)
        inputs = [
            torch.randn(shape, generator=generator).to(meter.torch_device, dtype)
            for _ in range(INPUTS)
        ]
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
    """As `prepare`, but `COPIES` of each network, all of them at places in memory that are drawn by
    lot: on a CPU the place changes a network's pace by a percent (`nas.measuring.methods.certify`).
    Fewer of a large network; one on other devices, and of `compile`, as compiling takes minutes.
    """
    lot = random.SystemRandom()
    with contextlib.ExitStack() as held:
        copies: list[list[Prepared]] = [[] for _ in networks]
        for index in lot.sample(range(len(networks)), len(networks)):
            copies[index].append(held.enter_context(prepare(networks[index], plan, meter)))
        if meter.device.kind == "cpu" and plan.runtime != "compile":
            more = [
                index
                for index, (first,) in enumerate(copies)
                for _ in range(min(COPIES, COPIES_BYTES // first.resident_bytes) - 1)
            ]
            for index in lot.sample(more, len(more)):
                copies[index].append(
                    held.enter_context(prepare(copies[index][0].network, plan, meter))
                )
        yield copies


def _ready(network: Network, plan: MeasurementPlan, device: str) -> Network:
    """The network as its runtime takes it. Exported outside `inference_mode`, which the exporter
    cannot trace in.
    """
    if isinstance(network, OnnxFile):
        return network
    model = copy.deepcopy(network).eval()
    if plan.runtime == "onnxruntime":
        return OnnxFile(data=to_onnx(model.float().cpu(), plan.image_size), name="the network")
    return model.to(device, PRECISIONS[plan.precision])


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
