"""Latency and joules per frame against a reference network, interleaved: R C R C … R.

Theory of operation. Clocks, temperature and neighbours drift over seconds to minutes, so an
interval from blocks timed one after another is too narrow (`nas.measuring.methods.interval`). Here
a pinned reference network R is timed before and after each candidate C, and a cycle gives the ratio
C / mean(R before, R after): what moves slowly moves both and cancels. Several candidates are
interleaved, in an order drawn for each round.

* Segments: 5 s of a candidate, 2 s of the reference, the first 0.5 s of each dropped. A segment's
  figure is the median of its blocks that did not wait for a core (`nas.measuring.methods.timing`),
  and it needs three of them.
* For joules a segment is one window of `nas.measuring.meters.energy`, as long as the rest of the
  segment. If power is summed it is 10 s at least, as nothing aligns it.
* A cycle is rejected in four cases: a segment of it had too few blocks; the two R differ by more
  than 2 %; the mean SM clock of C is more than 3 % from that of both R, and the board was not at
  its power limit; the device slowed itself down, moved its clock or worked for others
  (`nas.measuring.meters.watch`). A rejected cycle is run again after 1, 2, 4, … at most 16 s. After
  more than 6, or more than 180 s for a candidate, there is no value.
* The joules of a CPU are those of all processes together. Work of others adds to both networks, and
  does not cancel in the ratio. Therefore every cycle beside busy neighbours is rejected there.
* Before the first cycle, and again after a rejected one, the session waits until busy neighbours
  end, at most 60 s in all. On two threads of one core a neighbour that came and went made the
  reference 1.0 to 1.8 times as slow from one segment to the next. Cycles beside it are lost, so
  gaps of ten seconds are worth waiting for.
* Clock confounded, and therefore `noisy`: faster or slower than R beyond the interval, but not so
  in clock cycles, which are seconds times the mean SM clock, if the device reports it.
* Stop for a candidate with K >= 4 cycles if h = 1.3 t(0.975, K - 1) s / sqrt(K) is at most 1 % of
  the mean ratio (2 % for joules), or at K = 12, then `noisy`. The factor 1.3 accounts for the
  shared R and for looking more than once: without it the interval covers 83 to 94 % in simulation,
  with it 92 to 97 %.
* Latency on the CPU of a virtual machine, whose host has other guests that it cannot see, has
  cycles of its own (`SHARED_CPU_CYCLES`): a tenth of a second for either network, 40 to 300 times,
  and the median of the ratios of each C to the R before it and to the R after it. On two cores of
  an AMD EPYC that did nothing else, one network's pace moved by 2 % from one segment to the next
  (median; 9 % in one of 20) whether segments were 0.1 or 5 s long. Therefore many short ones cancel
  what few long ones cannot. In 800 s of its calls, cut into sessions of the network against itself,
  sessions of 30 s with 5 and 2 s were off by up to 2.1 %, and these, of some 12 s, by at most 1.3 %
  (179 sessions in three cuts; the interval held 1 in 98 %). Equal segments of 0.1 s were off by up
  to 1.5 %, so their length is drawn. Delays have a long tail, so the median of ratios to the mean
  of two R was too small, by 0.1 %.
* The place of a network in memory matters as much: of eight interleaved copies of one network in a
  process, timed for three minutes, the furthest were 1.2 % slower and 0.6 % faster than all, in
  each of four stretches of 45 s, and a second process gave the same. Therefore a candidate and R
  may each be several copies, whose segments alternate.
* The value is the ratio times the median R of this session. Across sessions compare the ratio, in
  `details`.
"""

import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from nas.core.errors import UnavailableError
from nas.core.measurement import Device, Measurement, MeasurementPlan, Status
from nas.measuring.meters import Meter, Run
from nas.measuring.meters.energy import POWER_METHODS
from nas.measuring.meters.watch import Disturbance, Span
from nas.measuring.methods.interval import mean_interval, median_interval
from nas.measuring.methods.timing import (
    MAX_WAITING_SHARE,
    foreign_work,
    long_waiting,
    waiting_s,
    warm_up,
)
from nas.measuring.methods.windows import piece, piece_calls

PROTOCOL = "certify/4"
"""Name of the protocol, stored with every figure."""

