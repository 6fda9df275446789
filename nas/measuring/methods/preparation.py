"""Preparation of a network to be measured under a plan: format, threads and inputs, and everything
restored afterwards.
"""

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from nas.core.errors import InvalidValueError, NasError, TrialFailedError
from nas.core.measurement import Measurement, MeasurementPlan, Precision, minor_version
from nas.measuring.meters import Meter
from nas.measuring.runtimes import (
    PRECISIONS,
    Loaded,
    Network,
    OnnxFile,
    Runtime,
    fault,
    faults_of,
    find_runtime,
    runtime_problem,
    settings_of,
)
from nas.measuring.runtimes.torch_model import memory_format

INPUTS = 8
"""Number of different inputs. They alternate, so that no cache serves the same image again."""

MAX_COPIES, MAX_COPIES_BYTES = 6, 2**27
"""Number of copies of a network over which its places in memory average out, and the bytes that
they may take together.
"""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A network as a runtime has built it for a plan and a device: exported or compiled."""

    runtime: Runtime | None
    """The runtime; None on a device elsewhere, which has its own."""
    plan: MeasurementPlan
    result: Any
    """What the runtime or the device elsewhere loads."""


@dataclass
class Prepared:
    """A network on its runtime with its inputs. Each call runs one batch on the next input and
    returns the output.
    """

    plan: MeasurementPlan
    runtime: Runtime
    loaded: Loaded
    inputs: Sequence[Tensor]
    """Input batches, each (B, 3, H, W)."""
    _order: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._order = itertools.cycle(range(len(self.inputs)))

    def __call__(self) -> Any:
        """Return the output for the next input. Raises `TrialFailedError` for any error of the
        runtime.
        """
        try:
            return self.loaded.forward(next(self._order))
        except NasError:
            raise
        except Exception as error:  # runtimes and networks come from others
            raise fault(_batch(self.plan), error) from error

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights, buffers and one input."""
        return self.loaded.weights_bytes + self.inputs[0].nbytes

    def with_runtime(self, figure: Measurement) -> Measurement:
        """Return the figure with the conditions under which the runtime really executed.

        The version's major and minor number become a part of the device's class, which has
        torch's already.
        """
        package, version = self.runtime.package, self.runtime.version
        facts = {
            "name": self.plan.runtime,
            "package": package,
            "version": version,
            "precision": self.loaded.precision,
            "threads": self.loaded.threads,
            "streams": self.loaded.streams,
            "layout": self.loaded.layout,
        }
        device = figure.device
        if device is not None and package != "torch":
            version_class = f"{device.device_class}, {package} {minor_version(version)}"
            device = replace(device, device_class=version_class)
        return replace(figure, device=device, details={**figure.details, "runtime": facts})


def plan_problem(meter: Meter, plan: MeasurementPlan) -> str | None:
    """Return what this device cannot do of the plan, None if it can do all."""
    if meter.only_runtime:
        return meter.plan_problem(plan)
    if plan.precision is Precision.TF32 and meter.device.kind != "cuda":
        return f"precision tf32 is a mode of NVIDIA GPUs; {meter.device.name} has: fp32, fp16, bf16"
    return runtime_problem(meter.device.kind, plan)


def build(
    network: Network, plan: MeasurementPlan, meter: Meter, runtime: Runtime | None = None
) -> Built:
    """Export or compile a network for the plan, which may take seconds. It needs no exclusive use
    of the device, and others may train meanwhile.

    `runtime` replaces the one that the plan names. Raises `InvalidValueError` for a plan that the
    device or the network cannot follow, `TrialFailedError` for a network on which the runtime
    fails, and `UnavailableError` for a runtime that would not run as requested.
    """
    problem = plan_problem(meter, plan) if runtime is None else None
    if problem:
        raise InvalidValueError(problem)
    if meter.only_runtime:
        with faults_of(_batch(plan)):
            return Built(runtime=None, plan=plan, result=meter.built_elsewhere(network, plan))
    runtime = runtime or find_runtime(plan.runtime)
    if isinstance(network, OnnxFile) and not runtime.reads_onnx:
        raise InvalidValueError(
            f"{network.name} is an ONNX file: measure it with runtime onnxruntime or openvino, not "
            f"{plan.runtime}"
        )
    with faults_of(_batch(plan)):
        result = runtime.build(network, plan, meter.torch_device)
    return Built(runtime=runtime, plan=plan, result=result)


