"""Latency and joules per frame against a reference network, measured in turns: R C R C … R.

Theory of operation. Clocks, temperature and neighbours drift over seconds to minutes, so an
interval from blocks timed one after another is too narrow (`nas.measuring.methods.interval`). Here
a pinned reference network R is timed before and after each candidate C, and a cycle is the ratio C
/ mean(R before, R after): what moves slowly moves both and cancels. Several candidates take turns,
in an order drawn anew each round.

* Segments: 5 s of a candidate, 2 s of the reference, the first 0.5 s of each dropped; a segment's
  figure is the median of its blocks that did not wait for a core (`nas.measuring.methods.timing`),
  and it needs three.
* For joules a segment is one window of `nas.measuring.meters.energy`, as long as what is left of
  it; 10 s at least where power is summed, as nothing aligns it.
* A cycle is rejected where a segment of it had too few blocks, where the two R differ by more than
  2 %, where the mean SM clock of C is more than 3 % from that of both R and the board was not at
  its power limit, or where the device slowed itself down, moved its clock or worked for others
  (`nas.measuring.meters.watch`). Rejected ones are run again after 1, 2, 4, … at most 16 s; more
  than 6, or more than 180 s for a candidate, and there is no value.
* Before the first cycle, and again after a rejected one, busy neighbours are waited for, 60 s in a
  session. On two threads of one core a neighbour that came and went made the reference 1.0 to 1.8
  times as slow from one segment to the next, so cycles beside it are lost, and gaps of ten seconds
  are worth waiting for.
* Clock confounded, and so `noisy`: faster or slower than R beyond the interval, but not so in clock
  cycles, which are seconds times the mean SM clock, where the device tells it.
* Stop for a candidate with K >= 4 cycles where h = 1.3 t(0.975, K - 1) s / sqrt(K) is at most 1 %
  of the mean ratio (2 % for joules), or at K = 12, then `noisy`. The 1.3 pays for the shared R and
  for looking more than once: without it the interval covers 83 to 94 % in simulation, with it 92 to
  97 %.
* Latency on the CPU of a virtual machine, whose host has others that it cannot see, has cycles of
  its own (`SHARED`): a tenth of a second for either network, 40 to 300 times, and the median of the
  ratios of each C to the R before it and to the R after it. On two cores of an AMD EPYC that did
  nothing else, one network's pace moved by 2 % from one segment to the next (median; 9 % in one of
  20) whether segments were 0.1 or 5 s long, so many short ones cancel what few long ones cannot: of
  800 s of its calls, cut up into sessions of the network against itself, sessions of 30 s with 5
  and 2 s were off by up to 2.1 %, and these, of some 12 s, by at most 1.3 % (179 sessions in three
  cuts; the interval held 1 in 98 %). Equal segments of 0.1 s were off by up to 1.5 %, so their
  length is drawn. Delays have a long tail, so the median of ratios to the mean of two R was too
  small, by 0.1 %.
* Where a network lies in memory matters as much: of eight copies of one in a process, timed in
  turns for three minutes, the furthest were 1.2 % slower and 0.6 % faster than all, in each of four
  stretches of 45 s; a second process found the same. So a candidate and R may each be several
  copies, which have their segments in turns.
* The value is the ratio times the median R of this session. Across sessions compare the ratio, in
  `details`.
"""

import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from nas.core.errors import UnavailableError
from nas.core.measurement import Device, Measurement, MeasurementPlan, Status
from nas.measuring.meters import HostLoad, Meter
from nas.measuring.meters.energy import POWER_METHODS
from nas.measuring.meters.watch import Disturbance, Span
from nas.measuring.methods.interval import mean_interval, median_interval
from nas.measuring.methods.timing import (
    MAX_NEIGHBOUR_SHARE,
    MAX_WAITING_SHARE,
    Run,
    time_block,
    waiting_s,
    warm_up,
)
from nas.measuring.methods.windows import piece, piece_calls