MIN_BLOCKS = 3
"""Fewest blocks of a segment with a figure."""

INTERVAL_FACTOR = 1.3
"""Factor by which intervals are widened (see above)."""

NEIGHBOUR_LOOK_S = 0.5
"""Time between two looks at busy neighbours, long enough for the kernel's clock tick of 10 ms."""

CORES_HELD = Disturbance(status=Status.CONTENDED, reason="other processes held the cores")
"""The disturbance of a segment with too few blocks."""


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """Lengths and numbers of cycles. The defaults are those of the protocol."""

    candidate_s: float = 5.0
    """Length of a candidate's segment."""
    reference_s: float = 2.0
    """Length of the reference's segment."""
    min_summed_s: float = 10.0
    """Shortest segment in which power is summed."""
    dropped_s: float = 0.5
    """Time dropped at the beginning of a segment."""
    min_cycles: int = 4
    max_cycles: int = 12
    max_half_width: float = 0.01
    """Largest half width of the interval, as a share of the ratio."""
    max_reference_change: float = 0.02
    """Largest relative difference between the two references of a cycle."""
    max_clock_difference: float = 0.03
    """Largest relative difference between the clocks of candidate and reference."""
    max_rejected: int = 6
    """Most rejected cycles of a candidate."""
    pause_s: float = 1.0
    """Pause after the first rejected cycle; it doubles with each further one."""
    max_pause_s: float = 16.0
    patience_s: float = 60.0
    """Longest time in a session to wait until busy neighbours end."""
    max_candidate_s: float = 180.0
    """Longest time for a candidate."""
    length_variation: float = 0.0
    """Share by which the lengths of segments vary at random."""
    median_of_pairs: bool = False
    """Use the median of the ratios to either reference, with its interval from ranks, instead of
    the mean ratio to both.
    """
    rejects_neighbours: bool = False
    """Reject cycles beside busy neighbours even if the reference kept its pace."""

    def drawn(self, seconds: float, rng: random.Random) -> float:
        """Return the length of one segment of this nominal length."""
        return seconds * rng.uniform(1 - self.length_variation, 1 + self.length_variation)


SHARED_CPU_CYCLES = Cycles(
    candidate_s=0.1,
    reference_s=0.1,
    dropped_s=1e-3,
    length_variation=0.3,
    min_cycles=40,
    max_cycles=300,
    median_of_pairs=True,
    max_reference_change=math.inf,
    rejects_neighbours=True,
    max_rejected=60,
    pause_s=0.1,
    max_pause_s=1.6,
)
"""Cycles for latency on a CPU that is shared with others out of sight."""


def shared_with(device: Device) -> str | None:
    """Return the hypervisor of a CPU on which others may work out of sight, None for any other
    device.
    """
    return device.details.get("hypervisor") if device.kind == "cpu" else None


Copies = Sequence[Run]
"""Copies of one network at different places in memory."""


def _copies(network: Run | Copies) -> Copies:
    return network if isinstance(network, Sequence) else [network]


class _Network:
    """The copies of a network, and the calls in a piece of a segment."""

    def __init__(self, network: Run | Copies, gauge: "Gauge", rng: random.Random) -> None:
        self.copies = _copies(network)
        self.calls = gauge.calls(self.copies[0])
        self._rng = rng
        self._order = self._endless_order()

    def next(self) -> Run:
        """Return the copy for the next segment."""
        return next(self._order)

    def _endless_order(self) -> Iterator[Run]:
        while True:
            yield from self._rng.sample(self.copies, len(self.copies))


