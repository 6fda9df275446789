"""One target measured with the device to itself: latency, single calls, energy, peak memory."""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from nas.benchmark import certify, energy, latency, peak_memory, prepare, single_calls
from nas.instrument.targets import NUM_CLASSES, Target
from nas.measurement import Measurement, MeasurementPlan
from nas.meters import Meter
from nas.meters.host import details
from nas.meters.lock import DeviceLock
from nas.metrics import seeded_network
from nas.published import PUBLISHED

PROTOCOL = "screen/1"
"""Stored with every figure; another number says that figures may not be compared."""


def measure(target: Target, plan: MeasurementPlan, meter: Meter) -> tuple[Measurement, ...]:
    """Latency, energy and peak memory of a batch, and latency of single calls with one image.

    A figure that cannot be had is there with its status and reason. Raises what `nas.benchmark.prepare` and the lock
    raise.
    """
    with DeviceLock(meter.device.identity).exclusive():
        before = details()
        with prepare(target.network, plan, meter) as run:
            figures = [latency(run, meter, plan), energy(run, meter, plan), peak_memory(run, meter, plan)]
            single = single_calls(run, meter, plan) if plan.batch_size == 1 else None
        if single is None:
            one = replace(plan, batch_size=1)
            with prepare(target.network, one, meter) as run:
                single = single_calls(run, meter, one)
    shared: dict[str, Any] = {"protocol": PROTOCOL, "host_before": before, "host_after": details()}
    return tuple(replace(figure, details={**shared, **figure.details}) for figure in (*figures, single))


REFERENCE = "vovnet27_slim"
"""The pinned network that candidates are measured against: published, with the same weights every time."""


def certified(targets: Sequence[Target], plan: MeasurementPlan, meter: Meter) -> dict[str, Measurement]:
    """Latency of every target by name, in cycles against the reference network, all in one session.

    Raises what `measure` raises, and `TrialFailedError` where the reference takes no such images.
    """
    reference = seeded_network(PUBLISHED[REFERENCE], NUM_CLASSES, plan.image_size)
    with DeviceLock(meter.device.identity).exclusive(), ExitStack() as prepared:
        before = details()
        runs = {target.name: prepared.enter_context(prepare(target.network, plan, meter)) for target in targets}
        found = certify(runs, prepared.enter_context(prepare(reference, plan, meter)), meter, plan, sleep=time.sleep,
                        seed=random.SystemRandom().randrange(2**31))
    shared = {"reference": REFERENCE, "host_before": before, "host_after": details()}
    return {name: replace(figure, details={**figure.details, **shared}) for name, figure in found.items()}
