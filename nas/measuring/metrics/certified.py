"""Latency and energy against the pinned reference network. The caller holds the device
exclusively.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.published import PUBLISHED
from nas.measuring.meters import Meter
from nas.measuring.methods import Network, certify, certify_energy, prepare_copies
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import seeded_network

REFERENCE = "vovnet27_slim"
"""Name of the pinned network that candidates are measured against. It is published and has the same
weights every time.
"""
NUM_CLASSES = 1000
"""Outputs of the reference network."""


def certify_networks(
    networks: Mapping[str, Network],
    plan: MeasurementPlan,
    meter: Meter,
    *,
    cycles: Cycles | None = None,
    energy: bool = False,
) -> dict[str, tuple[Measurement, ...]]:
    """Certify the latency of every network, by its name, and with `energy` its energy per frame, in
    cycles against the reference network, all in one session.

    Raises the errors of `nas.measuring.methods.prepare`, and `TrialFailedError` if the reference
    network cannot take such images.
    """
    reference = seeded_network(
        PUBLISHED[REFERENCE], NUM_CLASSES, plan.image_size, f"the reference {REFERENCE}"
    )
    before = meter.host_details()
    with prepare_copies([reference, *networks.values()], plan, meter) as (reference_runs, *copies):
        runs = dict(zip(networks, copies, strict=True))
        results = [
            method(
                runs,
                reference_runs,
                meter,
                plan,
                sleep=meter.sleep,
                seed=random.SystemRandom().randrange(2**31),
                cycles=cycles,
            )
            for method in ([certify, certify_energy] if energy else [certify])
        ]
    shared = {
        "reference": REFERENCE,
        "session": datetime.now(UTC).isoformat(),
        "host_before": before,
        "host_after": meter.host_details(),
    }

    def with_details(figure: Measurement) -> Measurement:
        return replace(figure, details={**figure.details, **shared})

    return {name: tuple(with_details(figures[name]) for figures in results) for name in networks}
