"""Latency against a reference network, measured in turns: R C R C … R.

Theory of operation. Clocks, temperature and neighbours drift over seconds to minutes, so an interval from blocks timed
one after another is too narrow (`nas.benchmark.interval`). Here a pinned reference network R is timed before and after
each candidate C, and a cycle is the ratio C / mean(R before, R after): what moves slowly moves both and cancels.
Several candidates take turns, in an order drawn anew each round.

* Segments: 5 s of a candidate, 2 s of the reference, the first 0.5 s of each dropped; a segment's figure is the median
  of its blocks that did not wait for a core (`nas.benchmark.timing`), and it needs three.
* A cycle is rejected where a segment of it had too few blocks, where the two R differ by more than 2 %, or where the
  device slowed itself down, moved its clock or worked for others (`nas.meters.watch`). Rejected ones are run again
  after 1, 2, 4, … at most 16 s; more than 6, or more than 180 s for a candidate, and there is no value.
* Before the first cycle, and again after a rejected one, busy neighbours are waited for, 60 s in a session. On two
  threads of one core a neighbour that came and went made the reference 1.0 to 1.8 times as slow from one segment to the
  next, so cycles beside it are lost, and gaps of ten seconds are worth waiting for.
* Stop for a candidate with K >= 4 cycles where h = 1.3 t(0.975, K - 1) s / sqrt(K) is at most 1 % of the mean ratio, or
  at K = 12, then `noisy`. The 1.3 pays for the shared R and for looking more than once: without it the interval covers
  83 to 94 % in simulation, with it 92 to 97 %.
* The value is the mean ratio times the median R of this session. Across sessions compare the ratio, in `details`.
"""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import t as student_t

from nas.benchmark.timing import MAX_NEIGHBOUR_SHARE, MAX_WAITING_SHARE, Run, time_block, waiting_s, warm_up
from nas.measurement import Measurement, MeasurementPlan, Status
from nas.meters import HostLoad, Meter
from nas.meters.watch import Problem

PROTOCOL = "certify/1"
MIN_BLOCKS = 3
WIDENING = 1.3
LOOK_S = 0.5
"""Long enough to see neighbours by the kernel's clock tick of 10 ms."""
UNTIMED = Problem(status=Status.CONTENDED, reason="other processes held the cores")


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """How long and how often. The defaults are the protocol; only simulations have others."""

    candidate_s: float = 5.0
    reference_s: float = 2.0
    dropped_s: float = 0.5
    least: int = 4
    most: int = 12
    max_half_width: float = 0.01
    max_reference_change: float = 0.02
    max_rejected: int = 6
    pause_s: float = 1.0
    max_pause_s: float = 16.0
    patience_s: float = 60.0
    max_s: float = 180.0


@dataclass
class _Candidate:
    """What is known of one candidate so far."""

    run: Run
    calls: int
    ratios: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rejected: list[Problem] = field(default_factory=list)
    spent_s: float = 0.0

    @property
    def half_width(self) -> float:
        """Of the mean ratio's interval; infinite for one cycle."""
        count = len(self.ratios)
        if count < 2:
            return math.inf
        factor = WIDENING * float(student_t.ppf(0.975, count - 1))
        return factor * statistics.stdev(self.ratios) / math.sqrt(count)

    def precise(self, cycles: Cycles) -> bool:
        """Whether the stop rule is met."""
        return (len(self.ratios) >= cycles.least
                and self.half_width <= cycles.max_half_width * statistics.fmean(self.ratios))

    def given_up(self, cycles: Cycles) -> bool:
        """Whether too much was rejected, or too much time went by for the least number of cycles."""
        late = self.spent_s > cycles.max_s and len(self.ratios) < cycles.least
        return late or len(self.rejected) > cycles.max_rejected

    def over(self, cycles: Cycles) -> bool:
        """Whether it needs no more cycles."""
        late = self.spent_s > cycles.max_s
        return self.precise(cycles) or len(self.ratios) >= cycles.most or late or self.given_up(cycles)


def certify(candidates: Mapping[str, Run], reference: Run, meter: Meter, plan: MeasurementPlan, *,
            sleep: Callable[[float], object], seed: int = 0, cycles: Cycles | None = None) -> dict[str, Measurement]:
    """Latency of every candidate, by name. The device must be held alone, all networks prepared under the plan.

    `samples` are the cycle ratios times the session's median R, so that they are seconds too. Status `ok`, `noisy`, or
    without a value `contended` (others held the cores) or `throttled` (the reference itself changed its pace).
    """
    rule, rng, neighbour = cycles or Cycles(), random.Random(seed), meter.watch.neighbour()
    known = {name: _Candidate(run, warm_up(run, meter, plan).calls) for name, run in candidates.items()}
    reference_calls = warm_up(reference, meter, plan).calls
    references: list[float] = []
    pause_s = rule.pause_s
    patience_s = rule.patience_s - _until_quiet(meter, plan, sleep, rule.patience_s)
    meter.watch.begin()
    before = _segment(reference, meter, reference_calls, rule.reference_s, rule)
    while waiting := [name for name, each in known.items() if not each.over(rule)]:
        rng.shuffle(waiting)
        rejected = False
        for name in waiting:
            each, start_s, load = known[name], meter.time_s(), meter.host_load()
            middle = _segment(each.run, meter, each.calls, rule.candidate_s, rule)
            after = _segment(reference, meter, reference_calls, rule.reference_s, rule)
            busy = _neighbours(load, meter.host_load(), meter.time_s() - start_s, plan)
            problem = neighbour or meter.watch.problem(start_s) or _problem(before, middle, after, rule, busy)
            if problem or before is None or middle is None or after is None:
                each.rejected.append(problem or UNTIMED)
                rejected = True
            else:
                each.ratios.append(middle / ((before + after) / 2))
                each.seconds.append(middle)
                references += [after]
            before = after
            each.spent_s += meter.time_s() - start_s
        if rejected:
            sleep(pause_s)
            patience_s -= _until_quiet(meter, plan, sleep, patience_s)
            pause_s, neighbour = min(2 * pause_s, rule.max_pause_s), meter.watch.neighbour()
            before = _segment(reference, meter, reference_calls, rule.reference_s, rule)
    return {name: _figure(each, references, meter, plan, rule) for name, each in known.items()}


