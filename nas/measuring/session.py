"""Targets measured with the device to itself: latency, single calls, energy, peak memory."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.meters.host import details
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods import (
    energy,
    latency,
    latency_in_turns,
    peak_memory,
    prepare,
    single_calls,
)
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics.certified import certified as in_cycles
from nas.measuring.targets import Target

PROTOCOL, TURNS = "screen/1", "turns/1"
"""Stored with every figure; another number says that figures may not be compared."""


def latencies(
    targets: Sequence[Target], plan: MeasurementPlan, meter: Meter
) -> dict[str, Measurement]:
    """Latency of a batch of each, by name: of several in turns. Raises what `measure` raises."""
    with DeviceLock(meter.device.identity).exclusive(), ExitStack() as prepared:
        before = details()
        runs = {
            target.name: prepared.enter_context(prepare(target.network, plan, meter))
            for target in targets
        }
        if len(runs) == 1:
            protocol, found = (
                PROTOCOL,
                {name: latency(run, meter, plan) for name, run in runs.items()},
            )
        else:
            seed = random.SystemRandom().randrange(2**31)
            protocol, found = TURNS, latency_in_turns(runs, meter, plan, seed=seed)
    shared: dict[str, Any] = {"protocol": protocol, "host_before": before, "host_after": details()}
    return {
        name: replace(figure, details={**shared, **figure.details})
        for name, figure in found.items()
    }


def measure_all(
    targets: Sequence[Target], plan: MeasurementPlan, meter: Meter
) -> Iterator[tuple[Measurement, ...]]:
    """Of each what `measure` measures, as it comes; before that the latencies of several in turns.
    Raises what `measure` raises.
    """
    found = latencies(targets, plan, meter) if len(targets) > 1 else {}
    for target in targets:
        yield measure(target, plan, meter, found.get(target.name))


def measure(
    target: Target, plan: MeasurementPlan, meter: Meter, known: Measurement | None = None
) -> tuple[Measurement, ...]:
    """Latency, unless `known`, energy and peak memory of a batch, and latency of single calls with
    one image.

    A figure that cannot be had is there with its status and reason. Raises what
    `nas.measuring.methods.prepare` and the lock raise.
    """
    with DeviceLock(meter.device.identity).exclusive():
        before = details()
        with prepare(target.network, plan, meter) as run:
            figures = [
                known or latency(run, meter, plan),
                energy(run, meter, plan),
                peak_memory(run, meter, plan),
            ]
            single = single_calls(run, meter, plan) if plan.batch_size == 1 else None
        if single is None:
            one = replace(plan, batch_size=1)
            with prepare(target.network, one, meter) as run:
                single = single_calls(run, meter, one)
    shared: dict[str, Any] = {"protocol": PROTOCOL, "host_before": before, "host_after": details()}
    return tuple(
        replace(figure, details={**shared, **figure.details}) for figure in (*figures, single)
    )


def certified(
    targets: Sequence[Target],
    plan: MeasurementPlan,
    meter: Meter,
    *,
    cycles: Cycles | None = None,
    energy: bool = False,
) -> dict[str, tuple[Measurement, ...]]:
    """Latency, and joules per frame where asked for, of every target by name, in cycles against the
    reference network, all in one session.

    Raises what `measure` raises, and `TrialFailedError` where the reference takes no such images.
    """
    with DeviceLock(meter.device.identity).exclusive():
        return in_cycles(
            {target.name: target.network for target in targets},
            plan,
            meter,
            cycles=cycles,
            energy=energy,
        )
