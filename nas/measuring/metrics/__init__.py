"""What can be known of an architecture: one `Metric` each, found by name in the entry-point group
`nas.metrics`.

A metric has a phase: *counted* ones are arithmetic, *measured* ones need the device and no trained
weights, *trained* ones come from the rungs. So the cheap ones come first, and a network over a
limit is never trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import torch
from torch import nn

from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.errors import TrialFailedError, UnavailableError
from nas.core.measurement import Kind, Measurement, MeasurementPlan
from nas.core.study import Direction
from nas.measuring.meters import Meter
from nas.model import build

CALIBRATION_IMAGES = 4


class Phase(StrEnum):
    """When in a trial a metric is known."""

    COUNTED = "counted"
    MEASURED = "measured"
    TRAINED = "trained"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured: an architecture with `num_classes` outputs under a plan, by a meter that is
    held alone.
    """

    architecture: Architecture
    plan: MeasurementPlan
    num_classes: int
    meter: Meter

    @cached_property
    def model(self) -> nn.Module:
        """The network with the same random weights every time, its BatchNorm statistics those of
        normal images.

        Time and memory do not depend on the weights' values as long as activations keep their size;
        energy does a little, and dead ReLUs would make it look better. On the CPU.
        """
        return seeded_network(self.architecture, self.num_classes, self.plan.image_size)


def seeded_network(
    architecture: Architecture, num_classes: int, image_size: int, name: str = "the network"
) -> nn.Module:
    """The network with the same random weights every time, its BatchNorm calibrated on normal
    images, on the CPU.

    Raises `TrialFailedError`, with the name, for images of a size that it cannot take.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = build(architecture, num_classes)
        try:
            calibrate(model, torch.randn(CALIBRATION_IMAGES, 3, image_size, image_size))
        except (RuntimeError, ValueError) as error:
            line = str(error).splitlines()[0]
            raise TrialFailedError(
                f"{name} takes no images of {image_size} pixels: {line}"
            ) from error
    return model


def calibrate(model: nn.Module, images: torch.Tensor) -> None:
    """Set BatchNorm's running statistics to those of these images (B, 3, H, W)."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _always_available(_meter: Meter, _plan: MeasurementPlan) -> None:
    """No machine lacks it."""


def _never_measured(subject: Subject) -> Measurement:
    raise UnavailableError(
        f"{subject.architecture.digest[:12]}: this metric is not measured, it comes from training"
    )


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A quantity that a study can optimise or limit, in the SI unit `unit` ("1" for counts and
    shares).

    `measure` gives its figure for a subject; for the phase `trained` it is not called. `obstacle`
    says why this machine cannot measure it under a plan and what to change, None where it can.
    """

    name: str
    unit: str
    kind: Kind
    phase: Phase
    direction: Direction = Direction.MINIMIZE
    measure: Callable[[Subject], Measurement] = _never_measured
    obstacle: Callable[[Meter, MeasurementPlan], str | None] = _always_available


def find_metric(name: str) -> Metric:
    """The metric that a study calls so, by whatever name it has itself: its figures bear the
    study's.

    Raises `UnknownNameError`, and `InvalidValueError` for what is no metric.
    """
    found: Metric = plugins.load("nas.metrics", name)

    def measure(subject: Subject) -> Measurement:
        return replace(found.measure(subject), metric=name)

    return found if found.name == name else replace(found, name=name, measure=measure)


def check_available(metrics: Sequence[Metric], meter: Meter, plan: MeasurementPlan) -> list[str]:
    """Why some of the metrics cannot be had on this machine, one line each, to be asked before a
    study starts.
    """
    obstacles = [(metric.name, metric.obstacle(meter, plan)) for metric in metrics]
    return [f"{name}: {obstacle}" for name, obstacle in obstacles if obstacle]
