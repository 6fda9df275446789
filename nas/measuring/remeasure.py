"""Measure networks of a study again under other conditions than the study's, all in one session."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from nas.core.architecture import Architecture
from nas.core.errors import UnavailableError
from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.metrics import (
    Metric,
    Subject,
    check_available,
    find_metric,
    measure_together,
)
from nas.measuring.session import PROTOCOL, certify_targets, latencies
from nas.measuring.targets import Target

CERTIFIED_METRICS = ("latency", "energy")
"""Metrics that the tier `certify` measures."""


def measure_again(
    networks: Mapping[str, Architecture],
    metrics: Sequence[str],
    plan: MeasurementPlan,
    meter: Meter,
    *,
    classes: int,
    certify: bool,
    make: Callable[[Any], nn.Module] | None = None,
) -> dict[str, tuple[Measurement, ...]]:
    """Measure all of these metrics for every network by its name.

    All metrics of a front are measured together, so that it never mixes devices or conditions.
    Latencies of several networks are interleaved; with `certify`, latency and energy are
    interleaved with the reference network. `make` is that of `Subject`.

    Raises `UnavailableError` with one line for each metric that this machine cannot measure, and
    the errors of `measure`.
    """
    wanted = [find_metric(metric) for metric in metrics]
    problems = check_available(wanted, meter, plan)
    if problems:
        raise UnavailableError("\n".join(problems))
    subjects = {
        name: Subject(
            architecture=architecture, plan=plan, num_classes=classes, meter=meter, make=make
        )
        for name, architecture in networks.items()
    }
    interleaved: dict[str, tuple[Measurement, ...]] = {}
    names = {metric.name for metric in wanted}
    if "latency" in names:
        targets = [Target(name=name, network=each.model) for name, each in subjects.items()]
        if certify:
            done: tuple[str, ...] = CERTIFIED_METRICS
            interleaved = certify_targets(targets, plan, meter, energy="energy" in names)
        else:
            done = ("latency",)
            figures = latencies(targets, plan, meter)
            interleaved = {name: (figure,) for name, figure in figures.items()}
        wanted = [metric for metric in wanted if metric.name not in done]
    return {
        name: (*_measure_one(subjects[name], wanted), *interleaved.get(name, ()))
        for name in random.SystemRandom().sample(list(subjects), len(subjects))
    }


def _measure_one(subject: Subject, metrics: Sequence[Metric]) -> tuple[Measurement, ...]:
    """Measure these metrics of one network while its device is held exclusively."""
    if any(metric.on_runtime for metric in metrics):
        with DeviceLock(subject.meter.device.identity).training(subject.meter.vacate):
            _ = subject.built
    with subject.meter.exclusive():
        before = subject.meter.host_details()
        figures = measure_together(metrics, subject)
        after = subject.meter.host_details()
    shared = {"protocol": PROTOCOL, "host_before": before, "host_after": after}
    return tuple(replace(figure, details={**shared, **figure.details}) for figure in figures)
