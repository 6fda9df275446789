"""Measure targets while the device is held exclusively: latency, single calls, energy, peak
memory.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.building import build_all
from nas.measuring.meters import Meter
from nas.measuring.methods import (
    energy,
    hot,
    hot_latency,
    interleaved_latency,
    latency,
    peak_memory,
    prepare,
    single_calls,
)
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics.certified import build_with_reference, certify_networks
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
    built = build_all({target.name: target.network for target in targets}, plan, meter)
    with meter.exclusive(), ExitStack() as prepared:
        before = meter.host_details()
        runs = {
            name: prepared.enter_context(prepare(network, plan, meter))
            for name, network in built.items()
        }
        if len(runs) == 1:
            protocol = PROTOCOL
            figures = {name: latency(run, meter, plan) for name, run in runs.items()}
        else:
            protocol = TURNS
            seed = random.SystemRandom().randrange(2**31)
            figures = interleaved_latency(runs, meter, plan, seed=seed)
        after = meter.host_details()
    shared = {"protocol": protocol, "host_before": before, "host_after": after}
    return {
        name: _with_details(runs[name].with_runtime(figure), shared)
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
    one = replace(plan, batch_size=1)
    built = {
        each: build_all({target.name: target.network}, each, meter)[target.name]
        for each in dict.fromkeys((plan, one))
    }
    with meter.exclusive():
        before = meter.host_details()
        with prepare(built[plan], plan, meter) as run:
            figures = [
                latency_figure or run.with_runtime(latency(run, meter, plan)),
                run.with_runtime(energy(run, meter, plan)),
                run.with_runtime(peak_memory(run, meter, plan)),
            ]
            if plan == one:
                figures.append(run.with_runtime(single_calls(run, meter, one)))
        if plan != one:
            with prepare(built[one], one, meter) as run:
                figures.append(run.with_runtime(single_calls(run, meter, one)))
        after = meter.host_details()
    shared = {"protocol": PROTOCOL, "host_before": before, "host_after": after}
    return tuple(_with_details(figure, shared) for figure in figures)


def measure_hot(
    targets: Sequence[Target], plan: MeasurementPlan, meter: Meter
) -> Iterator[tuple[Measurement, ...]]:
    """Yield the latency of every target in order, as the session finds the device and after it has
    settled under the target's load.

    Raises the errors of `measure`.
    """
    for target in targets:
        built = build_all({target.name: target.network}, plan, meter)[target.name]
        with meter.exclusive():
            before = meter.host_details()
            with prepare(built, plan, meter) as run:
                figures = [run.with_runtime(each) for each in hot_latency(run, meter, plan)]
            shared = {"host_before": before, "host_after": meter.host_details()}
        yield tuple(
            _with_details(figure, {"protocol": protocol, **shared})
            for figure, protocol in zip(figures, (PROTOCOL, hot.PROTOCOL), strict=True)
        )


def _with_details(figure: Measurement, shared: Mapping[str, Any]) -> Measurement:
    return replace(figure, details={**shared, **figure.details})


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
    networks = {target.name: target.network for target in targets}
    reference, built = build_with_reference(networks, plan, meter)
    with meter.exclusive():
        return certify_networks(
            reference,
            built,
            plan,
            meter,
            cycles=cycles,
            energy=energy,
        )