@contextlib.contextmanager
def prepare(network: Network | Built, plan: MeasurementPlan, meter: Meter) -> Iterator[Prepared]:
    """Prepare a copy of the network on the meter's device; `build` it if it is not yet.

    It is in evaluation mode, in the plan's precision and memory layout, and runs on the plan's
    runtime with its threads under `inference_mode`. There are eight different inputs of normal
    values, since zeros would be faster. Threads, TF32 and cuDNN switches are restored at the end.

    Raises the errors of `build`, and `TrialFailedError` for a network that fails on such an input
    or returns numbers that are not finite.
    """
    built = network if isinstance(network, Built) else build(network, plan, meter)
    if built.runtime is None:
        elsewhere = meter.prepared_elsewhere(built.result, plan)
        if elsewhere is None:
            raise InvalidValueError("the network was built for a device elsewhere")
        with elsewhere as run:
            yield run
        return
    where = _batch(plan)
    with settings_of(plan), faults_of(where):
        inputs = _inputs(plan, meter.torch_device)
        loaded = built.runtime.load(built.result, inputs, plan)
        prepared = Prepared(plan=plan, runtime=built.runtime, loaded=loaded, inputs=inputs)
        if not _is_finite(loaded.tensors(prepared())):
            raise TrialFailedError(f"the network returns numbers that are not finite on a {where}")
    with settings_of(plan):
        yield prepared


@contextlib.contextmanager
def prepare_copies(
    networks: Sequence[Network | Built], plan: MeasurementPlan, meter: Meter
) -> Iterator[list[list[Prepared]]]:
    """Prepare several copies of each network, all at places in memory that are drawn at random.

    On a CPU the place changes a network's pace by a percent (`nas.measuring.methods.certify`). A
    large network has fewer copies. There is one copy on other devices, and on a runtime that takes
    long to load one. Raises the errors of `prepare`.
    """
    rng = random.SystemRandom()
    built = [each if isinstance(each, Built) else build(each, plan, meter) for each in networks]
    with contextlib.ExitStack() as prepared:

        def add(index: int) -> None:
            copies[index].append(prepared.enter_context(prepare(built[index], plan, meter)))

        copies: list[list[Prepared]] = [[] for _ in built]
        for index in rng.sample(range(len(built)), len(built)):
            add(index)
        if meter.device.kind == "cpu" and not any(
            each.runtime and each.runtime.one_copy for each in built
        ):
            more = [
                index
                for index, (first,) in enumerate(copies)
                for _ in range(min(MAX_COPIES, MAX_COPIES_BYTES // first.resident_bytes) - 1)
            ]
            for index in rng.sample(more, len(more)):
                add(index)
        yield copies


def _batch(plan: MeasurementPlan) -> str:
    """Return the conditions of a network that fails, in words."""
    runtime = "" if plan.runtime == "eager" else f" on {plan.runtime}"
    return f"batch {plan.batch_size} of {plan.image_size} pixels in {plan.precision}{runtime}"


def _inputs(plan: MeasurementPlan, device: str) -> list[Tensor]:
    shape = (plan.batch_size, 3, plan.image_size, plan.image_size)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(shape, generator=generator) for _ in range(INPUTS)]
    return [
        each.to(device, PRECISIONS[plan.precision], memory_format=memory_format(plan))
        for each in images
    ]


def _is_finite(output: Any) -> bool:
    """Return true if all numbers of an output are finite.

    Raises `TrialFailedError` for an output that holds anything but tensors.
    """
    if isinstance(output, Tensor):
        return bool(output.isfinite().all())
    if isinstance(output, dict):
        return all(_is_finite(value) for value in output.values())
    if isinstance(output, list | tuple):
        return all(_is_finite(value) for value in output)
    raise TrialFailedError(f"the network returns a {type(output).__name__}, not tensors")
