"""Interleaved latency of several networks: their speeds relative to each other, on a device whose
pace wanders.

Theory of operation. Networks timed one after another differ by how the device's pace changed
meanwhile. Here each network has a segment of a tenth of a second in every round, in an order drawn
for the round, and two segments in a row give a ratio. The figures are those that fit all these
ratios best (differences of logarithms, soft absolute error), at the level that the medians of the
segments have together. Thus each network is a reference for the others, and no time is spent on a
network that is only a reference.

Reason: on two cores of an AMD EPYC VM that did nothing else, the pace moved by 2 % from one tenth
of a second to the next (median), and its medians over 2 s had a spread of 6 %. With the pace of
800 s there as the device, twenty networks of a CIFAR space, whose latencies lie 2 % apart (median),
and two passes, Kendall's tau between the passes was, as the mean of 23 tries: .824 one after
another for 1.4 s each; .950 by the medians of 14 rounds; .974 by the ratios of the same segments;
.982 by the ratios of 20 rounds.

* A segment is that of `nas.measuring.methods.certify` on a shared CPU: its length is drawn, the
  first block is dropped, and its figure is the median of the blocks that did not wait for a core,
  of which it needs one. A segment without a figure gives no ratio.
* A round in which the device slowed itself down or worked for others (`nas.measuring.meters.watch`)
  is run again after 1, 2, 4, 8 and 16 s. After six of them no network has a value.
* Stop: after 8 rounds or more, if every interval is as narrow as the plan requires, or if the
  networks had the plan's longest time on average. Intervals that are wider then are `noisy`. An
  interval is that of the median of a network's segments, each corrected by the pace of its
  neighbouring segments, times 1.3: for looking more than once, and since the pace is an estimate
  too.
* `contended`: all networks, if one has fewer than 6 segments, the least that have an interval. If
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
from nas.measuring.meters import Meter, Run
from nas.measuring.meters.watch import Disturbance
from nas.measuring.methods.certify import (
    INTERVAL_FACTOR,
    SHARED_CPU_CYCLES,
    LatencyGauge,
)
from nas.measuring.methods.guard import PAUSES_S
from nas.measuring.methods.interval import median_interval
from nas.measuring.methods.timing import foreign_work

Array = NDArray[np.float64]

MIN_ROUNDS = 8
"""Fewest rounds of a measurement."""

MIN_SEGMENTS = 6
"""Fewest segments of a network with a value."""

LINEAR_LOSS_FROM = 0.02
"""Log-ratios that are off by more count by their size, and no longer by its square."""


@dataclass
class Segments:
    """The segments of `count` networks in the order of time. After a `gap` the next segment does
    not follow the one before it.
    """

    count: int
    networks: list[int] = field(default_factory=list)
    """The network of each segment."""
    log_s: list[float] = field(default_factory=list)
    """The logarithm of each segment's seconds per call."""
    follows: list[bool] = field(default_factory=list)
    """True for each segment that came right after the one before it."""
    gap: bool = True

    def add(self, network: int, seconds: float | None) -> None:
        """Add a segment; None leaves a gap."""
        if seconds is not None:
            self.networks.append(network)
            self.log_s.append(math.log(seconds))
            self.follows.append(not self.gap)
        self.gap = seconds is None

    @property
    def fewest(self) -> int:
        """The number of segments of the network that has the fewest."""
        return min(map(self.networks.count, range(self.count)))

    def fits(self) -> list["Fit"]:
        """Return the fit of every network. Each needs `MIN_SEGMENTS` segments."""
        networks, log_s = np.array(self.networks), np.array(self.log_s)
        later = np.flatnonzero(self.follows)
        fitted = self._fitted(networks, log_s, later)
        pace = log_s - fitted[networks]
        paces_beside = [list[float]() for _ in networks]
        for index in later:
            paces_beside[index].append(pace[index - 1])
            paces_beside[index - 1].append(pace[index])
        pace_beside = [float(np.mean(paces)) if paces else 0.0 for paces in paces_beside]
        corrected = log_s - pace_beside
        return [
            Fit(log_s=float(fitted[network]), corrected_log_s=corrected[networks == network])
            for network in range(self.count)
        ]

    def _fitted(self, networks: NDArray[np.int64], log_s: Array, later: NDArray[np.int64]) -> Array:
        """Return the logarithm of each network's seconds, by all ratios together."""
        level = np.array([np.median(log_s[networks == each]) for each in range(self.count)])
        rows = np.arange(len(later))
        design = np.zeros((len(later) + 1, self.count))
        np.add.at(design, (rows, networks[later]), 1)
        np.add.at(design, (rows, networks[later - 1]), -1)
        design[-1] = 1  # the sum of all stays as it is
        ratios = np.append(log_s[later] - log_s[later - 1], level.sum())
        fit = least_squares(
            lambda log_seconds: design @ log_seconds - ratios,
            level,
            jac=lambda _: design,
            loss="soft_l1",
            f_scale=LINEAR_LOSS_FROM,
        )
        return np.asarray(fit.x)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The latency of one network, fitted to the ratios of its segments to their neighbours."""

    log_s: float
    """The logarithm of its seconds."""
    corrected_log_s: Array
    """The logarithm of each segment's seconds, corrected by the pace of its neighbours."""

    @property
    def half_width(self) -> float:
        """The half width of its 95 % interval, of the logarithm."""
        interval = median_interval(self.corrected_log_s.tolist())
        return INTERVAL_FACTOR * (interval.high - interval.low) / 2 if interval else math.inf


