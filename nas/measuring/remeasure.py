"""Networks of a study measured under other conditions than the study's, all in one session."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.core.architecture import Architecture
from nas.core.errors import UnavailableError
from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.meters.host import details
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.metrics import Phase, Subject, check_available, find_metric
from nas.measuring.session import PROTOCOL, certified, latencies
from nas.measuring.targets import Target

IN_CYCLES = ("latency", "energy")
"""What the tier `certify` measures."""


def measure_again(
    networks: Mapping[str, Architecture],
    metrics: Sequence[str],
    plan: MeasurementPlan,
    meter: Meter,
    *,
    classes: int,
    certify: bool,
) -> dict[str, tuple[Measurement, ...]]:
    """Of every network, by name, all of these metrics that are not trained: those of one front are
    taken together, so that no two devices or conditions meet on it. Latencies of several are
    measured in turns; with `certify` latency and joules in turns with the reference.

    Raises `UnavailableError` with one line for each metric that this machine cannot give, and what
    `measure` raises.
    """
    known = [find_metric(name) for name in metrics]
    wanted = [metric for metric in known if metric.phase is not Phase.TRAINED]
    problems = check_available(wanted, meter, plan)
    if problems:
        raise UnavailableError("\n".join(problems))
    subjects = {
        name: Subject(architecture=architecture, plan=plan, num_classes=classes, meter=meter)
        for name, architecture in networks.items()
    }
    together: dict[str, tuple[Measurement, ...]] = {}
    if any(metric.name == "latency" for metric in wanted):
        targets = [Target(name=name, network=each.model) for name, each in subjects.items()]
        if certify:
            together = certified(
                targets, plan, meter, energy=any(metric.name == "energy" for metric in wanted)
            )
            wanted = [metric for metric in wanted if metric.name not in IN_CYCLES]
        else:
            together = {name: (figure,) for name, figure in latencies(targets, plan, meter).items()}
            wanted = [metric for metric in wanted if metric.name != "latency"]
    found: dict[str, tuple[Measurement, ...]] = {}
    for name in random.SystemRandom().sample(list(subjects), len(subjects)):
        with DeviceLock(meter.device.identity).exclusive():
            before = details()
            figures = [metric.measure(subjects[name]) for metric in wanted]
        shared: dict[str, Any] = {
            "protocol": PROTOCOL,
            "host_before": before,
            "host_after": details(),
        }
        found[name] = (
            *(replace(figure, details={**shared, **figure.details}) for figure in figures),
            *together.get(name, ()),
        )
    return found
