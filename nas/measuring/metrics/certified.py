"""Latency and joules against the pinned reference network. The caller holds the device alone."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.published import PUBLISHED
from nas.measuring.meters import Meter
from nas.measuring.meters.host import details
from nas.measuring.methods import Network, certify, certify_energy, prepare_copies
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import seeded_network

REFERENCE = "vovnet27_slim"
"""The pinned network that candidates are measured against: published, with the same weights every
time.
"""
NUM_CLASSES = 1000


def certified(
    networks: Mapping[str, Network],
    plan: MeasurementPlan,
    meter: Meter,
    *,
    cycles: Cycles | None = None,
    energy: bool = False,
) -> dict[str, tuple[Measurement, ...]]:
    """Latency, and joules per frame where asked for, of every network by name, in cycles against
    the reference network, all in one session.

    Raises what `nas.measuring.methods.prepare` raises, and `TrialFailedError` where the reference
    takes no such images.
    """
    reference = seeded_network(
        PUBLISHED[REFERENCE], NUM_CLASSES, plan.image_size, f"the reference {REFERENCE}"
    )
    before = details()
    with prepare_copies([reference, *networks.values()], plan, meter) as (against, *copies):
        runs = dict(zip(networks, copies, strict=True))
        found = [
            take(
                runs,
                against,
                meter,
                plan,
                sleep=meter.sleep,
                seed=random.SystemRandom().randrange(2**31),
                cycles=cycles,
            )
            for take in ([certify, certify_energy] if energy else [certify])
        ]
    shared = {
        "reference": REFERENCE,
        "session": datetime.now(UTC).isoformat(),
        "host_before": before,
        "host_after": details(),
    }
    return {
        name: tuple(replace(each[name], details={**each[name].details, **shared}) for each in found)
        for name in networks
    }
