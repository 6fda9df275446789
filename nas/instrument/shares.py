"""Which share of a network's latency each of its parts takes: stem, stages, classifier, timed one after the other.

Shares are of the sum within the same run, so a machine that is slow for a while changes them little. Waiting for the
device after each part makes a run on a GPU longer than it is without; the whole network's latency is `nas measure`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nas.architecture import Architecture
from nas.benchmark import prepare
from nas.measurement import MeasurementPlan
from nas.meters import Meter
from nas.meters.lock import DeviceLock
from nas.metrics import seeded_network

WARM_UP = 5
"""Runs that are not counted."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Of the whole from 0 to 1: the median of all runs, and between what nine of ten runs are."""

    median: float
    low: float
    high: float


def latency_shares(architecture: Architecture, num_classes: int, plan: MeasurementPlan,
                   meter: Meter) -> tuple[Mapping[str, Share], int]:
    """The share of every part, by the names of `nas show`, and over how many runs; eager, for `plan.max_time_s`.

    Raises what `nas.benchmark.prepare` and the lock raise.
    """
    marks: list[float] = []

    def mark(*_: object) -> None:
        meter.synchronize()
        marks.append(meter.time_s())

    network = seeded_network(architecture, num_classes, plan.image_size)
    network.register_forward_pre_hook(mark)
    stages = network.get_submodule("stages").children()
    parts = {"stem": network.get_submodule("stem"),
             **{f"stage {place}": stage for place, stage in enumerate(stages, start=2)},
             "classifier": network.get_submodule("head")}
    for module in parts.values():
        module.register_forward_hook(mark)
    with DeviceLock(meter.device.identity).exclusive(), prepare(network, plan, meter) as run:
        for _ in range(WARM_UP):
            run()
        marks.clear()
        until = meter.time_s() + plan.max_time_s
        while not marks or meter.time_s() < until:
            run()
    taken = np.diff(np.asarray(marks).reshape(-1, len(parts) + 1), axis=1)  # (runs, parts), seconds
    shares = taken / taken.sum(axis=1, keepdims=True)
    low, median, high = np.quantile(shares, (0.05, 0.5, 0.95), axis=0)
    return {name: Share(median=float(median[i]), low=float(low[i]), high=float(high[i]))
            for i, name in enumerate(parts)}, len(taken)
