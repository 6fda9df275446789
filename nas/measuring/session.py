"""Measure targets while the device is held exclusively: latency, single calls, energy, peak
memory.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.methods import (
    energy,
    interleaved_latency,
    latency,
    peak_memory,
    prepare,
    single_calls,
)
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics.certified import certify_networks
from nas.measuring.targets import Target

PROTOCOL, TURNS = "screen/1", "turns/1"
"""Names of the protocols, stored with every figure. Figures of different protocols must not be
compared.
"""


def latencies(
    targets: Sequence[Target], plan: MeasurementPlan, meter: Meter
) -> dict[str, Measurement]:
    """Measure the latency of a batch of every target, by its name; several are interleaved.

    Raises the errors of `measure`.
    """
    with meter.exclusive(), ExitStack() as prepared:
        before = meter.host_details()
        runs = {
            target.name: prepared.enter_context(prepare(target.network, plan, meter))
            for target in targets
        }
        if len(runs) == 1:
            protocol = PROTOCOL
            figures = {name: latency(run, meter, plan) for name, run in runs.items()}
        else:
            protocol = TURNS
            seed = random.SystemRandom().randrange(2**31)
            figures = interleaved_latency(runs, meter, plan, seed=seed)
    shared: dict[str, Any] = {
        "protocol": protocol,
        "host_before": before,
        "host_after": meter.host_details(),
    }
    return {
        name: replace(figure, details={**shared, **figure.details})
        for name, figure in figures.items()
    }


def measure_all(
    targets: Sequence[Target], plan: MeasurementPlan, meter: Meter
) -> Iterator[tuple[Measurement, ...]]:
    """Yield the figures of `measure` for every target in order. Latencies of several targets are
    measured first, interleaved.

    Raises the errors of `measure`.
    """
    measured = latencies(targets, plan, meter) if len(targets) > 1 else {}
    for target in targets:
        yield measure(target, plan, meter, measured.get(target.name))


def measure(
    target: Target,
    plan: MeasurementPlan,
    meter: Meter,
    latency_figure: Measurement | None = None,
) -> tuple[Measurement, ...]:
    """Measure latency, energy and peak memory of a batch, and the latency of single calls with one
    image. A `latency_figure` replaces the measurement of latency.

    A figure that cannot be measured has its status and reason. Raises the errors of
    `nas.measuring.methods.prepare` and of the lock.
    """
    with meter.exclusive():
        before = meter.host_details()
        with prepare(target.network, plan, meter) as run:
            figures = [
                latency_figure or latency(run, meter, plan),
                energy(run, meter, plan),
                peak_memory(run, meter, plan),
            ]
            single = single_calls(run, meter, plan) if plan.batch_size == 1 else None
        if single is None:
            one = replace(plan, batch_size=1)
            with prepare(target.network, one, meter) as run:
                single = single_calls(run, meter, one)
    shared: dict[str, Any] = {
        "protocol": PROTOCOL,
        "host_before": before,
        "host_after": meter.host_details(),
    }
    return tuple(
        replace(figure, details={**shared, **figure.details}) for figure in (*figures, single)
    )


def certify_targets(
    targets: Sequence[Target],
    plan: MeasurementPlan,
    meter: Meter,
    *,
    cycles: Cycles | None = None,
    energy: bool = False,
) -> dict[str, tuple[Measurement, ...]]:
    """Certify the latency of every target, by its name, and with `energy` its energy per frame, in
    cycles against the reference network, all in one session.

    Raises the errors of `measure`, and `TrialFailedError` if the reference network cannot take such
    images.
    """
    with meter.exclusive():
        return certify_networks(
            {target.name: target.network for target in targets},
            plan,
            meter,
            cycles=cycles,
            energy=energy,
        )