@dataclass
class _Candidate:
    """The results of one candidate so far."""

    network: _Network
    cycles: Cycles
    ratios: list[float] = field(default_factory=list)
    """The ratio to the mean of both references, for each cycle."""
    pairs: list[float] = field(default_factory=list)
    """The ratios to the reference before and to the one after it, for each cycle."""
    figures: list[float] = field(default_factory=list)
    """The candidate's figure in each cycle, in the gauge's unit."""
    clocks: list[float] = field(default_factory=list)
    """The ratio of the clocks in each cycle in which the device reported them."""
    rejected: list[Disturbance] = field(default_factory=list)
    spent_s: float = 0.0

    @property
    def ratio(self) -> float:
        """The ratio of all cycles."""
        if self.cycles.median_of_pairs:
            return statistics.median(self.pairs)
        return statistics.fmean(self.ratios)

    @property
    def half_width(self) -> float:
        """The half width of the ratio's interval, infinite for too few cycles."""
        if len(self.ratios) < 2:
            return math.inf
        interval_of = median_interval if self.cycles.median_of_pairs else mean_interval
        interval = interval_of(self.ratios)
        return INTERVAL_FACTOR * (interval.high - interval.low) / 2 if interval else math.inf

    @property
    def ratio_of_clocks(self) -> float | None:
        """The mean ratio of the candidate's clock to the reference's, None unless the device
        reported them in every cycle.
        """
        if not self.clocks or len(self.clocks) < len(self.ratios):
            return None
        return statistics.fmean(self.clocks)

    @property
    def precise(self) -> bool:
        """True if there are enough cycles and the interval is narrow enough."""
        enough = len(self.ratios) >= self.cycles.min_cycles
        return enough and self.half_width <= self.cycles.max_half_width * self.ratio

    @property
    def late(self) -> bool:
        """True if the candidate's time is over."""
        return self.spent_s > self.cycles.max_candidate_s

    @property
    def given_up(self) -> bool:
        """True if too much was rejected, or time ran out before the fewest cycles."""
        too_few = len(self.ratios) < self.cycles.min_cycles
        return (self.late and too_few) or len(self.rejected) > self.cycles.max_rejected

    @property
    def over(self) -> bool:
        """True if the candidate needs no more cycles, or gets no more."""
        enough = len(self.ratios) >= self.cycles.max_cycles
        return self.precise or enough or self.late or self.given_up


def certify(
    candidates: Mapping[str, Run | Copies],
    reference: Run | Copies,
    meter: Meter,
    plan: MeasurementPlan,
    *,
    sleep: Callable[[float], object],
    seed: int = 0,
    cycles: Cycles | None = None,
) -> dict[str, Measurement]:
    """Measure the latency of every candidate, by its name. The caller must hold the device
    exclusively, with all networks prepared under the plan.

    `samples` are the cycles' ratios times the session's median R, so they are seconds too. The
    status is `ok` or `noisy`, or without a value `contended` (others held the cores) or `throttled`
    (the reference itself changed its pace).
    """
    cycles = cycles or (SHARED_CPU_CYCLES if shared_with(meter.device) else Cycles())
    gauge = LatencyGauge(meter, plan, cycles)
    session = _Session(gauge=gauge, meter=meter, plan=plan, cycles=cycles, sleep=sleep)
    return session.figures(candidates, reference, random.Random(seed))


