"""Metrics of an architecture, found by name in the entry-point group `nas.metrics`.

A metric has a phase: *counted* metrics are arithmetic, *measured* ones need the device but no
trained weights. The cheap ones come first, so that a network over a limit is never trained. Metrics
that training gives belong to the evaluator (`EvaluatorPlugin.trained`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import torch
from torch import nn

from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.errors import TrialFailedError, first_line, foreign_code
from nas.core.foreign import ForeignNetwork
from nas.core.measurement import Kind, Measurement, MeasurementPlan
from nas.core.study import Direction, Objective
from nas.measuring.meters import Meter
from nas.measuring.methods import Built, Prepared, prepare
from nas.measuring.methods import build as build_network
from nas.model.foreign import build_any

CALIBRATION_IMAGES = 4
"""Random images from which BatchNorm gets its statistics."""


class Phase(StrEnum):
    """The part of a trial that gives a metric."""

    COUNTED = "counted"
    MEASURED = "measured"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network with `num_classes` outputs to be measured under a plan, by a meter whose device is
    held exclusively.

    `architecture` may be a network of another package, which has no stages.
    `run` is the network prepared for several figures; None prepares it for each. `make` builds the
    network that is measured on the CPU, with the same weights every time; None builds the
    classifier.
    """

    architecture: Architecture | ForeignNetwork
    plan: MeasurementPlan
    num_classes: int
    meter: Meter
    run: Prepared | None = None
    make: Callable[[Any], nn.Module] | None = None

    @cached_property
    def model(self) -> nn.Module:
        """The network on the CPU, with the same random weights every time and BatchNorm calibrated
        on Gaussian noise.

        Time and memory do not depend on the weights' values as long as activations keep their size.
        Energy depends on them a little, and dead ReLUs would make it look better.
        """
        if self.make is not None:
            return self.make(self.architecture)
        return seeded_network(self.architecture, self.num_classes, self.plan.image_size)

    @cached_property
    def built(self) -> Built:
        """The network as the plan's runtime has built it, which needs no exclusive use of the
        device.
        """
        return build_network(self.model, self.plan, self.meter)

    @contextmanager
    def prepared(self) -> Iterator[Prepared]:
        """Return `run`, or prepare the network for one figure."""
        if self.run is not None:
            yield self.run
            return
        with prepare(self.built, self.plan, self.meter) as run:
            yield run


def seeded_network(
    architecture: Architecture | ForeignNetwork,
    num_classes: int,
    image_size: int,
    name: str = "the network",
) -> nn.Module:
    """Build the network on the CPU, with the same random weights every time and its BatchNorm
    calibrated on Gaussian noise.

    Raises `TrialFailedError`, with the name, for an image size that the network cannot take.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = build_any(architecture, num_classes)
        try:
            calibrate(model, torch.randn(CALIBRATION_IMAGES, 3, image_size, image_size))
        except (RuntimeError, ValueError) as error:
            line = first_line(error)
            raise TrialFailedError(
                f"{name} takes no images of {image_size} pixels: {line}"
            ) from error
    return model


def calibrate(model: nn.Module, images: torch.Tensor) -> None:
    """Set the running statistics of every BatchNorm to those of these images (B, 3, H, W)."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _always_available(_meter: Meter, _plan: MeasurementPlan) -> None:
    """Return None, since every machine has it."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A quantity that a study can optimise or limit, in the SI unit `unit` ("1" for counts and
    shares).

    `measure` returns its figure for a subject. `obstacle` returns why this machine cannot measure
    it under a plan and what to change, None if it can. `on_runtime` metrics use the subject's
    `prepared` network, which the others need not wait for.
    """

    name: str
    unit: str
    kind: Kind
    phase: Phase
    measure: Callable[[Subject], Measurement]
    direction: Direction = Direction.MINIMIZE
    on_runtime: bool = False
    obstacle: Callable[[Meter, MeasurementPlan], str | None] = _always_available


def measure_together(metrics: Sequence[Metric], subject: Subject) -> tuple[Measurement, ...]:
    """Measure all metrics of a subject, those on the runtime with one prepared network.

    Raises the errors of the metrics and of `nas.measuring.methods.prepare`.
    """
    if not any(metric.on_runtime for metric in metrics):
        return tuple(metric.measure(subject) for metric in metrics)
    with subject.prepared() as run:
        prepared = replace(subject, run=run)
        return tuple(
            metric.measure(prepared if metric.on_runtime else subject) for metric in metrics
        )


def find_metric(name: str) -> Metric:
    """Return the metric of this name in a study. Its figures bear that name, even if the metric
    itself has another.

    Raises `UnknownNameError`, and `InvalidValueError` for an object that is not a metric.
    """
    metric: Metric = plugins.load("nas.metrics", name)
    return _renamed(metric, name)


def metric_of(objective: Objective) -> Metric:
    """Return the metric of an objective that is no trained one. Its figures bear the objective's
    key. Raises the errors of `find_metric`.
    """
    return _renamed(find_metric(objective.metric), objective.key)


def _renamed(metric: Metric, name: str) -> Metric:
    """Return the metric under a name that its figures bear too."""
    if metric.name == name:
        return metric

    def measure(subject: Subject) -> Measurement:
        return replace(metric.measure(subject), metric=name)

    return replace(metric, name=name, measure=measure)


def check_available(metrics: Sequence[Metric], meter: Meter, plan: MeasurementPlan) -> list[str]:
    """Return one line for each metric that this machine cannot measure, with the reason. To be
    called before a study starts.
    """
    obstacles = [(metric.name, _obstacle(metric, meter, plan)) for metric in metrics]
    return [f"{name}: {obstacle}" for name, obstacle in obstacles if obstacle]


def _obstacle(metric: Metric, meter: Meter, plan: MeasurementPlan) -> str | None:
    with foreign_code(f"the obstacle of metric {metric.name!r} fails"):
        return metric.obstacle(meter, plan)