PROTOCOL = "certify/4"
MIN_BLOCKS = 3
WIDENING = 1.3
LOOK_S = 0.5
"""Long enough to see neighbours by the kernel's clock tick of 10 ms."""
UNTIMED = Disturbance(status=Status.CONTENDED, reason="other processes held the cores")


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """How long and how often. The defaults are the protocol. `summed_s` is the least of a segment
    in which power is summed; segments' lengths vary by the share `jitter`; `pairs` asks for the
    median of the ratios to either R, and its interval from ranks, in place of the mean; `alone`
    rejects cycles beside neighbours whatever the reference did.
    """

    candidate_s: float = 5.0
    reference_s: float = 2.0
    summed_s: float = 10.0
    dropped_s: float = 0.5
    least: int = 4
    most: int = 12
    max_half_width: float = 0.01
    max_reference_change: float = 0.02
    max_clock_difference: float = 0.03
    max_rejected: int = 6
    pause_s: float = 1.0
    max_pause_s: float = 16.0
    patience_s: float = 60.0
    max_s: float = 180.0
    jitter: float = 0.0
    pairs: bool = False
    alone: bool = False

    def drawn(self, seconds: float, rng: random.Random) -> float:
        """The length of one segment that should last so long."""
        return seconds * rng.uniform(1 - self.jitter, 1 + self.jitter)


SHARED = Cycles(
    candidate_s=0.1,
    reference_s=0.1,
    dropped_s=1e-3,
    jitter=0.3,
    least=40,
    most=300,
    pairs=True,
    max_reference_change=math.inf,
    alone=True,
    max_rejected=60,
    pause_s=0.1,
    max_pause_s=1.6,
)
"""Latency where others share the CPU unseen."""


def shared_with(device: Device) -> str | None:
    """Whose CPU this is, where others may work on it unseen."""
    return device.details.get("hypervisor") if device.kind == "cpu" else None


Copies = Sequence[Run]
"""Of one network, at different places in memory."""


def _copies(network: Run | Copies) -> Copies:
    return network if isinstance(network, Sequence) else [network]


class _Network:
    """One or several copies, and the calls in a piece of a segment."""

    def __init__(self, network: Run | Copies, gauge: "Gauge", rng: random.Random) -> None:
        self.copies = _copies(network)
        self.calls = gauge.calls(self.copies[0])
        self._rng = rng
        self._turn = self._turns()

    def next(self) -> Run:
        """The copy whose turn it is."""
        return next(self._turn)

    def _turns(self) -> Iterator[Run]:
        while True:
            yield from self._rng.sample(self.copies, len(self.copies))


@dataclass
class _Candidate:
    """What is known of one candidate so far."""

    network: _Network
    paired: bool
    ratios: list[float] = field(default_factory=list)
    pairs: list[float] = field(default_factory=list)
    figures: list[float] = field(default_factory=list)
    clocks: list[float] = field(default_factory=list)
    rejected: list[Disturbance] = field(default_factory=list)
    spent_s: float = 0.0

    @property
    def ratio(self) -> float:
        """Of all cycles."""
        return statistics.median(self.pairs) if self.paired else statistics.fmean(self.ratios)

    @property
    def half_width(self) -> float:
        """Of the ratio's interval; infinite for too few cycles."""
        known = (
            (median_interval if self.paired else mean_interval)(self.ratios)
            if len(self.ratios) > 1
            else None
        )
        return WIDENING * (known.high - known.low) / 2 if known else math.inf

    @property
    def ratio_of_clocks(self) -> float | None:
        """Candidate's to reference's, the mean; None where the device does not tell its clock in
        every cycle.
        """
        return (
            statistics.fmean(self.clocks)
            if self.clocks and len(self.clocks) == len(self.ratios)
            else None
        )

    def precise(self, cycles: Cycles) -> bool:
        """Whether the stop rule is met."""
        return (
            len(self.ratios) >= cycles.least
            and self.half_width <= cycles.max_half_width * self.ratio
        )

    def given_up(self, cycles: Cycles) -> bool:
        """Whether too much was rejected, or too much time went by for the least number of
        cycles.
        """
        late = self.spent_s > cycles.max_s and len(self.ratios) < cycles.least
        return late or len(self.rejected) > cycles.max_rejected

    def over(self, cycles: Cycles) -> bool:
        """Whether it needs no more cycles."""
        late = self.spent_s > cycles.max_s
        return (
            self.precise(cycles) or len(self.ratios) >= cycles.most or late or self.given_up(cycles)
        )


