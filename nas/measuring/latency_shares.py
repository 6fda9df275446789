"""Shares of a network's latency taken by its parts (stem, stages, classifier), timed one after the
other.

Shares refer to the sum within the same run, so a machine that is slow for a while changes them
little. Runs in which this process waited for a core are left out, as `nas.measuring.methods.timing`
does with blocks. On a GPU a run takes longer than usual, because the device is synchronised after
every part; `nas measure` gives the latency of the whole network.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nas.core.architecture import Architecture
from nas.core.errors import UnavailableError
from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.meters import Meter
from nas.measuring.meters.watch import Disturbance
from nas.measuring.methods import prepare
from nas.measuring.methods.timing import MAX_WAITING_SHARE, waiting_s
from nas.measuring.metrics import seeded_network

WARM_UP_RUNS = 5
"""First runs, which are not counted."""

MAX_HELD_SHARE = 0.5
"""Largest share of runs in which other processes held the cores. With more, the remaining runs are
too few to trust.
"""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of the whole, from 0 to 1: the median of all runs, and the bounds that hold nine of
    ten runs.
    """

    median: float
    low: float
    high: float


def latency_shares(
    architecture: Architecture, num_classes: int, plan: MeasurementPlan, meter: Meter
) -> tuple[Mapping[str, Share], int]:
    """Return the share of every part, by the names of `nas show`, and the number of runs.

    The network runs eagerly for `plan.max_time_s`. Raises `UnavailableError` if the device worked
    for other processes or slowed itself down meanwhile, and the errors of
    `nas.measuring.methods.prepare` and of the lock.
    """
    marks: list[float] = []
    waits_s: list[float] = []  # of each run, for a core

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
    with meter.exclusive(), prepare(network, plan, meter) as run:
        for _ in range(WARM_UP_RUNS):
            run()
        marks.clear()
        neighbour = meter.watch.neighbour()
        meter.watch.begin()
        end_s = meter.time_s() + plan.max_time_s
        while not marks or meter.time_s() < end_s:
            meter.watch.look()
            before = meter.host_load()
            run()
            waits_s.append(waiting_s(before, meter.host_load()))
        problem = neighbour or meter.watch.problem()
    times_s = np.diff(np.asarray(marks).reshape(-1, len(parts) + 1), axis=1)  # (runs, parts)
    held = np.asarray(waits_s) > MAX_WAITING_SHARE * times_s.sum(axis=1)
    if problem is None and held.mean() > MAX_HELD_SHARE:
        problem = Disturbance(
            status=Status.CONTENDED,
            reason=f"other processes held the cores in {held.sum()} of "
            f"{len(held)} runs; stop them and try again",
        )
    if problem is not None:
        raise UnavailableError(f"the shares of the latency were not timed: {problem.reason}")
    times_s = times_s[~held]
    shares = times_s / times_s.sum(axis=1, keepdims=True)
    low, median, high = np.quantile(shares, (0.05, 0.5, 0.95), axis=0)
    return {
        name: Share(median=float(median[i]), low=float(low[i]), high=float(high[i]))
        for i, name in enumerate(parts)
    }, len(times_s)
