"""Latency of several networks in turns: how fast they are beside each other, on a device whose pace
wanders.

Theory of operation. Networks timed one after another differ by what the device's pace did
meanwhile. Here each has a segment of a tenth of a second in every round, in an order drawn anew,
and what two segments in a row say is a ratio. The figures are those that fit all these ratios best
(differences of logarithms, soft absolute error), at the level that the segments' medians have
together. Each network is so a reference for the others, and none is timed for that alone.

Why: on two cores of an AMD EPYC VM that did nothing else, the pace moved by 2 % from one tenth of a
second to the next (median), and its medians over 2 s had a spread of 6 %. With the pace of 800 s
there as the device, twenty networks of a CIFAR space, whose latencies lie 2 % apart (median), two
passes and Kendall's tau between them, the mean of 23 tries: .824 one after another for 1.4 s each;
.950 by the medians of 14 rounds, .974 by the ratios of the same segments; .982 by those of 20
rounds.

* A segment is what `nas.measuring.methods.certify` has on a shared CPU: its length drawn, the first
  block dropped, the median of the blocks that did not wait for a core, of which it needs one. A
  segment without a figure says no ratio.
* A round in which the device slowed itself down or worked for others (`nas.measuring.meters.watch`)
  is run again after 1, 2, 4, 8 and 16 s; after six of them no network has a value.
* Stop: after 8 rounds or more, when every interval is as narrow as the plan asks, or when the
  networks had the plan's longest time on average; what is wider then is `noisy`. The interval is
  that of the median of what a network's segments say once those beside them have said the pace,
  times 1.3: for looking more than once, and since the pace is an estimate too.
* `contended`: all, where one has fewer than 6 segments, the least that have an interval. Where
  neighbours kept more than half of the cores busy that the measurement leaves free, all are
  `noisy`.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.measuring.meters import Meter
from nas.measuring.methods.certify import SHARED, WIDENING, Seconds, foreign_work
from nas.measuring.methods.guard import PAUSES_S
from nas.measuring.methods.interval import median_interval
from nas.measuring.methods.timing import Run

Array = NDArray[np.float64]

LEAST_ROUNDS = 8
LEAST_FIGURES = 6
SCALE = 0.02
"""Log-ratios that are off by more count by their size, and no longer by its square."""


@dataclass
class Turns:
    """Segments in the order of time: which of `count` networks each was of, the logarithm of its
    seconds per call, and whether it came right after the one before it. After a `gap` it did not.
    """

    count: int
    which: list[int] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    follows: list[bool] = field(default_factory=list)
    gap: bool = True

    def add(self, network: int, seconds: float | None) -> None:
        """One more segment; None leaves a gap."""
        if seconds is not None:
            self.which.append(network)
            self.logs.append(math.log(seconds))
            self.follows.append(not self.gap)
        self.gap = seconds is None

    @property
    def fewest(self) -> int:
        """Segments of the network that has the fewest."""
        return min(map(self.which.count, range(self.count)))

    def figures(self) -> list["Fit"]:
        """Of every network; each needs `LEAST_FIGURES` segments."""
        which, logs = np.array(self.which), np.array(self.logs)
        level = np.array([np.median(logs[which == network]) for network in range(self.count)])
        later = np.flatnonzero(self.follows)
        design = np.zeros((len(later) + 1, self.count))
        np.add.at(design, (np.arange(len(later)), which[later]), 1)
        np.add.at(design, (np.arange(len(later)), which[later - 1]), -1)
        design[-1] = 1  # all together stay where they are
        ratios = np.append(logs[later] - logs[later - 1], level.sum())
        fitted = least_squares(
            lambda at: design @ at - ratios,
            level,
            jac=lambda _: design,
            loss="soft_l1",
            f_scale=SCALE,
        ).x
        pace, beside = logs - fitted[which], [list[float]() for _ in which]
        for index in later:
            beside[index].append(pace[index - 1])
            beside[index - 1].append(pace[index])
        alone = [float(np.mean(around)) if around else 0.0 for around in beside]
        return [
            Fit(log=float(fitted[network]), said=(logs - alone)[which == network])
            for network in range(self.count)
        ]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The logarithm of a network's seconds, and what each of its segments says of it once those
    beside it have said the pace.
    """

    log: float
    said: Array

    @property
    def half_width(self) -> float:
        """Of its 95 % interval, of the logarithm."""
        known = median_interval(self.said.tolist())
        return WIDENING * (known.high - known.low) / 2 if known else math.inf