class Gauge(Protocol):
    """What is measured in a segment."""

    metric: str
    unit: str
    method: str

    def calls(self, run: Run) -> int:
        """Warm up; calls in a piece of a segment."""

    def figure(self, run: Run, calls: int, seconds: float) -> float | None:
        """Of a segment, in the unit; None where it cannot be told."""


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
    """Latency of every candidate, by name. The device must be held alone, all networks prepared
    under the plan.

    `samples` are the cycle ratios times the session's median R, so that they are seconds too.
    Status `ok`, `noisy`, or without a value `contended` (others held the cores) or `throttled` (the
    reference itself changed its pace).
    """
    rule = cycles or (SHARED if shared_with(meter.device) else Cycles())
    session = _Session(
        gauge=Seconds(meter, plan, rule), meter=meter, plan=plan, rule=rule, sleep=sleep
    )
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
    """Joules per frame of every candidate, by name, in the same cycles; `cycles` is the rule for
    latency.

    Beside the statuses of `certify`, all are `unavailable` with the reason where no sensor can be
    trusted.
    """
    rule = cycles or Cycles()
    rule = replace(rule, max_half_width=2 * rule.max_half_width)
    try:
        gauge = _Joules(meter, plan, rule, _copies(reference)[0])
        session = _Session(gauge=gauge, meter=meter, plan=plan, rule=rule, sleep=sleep)
        found = session.figures(candidates, reference, random.Random(seed))
    except UnavailableError as error:
        return {
            name: Measurement.unavailable(
                "energy",
                "J",
                str(error),
                device=meter.device,
                plan=plan,
                details=meter.energy.details(),
            )
            for name in candidates
        }
    return {
        name: replace(figure, details={**meter.energy.details(), **figure.details})
        for name, figure in found.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """Its figure, None where it has none, and from when to when it lasted."""

    figure: float | None
    span: Span


@dataclass(frozen=True, kw_only=True)
class _Session:
    """Candidates in turns with the reference."""

    gauge: Gauge
    meter: Meter
    plan: MeasurementPlan
    rule: Cycles
    sleep: Callable[[float], object]

    def figures(
        self, candidates: Mapping[str, Run | Copies], reference: Run | Copies, rng: random.Random
    ) -> dict[str, Measurement]:
        """Of every candidate, by its name."""
        meter, rule, neighbour = self.meter, self.rule, self.meter.watch.neighbour()
        known = {
            name: _Candidate(_Network(each, self.gauge, rng), rule.pairs)
            for name, each in candidates.items()
        }
        against = _Network(reference, self.gauge, rng)
        references: list[float] = []
        pause_s = rule.pause_s
        patience_s = rule.patience_s - self._until_quiet(rule.patience_s)
        meter.watch.begin()
        before = self._segment(against, rule.reference_s, rng)
        while waiting := [name for name, each in known.items() if not each.over(rule)]:
            rng.shuffle(waiting)
            rejected = False
            for name in waiting:
                each, start_s, load = known[name], meter.time_s(), meter.host_load()
                middle = self._segment(each.network, rule.candidate_s, rng)
                after = self._segment(against, rule.reference_s, rng)
                busy = foreign_work(load, meter.host_load(), meter.time_s() - start_s, self.plan)
                spoiled = neighbour or meter.watch.problem(start_s)  # takes the last look
                clocks = meter.watch.clocks(middle.span, (before.span, after.span))
                problem = spoiled or self._problem(before, middle, after, busy, clocks)
                if (
                    problem
                    or before.figure is None
                    or middle.figure is None
                    or after.figure is None
                ):
                    each.rejected.append(problem or UNTIMED)
                    rejected = True
                else:
                    each.ratios.append(middle.figure / ((before.figure + after.figure) / 2))
                    each.pairs += [middle.figure / before.figure, middle.figure / after.figure]
                    each.figures.append(middle.figure)
                    if clocks:
                        each.clocks.append(clocks[0] / clocks[1])
                    references += [after.figure]
                before = after
                each.spent_s += meter.time_s() - start_s
            if rejected:
                self.sleep(pause_s)
                patience_s -= self._until_quiet(patience_s)
                pause_s, neighbour = min(2 * pause_s, rule.max_pause_s), meter.watch.neighbour()
                before = self._segment(against, rule.reference_s, rng)
        return {name: self._measurement(each, references) for name, each in known.items()}

    def _segment(self, network: _Network, seconds: float, rng: random.Random) -> _Segment:
        start_s = self.meter.time_s()
        figure = self.gauge.figure(network.next(), network.calls, self.rule.drawn(seconds, rng))
        return _Segment(figure=figure, span=(start_s, self.meter.time_s()))

    def _until_quiet(self, patience_s: float) -> float:
        """Wait for busy neighbours to end, at most so long; the seconds waited."""
        meter = self.meter
        start_s, load = meter.time_s(), meter.host_load()
        while load is not None and meter.time_s() - start_s < patience_s:
            looked_s = meter.time_s()
            self.sleep(LOOK_S)
            now = meter.host_load()
            if not foreign_work(load, now, meter.time_s() - looked_s, self.plan):
                break
            load = now
        return meter.time_s() - start_s

    def _problem(
        self,
        before: _Segment,
        middle: _Segment,
        after: _Segment,
        neighbours: str,
        clocks: tuple[float, float] | None,
    ) -> Disturbance | None:
        """Why a cycle does not count; None where it does. A change of pace is put down to busy
        neighbours.
        """
        if before.figure is None or middle.figure is None or after.figure is None:
            return UNTIMED
        if self.rule.alone and neighbours:
            return Disturbance(status=Status.CONTENDED, reason=neighbours)
        change = abs(after.figure - before.figure) / ((after.figure + before.figure) / 2)
        if change <= self.rule.max_reference_change:
            return self._clocks_apart(clocks, (before.span, middle.span, after.span))
        reason = f"the reference changed by {change:.1%}"
        if neighbours:
            return Disturbance(status=Status.CONTENDED, reason=f"{reason} while {neighbours}")
        return Disturbance(status=Status.THROTTLED, reason=reason)

    def _clocks_apart(
        self, clocks: tuple[float, float] | None, spans: Sequence[Span]
    ) -> Disturbance | None:
        """A candidate that ran at another clock than the reference, where that was not for its
        power.
        """
        if (
            clocks is None
            or abs(clocks[0] / clocks[1] - 1) <= self.rule.max_clock_difference
            or self.meter.watch.power_capped(spans)
        ):
            return None
        return Disturbance(
            status=Status.THROTTLED,
            reason=f"the device's clock was {clocks[0]:.0f} MHz on average, and "
            f"{clocks[1]:.0f} MHz with the reference",
        )

    def _measurement(self, each: _Candidate, references: Sequence[float]) -> Measurement:
        rule, gauge, unit = self.rule, self.gauge, self.gauge.unit.lower()
        of_gauge = partial(
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
            "copies": len(each.network.copies),
            "ratios": each.ratios,
            f"candidate_{unit}": each.figures,
            f"reference_{unit}": list(references),
            "rejected": [problem.reason for problem in each.rejected],
            **self.meter.watch.details(),
        }
        if each.given_up(rule) or not each.ratios:
            held = sum(problem.status is Status.CONTENDED for problem in each.rejected)
            last = each.rejected[-1].reason if each.rejected else "time ran out"
            return of_gauge(
                value=None,
                details=details,
                status=Status.CONTENDED if held * 2 >= len(each.rejected) else Status.THROTTLED,
                reason=f"{len(each.rejected)} cycles were rejected, the last because {last}",
            )
        ratio, scale, half = each.ratio, statistics.median(references), each.half_width
        known = math.isfinite(half)
        details |= {"ratio": ratio} | (
            {"ratio_low": ratio - half, "ratio_high": ratio + half} if known else {}
        )
        doubts = []
        if not each.precise(rule):
            doubts.append(
                f"interval of ±{half / ratio:.1%} after {len(each.ratios)} cycles, "
                f"±{rule.max_half_width:.0%} is asked"
            )
        if gauge.metric == "latency" and (clocks := each.ratio_of_clocks) is not None:
            details |= {"ratio_in_clock_cycles": ratio * clocks}
            if _side(ratio, half) not in {0, _side(ratio * clocks, half)}:
                doubts.append(
                    f"clock confounded: {ratio:.3f} of the reference's seconds, but {ratio * clocks:.3f} of "
                    "its clock cycles"
                )
        return of_gauge(
            value=ratio * scale,
            ci_low=(ratio - half) * scale if known else None,
            ci_high=(ratio + half) * scale if known else None,
            samples=tuple(found * scale for found in each.ratios),
            details=details,
            status=Status.NOISY if doubts else Status.OK,
            reason="; ".join(doubts),
        )


def _side(ratio: float, half_width: float) -> int:
    """-1 for faster than the reference beyond the interval, 1 for slower, else 0."""
    return (ratio - half_width > 1) - (ratio + half_width < 1)


class Seconds:
    """Median seconds per call of a segment's blocks that did not wait; none where there are too
    few.
    """

    metric, unit = "latency", "s"

    def __init__(
        self, meter: Meter, plan: MeasurementPlan, rule: Cycles, least_blocks: int = MIN_BLOCKS
    ) -> None:
        self._meter, self._plan, self._dropped_s, self._least_blocks = (
            meter,
            plan,
            rule.dropped_s,
            least_blocks,
        )
        self.method = f"cycles against a reference network, {meter.clock}, {plan.runtime}"

    def calls(self, run: Run) -> int:
        """Those that fill a block."""
        return warm_up(run, self._meter, self._plan).calls

    def figure(self, run: Run, calls: int, seconds: float) -> float | None:
        """Of the blocks after what is dropped. At least as many blocks are timed as a figure
        needs.
        """
        meter, times, blocks = self._meter, [], 0
        start_s, load = meter.time_s(), meter.host_load()
        while (began_s := meter.time_s()) - start_s < seconds or blocks <= self._least_blocks:
            blocks += 1
            block_s = time_block(run, meter, calls)
            now = meter.host_load()
            if (
                began_s - start_s >= self._dropped_s
                and waiting_s(load, now) <= MAX_WAITING_SHARE * block_s
            ):
                times.append(block_s / calls)
            load = now
        return statistics.median(times) if len(times) >= self._least_blocks else None


class _Joules:
    """Joules per frame of one window in each segment. Raises `UnavailableError` where no sensor can
    be trusted.
    """

    metric, unit = "energy", "J"

    def __init__(self, meter: Meter, plan: MeasurementPlan, rule: Cycles, reference: Run) -> None:
        self._meter, self._plan = meter, plan
        self._dropped_s, self._least_s = rule.dropped_s, 0.0
        if reason := meter.energy_unavailable_reason():
            raise UnavailableError(reason)
        self.figure(
            reference, self.calls(reference), rule.reference_s
        )  # the way to joules is chosen at the first load
        if meter.energy.method in POWER_METHODS.values():
            self._least_s = rule.summed_s
        self.method = f"cycles against a reference network, {meter.energy.method}, {plan.runtime}"

    def calls(self, run: Run) -> int:
        """Those of a short piece of work."""
        return piece_calls(run, self._meter, self._plan)

    def figure(self, run: Run, calls: int, seconds: float) -> float:
        """Of one window after the first half second."""
        work, end_s = (
            partial(piece, run, calls, self._meter, self._plan),
            self._meter.time_s() + self._dropped_s,
        )
        while self._meter.time_s() < end_s:
            work()
        window = self._meter.energy.windows(work, 1, max(seconds - self._dropped_s, self._least_s))[
            0
        ]
        return window.energy_j / window.frames


def foreign_work(
    before: HostLoad | None, after: HostLoad | None, seconds: float, plan: MeasurementPlan
) -> str:
    """What other processes did meanwhile, where they used most of the cores left free; empty where
    they did not.
    """
    if before is None or after is None:
        return ""
    busy, free = (after.foreign_s - before.foreign_s) / seconds, after.cores - plan.threads
    return (
        f"other processes used {busy:.1f} of {free} free cores"
        if busy > MAX_NEIGHBOUR_SHARE * free
        else ""
    )