def certify_energy(
    candidates: Mapping[str, Run | Copies],
    reference: Run | Copies,
    meter: Meter,
    plan: MeasurementPlan,
    *,
    sleep: Callable[[float], object],
    seed: int = 0,
    cycles: Cycles | None = None,
) -> dict[str, Measurement]:
    """Measure joules per frame of every candidate, by its name, in the same cycles. `cycles` are
    those for latency.

    The statuses are those of `certify`. If no sensor can be trusted, all are `unavailable` with the
    reason.
    """
    cycles = cycles or Cycles()
    cycles = replace(
        cycles,
        max_half_width=2 * cycles.max_half_width,
        rejects_neighbours=cycles.rejects_neighbours or meter.device.kind == "cpu",
    )
    try:
        gauge = _EnergyGauge(meter, plan, cycles, _copies(reference)[0])
        session = _Session(gauge=gauge, meter=meter, plan=plan, cycles=cycles, sleep=sleep)
        figures = session.figures(candidates, reference, random.Random(seed))
    except UnavailableError as error:
        figure = Measurement.unavailable(
            "energy",
            "J",
            str(error),
            device=meter.device,
            plan=plan,
            details=meter.energy.details(),
        )
        return dict.fromkeys(candidates, figure)
    return {
        name: replace(figure, details={**meter.energy.details(), **figure.details})
        for name, figure in figures.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """A segment's figure, None if it has none, and its begin and end."""

    figure: float | None
    span: Span


@dataclass(frozen=True, kw_only=True)
class _Cycle:
    """A candidate between two references."""

    before: _Segment
    middle: _Segment
    after: _Segment
    disturbance: Disturbance | None
    """A disturbance by the device."""
    neighbours: str
    """The work of other processes, empty if they did not disturb."""
    clocks: tuple[float, float] | None
    """The mean clocks of candidate and references, None if the device does not report them."""


@dataclass(frozen=True, kw_only=True)
class _Session:
    """Cycles of all candidates against the reference."""

    gauge: "Gauge"
    meter: Meter
    plan: MeasurementPlan
    cycles: Cycles
    sleep: Callable[[float], object]

    def figures(
        self, candidates: Mapping[str, Run | Copies], reference: Run | Copies, rng: random.Random
    ) -> dict[str, Measurement]:
        """Measure the figure of every candidate, by its name."""
        meter, cycles, neighbour = self.meter, self.cycles, self.meter.watch.neighbour()
        measured = {
            name: _Candidate(_Network(each, self.gauge, rng), cycles)
            for name, each in candidates.items()
        }
        against = _Network(reference, self.gauge, rng)
        references: list[float] = []
        pause_s = cycles.pause_s
        patience_s = cycles.patience_s - self._wait_for_quiet(cycles.patience_s)
        meter.watch.begin()
        before = self._segment(against, cycles.reference_s, rng)
        while waiting := [each for each in measured.values() if not each.over]:
            rng.shuffle(waiting)
            rejected = False
            for candidate in waiting:
                start_s = meter.time_s()
                cycle = self._cycle(candidate.network, against, before, neighbour, rng)
                problem = self._count(cycle, candidate, references)
                if problem is not None:
                    candidate.rejected.append(problem)
                    rejected = True
                before = cycle.after
                candidate.spent_s += meter.time_s() - start_s
            if rejected:
                self.sleep(pause_s)
                patience_s -= self._wait_for_quiet(patience_s)
                pause_s = min(2 * pause_s, cycles.max_pause_s)
                neighbour = meter.watch.neighbour()
                before = self._segment(against, cycles.reference_s, rng)
        return {name: self._measurement(each, references) for name, each in measured.items()}

    def _segment(self, network: _Network, seconds: float, rng: random.Random) -> _Segment:
        start_s = self.meter.time_s()
        figure = self.gauge.figure(network.next(), network.calls, self.cycles.drawn(seconds, rng))
        return _Segment(figure=figure, span=(start_s, self.meter.time_s()))

    def _cycle(
        self,
        candidate: _Network,
        reference: _Network,
        before: _Segment,
        neighbour: Disturbance | None,
        rng: random.Random,
    ) -> _Cycle:
        meter = self.meter
        start_s, load = meter.time_s(), meter.host_load()
        middle = self._segment(candidate, self.cycles.candidate_s, rng)
        after = self._segment(reference, self.cycles.reference_s, rng)
        seconds = meter.time_s() - start_s
        neighbours = foreign_work(load, meter.host_load(), seconds, self.plan)
        return _Cycle(
            before=before,
            middle=middle,
            after=after,
            disturbance=neighbour or meter.watch.problem(start_s),  # takes the last look
            neighbours=neighbours,
            clocks=meter.watch.clocks(middle.span, (before.span, after.span)),
        )

    def _count(
        self, cycle: _Cycle, candidate: _Candidate, references: list[float]
    ) -> Disturbance | None:
        """Add the cycle to the results, or return why it does not count."""
        before, middle, after = cycle.before.figure, cycle.middle.figure, cycle.after.figure
        if cycle.disturbance:
            return cycle.disturbance
        if before is None or middle is None or after is None:
            return CORES_HELD
        if problem := self._problem(cycle, abs(after - before) / ((after + before) / 2)):
            return problem
        candidate.ratios.append(middle / ((before + after) / 2))
        candidate.pairs += [middle / before, middle / after]
        candidate.figures.append(middle)
        if cycle.clocks:
            candidate.clocks.append(cycle.clocks[0] / cycle.clocks[1])
        references.append(after)
        return None

    def _problem(self, cycle: _Cycle, reference_change: float) -> Disturbance | None:
        """Return why a cycle with figures does not count, None if it does.

        A change of the reference's pace is attributed to busy neighbours if there are any.
        """
        neighbours = cycle.neighbours
        if self.cycles.rejects_neighbours and neighbours:
            return Disturbance(status=Status.CONTENDED, reason=neighbours)
        if reference_change <= self.cycles.max_reference_change:
            return self._clock_problem(cycle)
        reason = f"the reference changed by {reference_change:.1%}"
        if neighbours:
            return Disturbance(status=Status.CONTENDED, reason=f"{reason} while {neighbours}")
        return Disturbance(status=Status.THROTTLED, reason=reason)

    def _clock_problem(self, cycle: _Cycle) -> Disturbance | None:
        """Return the disturbance if the candidate ran at another clock than the reference, for
        another reason than the board's power limit.
        """
        if cycle.clocks is None:
            return None
        candidate_mhz, reference_mhz = cycle.clocks
        if abs(candidate_mhz / reference_mhz - 1) <= self.cycles.max_clock_difference:
            return None
        spans = cycle.before.span, cycle.middle.span, cycle.after.span
        if self.meter.watch.power_capped(spans):
            return None
        return Disturbance(
            status=Status.THROTTLED,
            reason=f"the device's clock was {candidate_mhz:.0f} MHz on average, and "
            f"{reference_mhz:.0f} MHz with the reference",
        )

    def _wait_for_quiet(self, patience_s: float) -> float:
        """Wait until busy neighbours end, at most this long, and return the seconds waited."""
        meter = self.meter
        start_s, load = meter.time_s(), meter.host_load()
        while load is not None and meter.time_s() - start_s < patience_s:
            look_s = meter.time_s()
            self.sleep(NEIGHBOUR_LOOK_S)
            now = meter.host_load()
            if not foreign_work(load, now, meter.time_s() - look_s, self.plan):
                break
            load = now
        return meter.time_s() - start_s

    def _measurement(self, candidate: _Candidate, references: Sequence[float]) -> Measurement:
        gauge, unit = self.gauge, self.gauge.unit.lower()
        figure = partial(
            Measurement,
            metric=gauge.metric,
            unit=gauge.unit,
            method=gauge.method,
            device=self.meter.device,
            plan=self.plan,
        )
        details: dict[str, Any] = {
            "protocol": PROTOCOL,
            "shared_with": shared_with(self.meter.device),
            "copies": len(candidate.network.copies),
            "ratios": candidate.ratios,
            f"candidate_{unit}": candidate.figures,
            f"reference_{unit}": list(references),
            "rejected": [problem.reason for problem in candidate.rejected],
            **self.meter.watch.details(),
        }
        if candidate.given_up or not candidate.ratios:
            return _without_value(figure, candidate.rejected, details)
        ratio, half, scale = candidate.ratio, candidate.half_width, statistics.median(references)
        details["ratio"] = ratio
        doubts = self._doubts(candidate)
        clocks = candidate.ratio_of_clocks
        if gauge.metric == "latency" and clocks is not None:
            details["ratio_in_clock_cycles"] = ratio * clocks
            doubts += _clock_doubts(ratio, ratio * clocks, half)
        interval: dict[str, Any] = {}
        if math.isfinite(half):
            details |= {"ratio_low": ratio - half, "ratio_high": ratio + half}
            interval = {"ci_low": (ratio - half) * scale, "ci_high": (ratio + half) * scale}
        return figure(
            value=ratio * scale,
            **interval,
            samples=tuple(each * scale for each in candidate.ratios),
            details=details,
            status=Status.NOISY if doubts else Status.OK,
            reason="; ".join(doubts),
        )

    def _doubts(self, candidate: _Candidate) -> list[str]:
        """Return why the value is less certain than the protocol requires."""
        if candidate.precise:
            return []
        half_width = candidate.half_width / candidate.ratio
        reason = f"the interval is ±{half_width:.1%} after {len(candidate.ratios)} cycles"
        return [f"{reason}, ±{self.cycles.max_half_width:.0%} is required"]


def _without_value(
    figure: Callable[..., Measurement],
    rejected: Sequence[Disturbance],
    details: Mapping[str, Any],
) -> Measurement:
    contended = sum(problem.status is Status.CONTENDED for problem in rejected)
    last = rejected[-1].reason if rejected else "time ran out"
    return figure(
        value=None,
        details=details,
        status=Status.CONTENDED if contended * 2 >= len(rejected) else Status.THROTTLED,
        reason=f"{len(rejected)} cycles were rejected, the last because {last}",
    )


def _clock_doubts(ratio: float, ratio_in_clock_cycles: float, half_width: float) -> list[str]:
    """Return a doubt if a ratio beyond its interval is due to the clock."""
    if _side(ratio, half_width) in {0, _side(ratio_in_clock_cycles, half_width)}:
        return []
    seconds, cycles = f"{ratio:.3f}", f"{ratio_in_clock_cycles:.3f}"
    return [
        f"clock confounded: {seconds} of the reference's seconds, but {cycles} of its clock cycles"
    ]


def _side(ratio: float, half_width: float) -> int:
    """Return -1 for faster than the reference beyond the interval, 1 for slower, else 0."""
    return (ratio - half_width > 1) - (ratio + half_width < 1)


class LatencyGauge:
    """Measures the median seconds per call of a segment's blocks that did not wait for a core. A
    segment with too few of them has no figure.
    """

    metric, unit = "latency", "s"

    def __init__(
        self, meter: Meter, plan: MeasurementPlan, cycles: Cycles, min_blocks: int = MIN_BLOCKS
    ) -> None:
        self._meter, self._plan = meter, plan
        self._dropped_s, self._min_blocks = cycles.dropped_s, min_blocks
        self.method = f"cycles against a reference network, {meter.clock}, {plan.runtime}"

    def calls(self, run: Run) -> int:
        """Warm up and return the calls that fill a block."""
        return warm_up(run, self._meter, self._plan).calls

    def figure(self, run: Run, calls: int, seconds: float) -> float | None:
        """Return the median of the blocks after the dropped time.

        At least as many blocks are timed as a figure needs.
        """
        meter, times, blocks = self._meter, [], 0
        meter.expect(run, calls, seconds)
        start_s, load = meter.time_s(), meter.host_load()
        while (began_s := meter.time_s()) - start_s < seconds or blocks <= self._min_blocks:
            blocks += 1
            block_s = meter.time_block(run, calls)
            now = meter.host_load()
            undisturbed = waiting_s(load, now) <= MAX_WAITING_SHARE * block_s
            if began_s - start_s >= self._dropped_s and undisturbed:
                times.append(block_s / calls)
            load = now
        return statistics.median(times) if len(times) >= self._min_blocks else None


class _EnergyGauge:
    """Measures joules per frame of one window in each segment.

    Raises `UnavailableError` if no sensor can be trusted.
    """

    metric, unit = "energy", "J"

    def __init__(self, meter: Meter, plan: MeasurementPlan, cycles: Cycles, reference: Run) -> None:
        self._meter, self._plan = meter, plan
        self._dropped_s, self._min_window_s = cycles.dropped_s, 0.0
        if reason := meter.energy_unavailable_reason():
            raise UnavailableError(reason)
        # the first load decides by which method joules are measured
        self.figure(reference, self.calls(reference), cycles.reference_s)
        if meter.energy.method in POWER_METHODS.values():
            self._min_window_s = cycles.min_summed_s
        self.method = f"cycles against a reference network, {meter.energy.method}, {plan.runtime}"

    def calls(self, run: Run) -> int:
        """Warm up and return the calls of a short piece of work."""
        return piece_calls(run, self._meter, self._plan)

    def figure(self, run: Run, calls: int, seconds: float) -> float | None:
        """Return joules per frame of one window after the dropped time; None if this process waited
        for a core meanwhile.
        """
        meter = self._meter
        work = partial(piece, run, calls, meter, self._plan)
        end_s = meter.time_s() + self._dropped_s
        while meter.time_s() < end_s:
            work()
        window_s = max(seconds - self._dropped_s, self._min_window_s)
        start_s, load = meter.time_s(), meter.host_load()
        (window,) = meter.energy.windows(work, 1, window_s)
        if long_waiting(load, meter.host_load(), meter.time_s() - start_s):
            return None
        return window.energy_j / window.frames


Gauge = LatencyGauge | _EnergyGauge
"""The instrument of a segment."""
