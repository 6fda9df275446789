"""A network made ready to be measured under a plan: format, threads, inputs, and everything put back afterwards."""

import contextlib
import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nas.errors import InvalidValueError, TrialFailedError
from nas.measurement import MeasurementPlan, Precision
from nas.meters import Meter

RUNTIMES = ("eager",)
"""What can execute a network."""

PRECISIONS = {Precision.FP32: torch.float32, Precision.TF32: torch.float32, Precision.FP16: torch.float16,
              Precision.BF16: torch.bfloat16}
"""Type of weights, inputs and activations; TF32 differs from FP32 inside the GPU's multipliers only."""

INPUTS = 8
"""Different inputs used in turn, so that no cache serves the same image again."""


@dataclass
class Prepared:
    """A network and its inputs; each call runs one batch on the next input and returns the output."""

    model: nn.Module
    inputs: Sequence[Tensor]  # each (B, 3, H, W)
    _turn: Iterator[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._turn = itertools.cycle(self.inputs)

    def __call__(self) -> Tensor:
        """The output for the next input."""
        output: Tensor = self.model(next(self._turn))
        return output

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights, buffers and one input."""
        held = [*self.model.parameters(), *self.model.buffers(), self.inputs[0]]
        return sum(tensor.nbytes for tensor in held)


def plan_problem(meter: Meter, plan: MeasurementPlan) -> str | None:
    """What of the plan cannot be done on this device, None where all can."""
    if plan.runtime not in RUNTIMES:
        return f"no {plan.runtime!r} among the runtimes; there are: {', '.join(RUNTIMES)}"
    if plan.precision is Precision.TF32 and meter.device.kind != "cuda":
        return f"precision tf32 is a mode of NVIDIA GPUs; {meter.device.name} has: fp32, fp16, bf16"
    return None


@contextlib.contextmanager
def prepare(model: nn.Module, plan: MeasurementPlan, meter: Meter) -> Iterator[Prepared]:
    """A copy of the network in evaluation mode on the meter's device, in the plan's precision and the default memory
    layout, with the plan's threads, under `inference_mode`, and eight different normal inputs (zeros would be faster).

    Threads and TF32 switches are put back at the end. Raises `InvalidValueError` for a plan the device cannot follow,
    `TrialFailedError` for a network that fails on such an input or returns numbers that are not finite.
    """
    problem = plan_problem(meter, plan)
    if problem:
        raise InvalidValueError(problem)
    dtype = PRECISIONS[plan.precision]
    with _threads(plan.threads), _tf32(plan.precision), torch.inference_mode():
        ready = copy.deepcopy(model).eval().to(meter.torch_device, dtype)
        shape = (plan.batch_size, 3, plan.image_size, plan.image_size)
        generator = torch.Generator().manual_seed(0)
        inputs = [torch.randn(shape, generator=generator).to(meter.torch_device, dtype) for _ in range(INPUTS)]
        prepared = Prepared(ready, inputs)
        _try(prepared, plan)
        yield prepared


def _try(run: Prepared, plan: MeasurementPlan) -> None:
    """One call, whose faults are the network's or the plan's."""
    where = f"batch {plan.batch_size} of {plan.image_size} pixels in {plan.precision}"
    try:
        output = run()
        finite = bool(output.isfinite().all())
    except RuntimeError as error:  # torch's only kind, out of memory included
        raise TrialFailedError(f"the network fails on a {where}: {str(error).splitlines()[0]}") from error
    if not finite:
        raise TrialFailedError(f"the network returns numbers that are not finite on a {where}")


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _tf32(precision: Precision) -> Iterator[None]:
    """TF32 in convolutions (torch's default) and matrix products, on or off together."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined] # stubs lack conv
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "tf32" if precision is Precision.TF32 else "ieee"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