def latency_in_turns(
    runs: Mapping[str, Run], meter: Meter, plan: MeasurementPlan, *, seed: int
) -> dict[str, Measurement]:
    """Seconds per call of every network, one batch of the plan, by name. The device must be held
    alone, all of them prepared under the plan.

    `samples` are what each segment says, in seconds. Status as
    `nas.measuring.methods.timing.latency`.
    """
    rng, gauge, turns = (
        random.Random(seed),
        Seconds(meter, plan, SHARED, least_blocks=1),
        Turns(len(runs)),
    )
    known = [(run, gauge.calls(run)) for run in runs.values()]
    figure = partial(
        Measurement,
        metric="latency",
        unit="s",
        device=meter.device,
        plan=plan,
        method=f"turns among {len(runs)} networks, {meter.clock}, {plan.runtime}",
    )
    spoiled: list[str] = []
    spent_s, rounds, neighbour = 0.0, 0, meter.watch.neighbour()
    meter.watch.begin()
    began_s, load = meter.time_s(), meter.host_load()
    while not _over(turns, rounds, spent_s, plan):
        start_s = meter.time_s()
        segments = [
            (index, gauge.figure(*known[index], SHARED.drawn(SHARED.candidate_s, rng)))
            for index in rng.sample(range(len(known)), len(known))
        ]
        problem = neighbour or meter.watch.problem(start_s)
        if problem is None:
            for segment in segments:
                turns.add(*segment)
            spent_s, rounds = spent_s + meter.time_s() - start_s, rounds + 1
            continue
        if len(spoiled) == len(PAUSES_S):
            reason = f"{problem.reason} (the last of {len(spoiled) + 1} tries)"
            return {
                name: figure(
                    value=None, status=problem.status, reason=reason, details={"spoiled": spoiled}
                )
                for name in runs
            }
        meter.sleep(PAUSES_S[len(spoiled)])
        spoiled.append(problem.reason)
        neighbour, turns.gap = meter.watch.neighbour(), True
    crowd = foreign_work(load, meter.host_load(), meter.time_s() - began_s, plan)
    if turns.fewest < LEAST_FIGURES:
        held = rounds - turns.fewest
        reason = f"other processes held the cores in {held} of {rounds} rounds; stop them and measure again"
        return {name: figure(value=None, status=Status.CONTENDED, reason=reason) for name in runs}
    details = {"rounds": rounds, **meter.watch.details()} | (
        {"spoiled": spoiled} if spoiled else {}
    )
    return {
        name: _measured(figure, one, plan, crowd, details)
        for name, one in zip(runs, turns.figures(), strict=True)
    }


def _over(turns: Turns, rounds: int, spent_s: float, plan: MeasurementPlan) -> bool:
    """Whether no more rounds are needed, or no more are allowed."""
    if rounds < LEAST_ROUNDS:
        return False
    late = spent_s >= plan.max_time_s * turns.count
    return late or (
        turns.fewest >= LEAST_ROUNDS
        and all(each.half_width <= plan.max_half_width for each in turns.figures())
    )


def _measured(
    figure: Callable[..., Measurement],
    one: Fit,
    plan: MeasurementPlan,
    crowd: str,
    details: Mapping[str, Any],
) -> Measurement:
    doubts = [crowd] if crowd else []
    if one.half_width > plan.max_half_width:
        doubts.append(
            f"interval of ±{one.half_width:.1%} after {len(one.said)} turns, the plan asks "
            f"±{plan.max_half_width:.1%}"
        )
    return figure(
        value=math.exp(one.log),
        ci_low=math.exp(one.log - one.half_width),
        ci_high=math.exp(one.log + one.half_width),
        samples=tuple(np.exp(one.said).tolist()),
        status=Status.NOISY if doubts else Status.OK,
        reason="; ".join(doubts),
        details=details,
    )