def _until_quiet(meter: Meter, plan: MeasurementPlan, sleep: Callable[[float], object], patience_s: float) -> float:
    """Wait for busy neighbours to end, at most so long; the seconds waited."""
    start_s, load = meter.time_s(), meter.host_load()
    while load is not None and meter.time_s() - start_s < patience_s:
        looked_s = meter.time_s()
        sleep(LOOK_S)
        now = meter.host_load()
        if not _neighbours(load, now, meter.time_s() - looked_s, plan):
            break
        load = now
    return meter.time_s() - start_s


def _segment(run: Run, meter: Meter, calls: int, seconds: float, rule: Cycles) -> float | None:
    """Median seconds per call of the blocks that did not wait; None where there are fewer than three."""
    start_s, times = meter.time_s(), []
    load = meter.host_load()
    while (began_s := meter.time_s()) - start_s < seconds:
        block_s = time_block(run, meter, calls)
        now = meter.host_load()
        if began_s - start_s >= rule.dropped_s and waiting_s(load, now) <= MAX_WAITING_SHARE * block_s:
            times.append(block_s / calls)
        load = now
    return statistics.median(times) if len(times) >= MIN_BLOCKS else None


def _problem(before: float | None, middle: float | None, after: float | None, rule: Cycles,
             neighbours: str) -> Problem | None:
    """Why a cycle does not count; None where it does. A change of pace is put down to busy neighbours."""
    if before is None or middle is None or after is None:
        return UNTIMED
    change = abs(after - before) / ((after + before) / 2)
    if change <= rule.max_reference_change:
        return None
    reason = f"the reference changed by {change:.1%}"
    if neighbours:
        return Problem(status=Status.CONTENDED, reason=f"{reason} while {neighbours}")
    return Problem(status=Status.THROTTLED, reason=reason)


def _neighbours(before: HostLoad | None, after: HostLoad | None, seconds: float, plan: MeasurementPlan) -> str:
    """What other processes did meanwhile, where they used most of the cores left free; empty where they did not."""
    if before is None or after is None:
        return ""
    busy, free = (after.foreign_s - before.foreign_s) / seconds, after.cores - plan.threads
    return f"other processes used {busy:.1f} of {free} free cores" if busy > MAX_NEIGHBOUR_SHARE * free else ""


def _figure(each: _Candidate, references: Sequence[float], meter: Meter, plan: MeasurementPlan,
            rule: Cycles) -> Measurement:
    details: dict[str, Any] = {"protocol": PROTOCOL, "ratios": each.ratios, "candidate_s": each.seconds,
                               "reference_s": list(references),
                               "rejected": [problem.reason for problem in each.rejected]}
    method = f"cycles against a reference network, {meter.clock}, {plan.runtime}"
    if each.given_up(rule) or not each.ratios:
        held = sum(problem.status is Status.CONTENDED for problem in each.rejected)
        status = Status.CONTENDED if held * 2 >= len(each.rejected) else Status.THROTTLED
        last = each.rejected[-1].reason if each.rejected else "time ran out"
        reason = f"{len(each.rejected)} cycles were rejected, the last because {last}"
        return Measurement(metric="latency", unit="s", value=None, method=method, status=status, reason=reason,
                           device=meter.device, plan=plan, details=details)
    ratio, scale, half = statistics.fmean(each.ratios), statistics.median(references), each.half_width
    known = math.isfinite(half)
    details |= {"ratio": ratio} | ({"ratio_low": ratio - half, "ratio_high": ratio + half} if known else {})
    precise = each.precise(rule)
    return Measurement(
        metric="latency", unit="s", value=ratio * scale, ci_low=(ratio - half) * scale if known else None,
        ci_high=(ratio + half) * scale if known else None, samples=tuple(found * scale for found in each.ratios),
        method=method, status=Status.OK if precise else Status.NOISY, device=meter.device, plan=plan, details=details,
        reason="" if precise else f"interval of ±{half / ratio:.1%} after {len(each.ratios)} cycles, "
                                  f"±{rule.max_half_width:.0%} is asked")
