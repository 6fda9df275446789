"""Build networks on a device that others may train on, before it is held exclusively."""

from collections.abc import Mapping

from nas.core.measurement import MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods import Built, build
from nas.measuring.runtimes import Network


def build_all(
    networks: Mapping[str, Network], plan: MeasurementPlan, meter: Meter
) -> dict[str, Built]:
    """Export or compile every network for the plan, by its name.

    The device is shared with trainers meanwhile. A measurement of another process waits for one
    network at most. Raises the errors of `build` and of the lock.
    """
    if meter.only_runtime:
        return {name: build(network, plan, meter) for name, network in networks.items()}
    built = {}
    with DeviceLock(meter.device.identity).training(meter.vacate) as share:
        for name, network in networks.items():
            built[name] = build(network, plan, meter)
            share.step_aside()
    return built
