"""Latency against the pinned reference network. The caller holds the device alone."""

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

from nas.benchmark import Network, certify, prepare
from nas.benchmark.certify import Cycles
from nas.measurement import Measurement, MeasurementPlan
from nas.meters import Meter
from nas.meters.host import details
from nas.metrics import seeded_network
from nas.published import PUBLISHED

REFERENCE = "vovnet27_slim"
"""The pinned network that candidates are measured against: published, with the same weights every time."""
NUM_CLASSES = 1000


def certified(networks: Mapping[str, Network], plan: MeasurementPlan, meter: Meter, *,
              cycles: Cycles | None = None) -> dict[str, Measurement]:
    """Latency of every network by name, in cycles against the reference network, all in one session.

    Raises what `nas.benchmark.prepare` raises, and `TrialFailedError` where the reference takes no such images.
    """
    reference = seeded_network(PUBLISHED[REFERENCE], NUM_CLASSES, plan.image_size,
                               f"the reference {REFERENCE}")
    with ExitStack() as prepared:
        before = details()
        runs = {name: prepared.enter_context(prepare(network, plan, meter)) for name, network in networks.items()}
        found = certify(runs, prepared.enter_context(prepare(reference, plan, meter)), meter, plan, sleep=meter.sleep,
                        seed=random.SystemRandom().randrange(2**31), cycles=cycles)
    shared = {"reference": REFERENCE, "session": datetime.now(UTC).isoformat(), "host_before": before,
              "host_after": details()}
    return {name: replace(figure, details={**figure.details, **shared}) for name, figure in found.items()}