def interleaved_latency(
    runs: Mapping[str, Run], meter: Meter, plan: MeasurementPlan, *, seed: int
) -> dict[str, Measurement]:
    """Measure seconds per call of every network, one batch of the plan, by its name.

    The caller must hold the device exclusively, with all networks prepared under the plan.
    `samples` are the segments in seconds, corrected by the pace of their neighbours. The statuses
    are those of `nas.measuring.methods.timing.latency`.
    """
    session = _Session(runs, meter, plan, seed)
    figure = partial(
        Measurement,
        metric="latency",
        unit="s",
        device=meter.device,
        plan=plan,
        method=f"turns among {len(runs)} networks, {meter.clock}, {plan.runtime}",
    )
    problem = session.run()
    segments, rounds = session.segments, session.rounds
    spoiled = {"spoiled": session.spoiled} if session.spoiled else {}
    if problem is not None:
        reason = f"{problem.reason} (the last of {len(session.spoiled) + 1} tries)"
        lost = figure(value=None, status=problem.status, reason=reason, details=spoiled)
        return dict.fromkeys(runs, lost)
    if segments.fewest < MIN_SEGMENTS:
        reason = (
            f"other processes held the cores in {rounds - segments.fewest} of {rounds} rounds; "
            "stop them and measure again"
        )
        return dict.fromkeys(runs, figure(value=None, status=Status.CONTENDED, reason=reason))
    details = {"rounds": rounds, **meter.watch.details(), **spoiled}
    return {
        name: _measured(figure, fit, plan, session.neighbours, details)
        for name, fit in zip(runs, segments.fits(), strict=True)
    }


class _Session:
    """Rounds of segments until the plan is satisfied."""

    def __init__(
        self, runs: Mapping[str, Run], meter: Meter, plan: MeasurementPlan, seed: int
    ) -> None:
        self.segments, self.rounds = Segments(len(runs)), 0
        self.spoiled: list[str] = []
        """Reasons for which rounds were run again."""
        self.neighbours = ""
        """The work of other processes, empty if they did not disturb."""
        self._meter, self._plan, self._rng = meter, plan, random.Random(seed)
        self._gauge = LatencyGauge(meter, plan, SHARED_CPU_CYCLES, min_blocks=1)
        self._networks = [(run, self._gauge.calls(run)) for run in runs.values()]

    def run(self) -> Disturbance | None:
        """Measure. Return the disturbance that did not end, if there was one."""
        meter, spent_s = self._meter, 0.0
        neighbour = meter.watch.neighbour()
        meter.watch.begin()
        began_s, load = meter.time_s(), meter.host_load()
        while not self._over(spent_s):
            start_s = meter.time_s()
            figures = self._round()
            problem = neighbour or meter.watch.problem(start_s)
            if problem is None:
                for network, seconds in figures:
                    self.segments.add(network, seconds)
                spent_s += meter.time_s() - start_s
                self.rounds += 1
                continue
            if len(self.spoiled) == len(PAUSES_S):
                return problem
            meter.sleep(PAUSES_S[len(self.spoiled)])
            self.spoiled.append(problem.reason)
            neighbour, self.segments.gap = meter.watch.neighbour(), True
        seconds = meter.time_s() - began_s
        self.neighbours = foreign_work(load, meter.host_load(), seconds, self._plan)
        return None

    def _round(self) -> list[tuple[int, float | None]]:
        """Time a segment of every network in an order of its own."""
        cycles, figures = SHARED_CPU_CYCLES, []
        for index in self._rng.sample(range(len(self._networks)), len(self._networks)):
            run, calls = self._networks[index]
            seconds = cycles.drawn(cycles.candidate_s, self._rng)
            figures.append((index, self._gauge.figure(run, calls, seconds)))
        return figures

    def _over(self, spent_s: float) -> bool:
        """Return true if no more rounds are needed, or no more are allowed."""
        if self.rounds < MIN_ROUNDS:
            return False
        if spent_s >= self._plan.max_time_s * self.segments.count:
            return True
        return self.segments.fewest >= MIN_ROUNDS and all(
            fit.half_width <= self._plan.max_half_width for fit in self.segments.fits()
        )


def _measured(
    figure: Callable[..., Measurement],
    fit: Fit,
    plan: MeasurementPlan,
    neighbours: str,
    details: Mapping[str, Any],
) -> Measurement:
    doubts = [neighbours] if neighbours else []
    if fit.half_width > plan.max_half_width:
        doubts.append(
            f"the interval is ±{fit.half_width:.1%} after {len(fit.corrected_log_s)} segments, the "
            f"plan requires ±{plan.max_half_width:.1%}"
        )
    return figure(
        value=math.exp(fit.log_s),
        ci_low=math.exp(fit.log_s - fit.half_width),
        ci_high=math.exp(fit.log_s + fit.half_width),
        samples=tuple(np.exp(fit.corrected_log_s).tolist()),
        status=Status.NOISY if doubts else Status.OK,
        reason="; ".join(doubts),
        details=details,
    )
