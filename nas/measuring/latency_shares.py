"""Which share of a network's latency each of its parts takes: stem, stages, classifier, timed one
after the other.

Shares are of the sum within the same run, so a machine that is slow for a while changes them
little. A run in which this process waited for a core is left out, as `nas.measuring.methods.timing`
does with blocks. Waiting for the device after each part makes a run on a GPU longer than it is
without; the whole network's latency is `nas measure`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nas.core.architecture import Architecture
from nas.core.errors import UnavailableError
from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.meters import Meter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.meters.watch import Disturbance
from nas.measuring.methods import prepare
from nas.measuring.methods.timing import MAX_WAITING_SHARE, waiting_s
from nas.measuring.metrics import seeded_network

WARM_UP = 5
"""Runs that are not counted."""

MAX_HELD = 0.5
"""Of the runs; where others held the cores in more, those that are left say little."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Of the whole from 0 to 1: the median of all runs, and between what nine of ten runs are."""

    median: float
    low: float
    high: float


def latency_shares(
    architecture: Architecture, num_classes: int, plan: MeasurementPlan, meter: Meter
) -> tuple[Mapping[str, Share], int]:
    """The share of every part, by the names of `nas show`, and over how many runs; eager, for
    `plan.max_time_s`.

    Raises `UnavailableError` where the device worked for others or slowed itself down meanwhile,
    and what `nas.measuring.methods.prepare` and the lock raise.
    """
    marks: list[float] = []
    waited: list[float] = []  # seconds for a core, of each run

    def mark(*_: object) -> None:
        meter.synchronize()
        marks.append(meter.time_s())

    network = seeded_network(architecture, num_classes, plan.image_size)
    network.register_forward_pre_hook(mark)
    stages = network.get_submodule("stages").children()
    parts = {
        "stem": network.get_submodule("stem"),
        **{f"stage {place}": stage for place, stage in enumerate(stages, start=2)},
        "classifier": network.get_submodule("head"),
    }
    for module in parts.values():
        module.register_forward_hook(mark)
    with DeviceLock(meter.device.identity).exclusive(), prepare(network, plan, meter) as run:
        for _ in range(WARM_UP):
            run()
        marks.clear()
        neighbour = meter.watch.neighbour()
        meter.watch.begin()
        until = meter.time_s() + plan.max_time_s
        while not marks or meter.time_s() < until:
            meter.watch.look()
            before = meter.host_load()
            run()
            waited.append(waiting_s(before, meter.host_load()))
        problem = neighbour or meter.watch.problem()
    taken = np.diff(np.asarray(marks).reshape(-1, len(parts) + 1), axis=1)  # (runs, parts), seconds
    held = np.asarray(waited) > MAX_WAITING_SHARE * taken.sum(axis=1)
    if problem is None and held.mean() > MAX_HELD:
        problem = Disturbance(
            status=Status.CONTENDED,
            reason=f"other processes held the cores in {held.sum()} of "
            f"{len(held)} runs; stop them and try again",
        )
    if problem is not None:
        raise UnavailableError(f"the shares of the latency were not timed: {problem.reason}")
    taken = taken[~held]
    shares = taken / taken.sum(axis=1, keepdims=True)
    low, median, high = np.quantile(shares, (0.05, 0.5, 0.95), axis=0)
    return {
        name: Share(median=float(median[i]), low=float(low[i]), high=float(high[i]))
        for i, name in enumerate(parts)
    }, len(taken)
