"""Latency and energy against the pinned reference network. The caller holds the device
exclusively.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from nas.core.architecture import Architecture, Stem
from nas.core.complexity import stage_sizes
from nas.core.errors import InvalidValueError
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.published import PUBLISHED
from nas.measuring.building import build_all
from nas.measuring.meters import Meter
from nas.measuring.methods import Built, certify, certify_energy, prepare_copies
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import seeded_network
from nas.measuring.runtimes import Network

REFERENCE = "vovnet27_slim"
"""Name of the pinned network that candidates are measured against. It is published and has the same
weights every time.
"""
SMALL_REFERENCE = "three stages of vovnet27_slim"
"""Name of the pinned network for images that `REFERENCE` is too deep for, such as those of 28
pixels.
"""
POOL_SIZE = 3
"""Pixels of a side of VoVNet's pools."""
NUM_CLASSES = 1000
"""Outputs of the reference network."""
_REFERENCE_KEY = "/reference"
"""A name that no network has, since a measured network may be named like the reference."""


def build_with_reference(
    networks: Mapping[str, Network], plan: MeasurementPlan, meter: Meter
) -> tuple[Built, dict[str, Built]]:
    """Build the reference network, and every network by its name.

    Raises the errors of `build_all`, and `TrialFailedError` if the reference network cannot take
    such images.
    """
    name, architecture = reference_for(plan)
    reference = seeded_network(architecture, NUM_CLASSES, plan.image_size, f"the reference {name}")
    built = build_all({_REFERENCE_KEY: reference, **networks}, plan, meter)
    return built.pop(_REFERENCE_KEY), built


def reference_for(plan: MeasurementPlan) -> tuple[str, Architecture]:
    """Return the name and the architecture of the pinned network for the plan's images.

    Small images have the first three stages of VoVNet-27-slim behind a stem that keeps their size.
    OpenVINO refuses a pool that is larger than its input, which VoVNet-27-slim has at 32 pixels.
    """
    published = PUBLISHED[REFERENCE]
    small = SMALL_REFERENCE, replace(published, stem=Stem.CIFAR, stages=published.stages[:3])
    try:
        *_, pooled, _last = stage_sizes(published, (plan.image_size, plan.image_size))
    except InvalidValueError:
        return small
    if plan.runtime == "openvino" and min(pooled) < POOL_SIZE:
        return small
    return REFERENCE, published


def certify_networks(
    reference: Built,
    networks: Mapping[str, Built],
    plan: MeasurementPlan,
    meter: Meter,
    *,
    cycles: Cycles | None = None,
    energy: bool = False,
) -> dict[str, tuple[Measurement, ...]]:
    """Certify the latency of every network, by its name, and with `energy` its energy per frame, in
    cycles against the reference network, all in one session.

    Raises the errors of `nas.measuring.methods.prepare`.
    """
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
        "reference": reference_for(plan)[0],
        "session": datetime.now(UTC).isoformat(),
        "host_before": before,
        "host_after": meter.host_details(),
    }

    def with_details(name: str, figure: Measurement) -> Measurement:
        figure = runs[name][0].with_runtime(figure)
        return replace(figure, details={**figure.details, **shared})

    return {each: tuple(with_details(each, figures[each]) for figures in results) for each in runs}
