"""Latency: median seconds per batch over blocks of calls, with a 95 % interval, after a warm-up
that has settled.

Theory of operation.

* Warm-up: segments of half the plan's warm-up time, until it has passed and two successive
  segments' median blocks differ by no more than the plan's `max_half_width`, but at most ten times
  as long. A block is as many calls as fill the plan's block time at the fastest pace seen. No
  warm-up block is a sample.
* A block is accepted where the threads of this process waited for a core no more than 5 % of it
  (judgement). Beside others that keep 1.5 of two cores busy, one thread waited 40 to 80 % of its
  time, and blocks took two to five times as long as those without waiting.
* Stop: at the plan's minimum of accepted blocks and seconds, and from then on after each 25 % more
  blocks (looking after every block would lower the coverage of the interval: 91 % instead of 93 %
  in simulation), where the interval is narrow enough; at the plan's maximum in any case, then with
  status `noisy`.
* `contended`: fewer than 6 accepted blocks, the least that have an interval, because others held
  the cores. Tried again once, then there is no value. Where others kept more than half of the cores
  busy that this measurement leaves free, caches, memory and clocks are shared, so the value stands
  as `noisy`.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.measuring.meters import HostLoad, Meter
from nas.measuring.methods.guard import watched
from nas.measuring.methods.interval import Interval, median_interval, median_rank

Run = Callable[[], object]

MAX_WAITING_SHARE = 0.05
MAX_NEIGHBOUR_SHARE = 0.5
WARMUP_LIMIT = 10
GROWTH = 1.25
ATTEMPTS = 2


def time_block(run: Run, meter: Meter, calls: int) -> float:
    """Seconds for this many calls, from an idle device to an idle device. Before it, the device may
    be looked at.
    """
    meter.watch.look()
    meter.synchronize()
    start_s = meter.time_s()
    for _ in range(calls):
        run()
    meter.synchronize()
    return meter.time_s() - start_s


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """How a warm-up ended: calls that fill a block, seconds it took, whether it settled."""

    calls: int
    seconds: float
    settled: bool


def warm_up(run: Run, meter: Meter, plan: MeasurementPlan) -> WarmUp:
    """Run until the pace has settled."""
    start_s = meter.time_s()
    calls, fastest_s = _first_block(run, meter, plan.block_s)
    medians: list[float] = []
    settled = False
    while not settled and meter.time_s() - start_s < plan.warmup_s * WARMUP_LIMIT:
        segment = _segment(run, meter, calls, plan.warmup_s / 2)
        medians.append(statistics.median(segment))
        fastest_s = min(fastest_s, *segment)
        calls = math.ceil(plan.block_s / fastest_s)
        settled = (
            meter.time_s() - start_s >= plan.warmup_s
            and len(medians) > 1
            and abs(medians[-1] - medians[-2]) <= plan.max_half_width * medians[-1]
        )
    return WarmUp(calls=calls, seconds=meter.time_s() - start_s, settled=settled)


def _first_block(run: Run, meter: Meter, block_s: float) -> tuple[int, float]:
    """Calls that fill a block, doubled until they do, and seconds per call."""
    calls = 1
    while (taken_s := time_block(run, meter, calls)) < block_s:
        calls *= 2
    return calls, taken_s / calls


def _segment(run: Run, meter: Meter, calls: int, seconds: float) -> list[float]:
    """Seconds per call of the blocks that fill a stretch of time."""
    start_s = meter.time_s()
    times = [time_block(run, meter, calls) / calls]
    while meter.time_s() - start_s < seconds:
        times.append(time_block(run, meter, calls) / calls)
    return times


@dataclass(kw_only=True)
class Attempt:
    """The blocks of one attempt: accepted seconds per call, how many were rejected, how busy others
    were.
    """

    samples: list[float] = field(default_factory=list)
    rejected: int = 0
    seconds: float = 0.0
    neighbour_cores: float = 0.0
    free_cores: int = 0
    interval: Interval | None = None

    @property
    def contended(self) -> bool:
        """Whether others left too few blocks whole."""
        return self.rejected > 0 and (self.interval is None)

    @property
    def crowded(self) -> bool:
        """Whether others used more than their share of the cores left free."""
        return self.free_cores > 0 and self.neighbour_cores > MAX_NEIGHBOUR_SHARE * self.free_cores


@watched
def latency(
    run: Run, meter: Meter, plan: MeasurementPlan, *, metric: str = "latency"
) -> Measurement:
    """Seconds per call of `run`, one batch of the plan. The device must be held alone
    (`nas.measuring.meters.lock`).

    `samples` are the accepted blocks in order, in seconds per call. Status `ok`; `noisy` with the
    reason; `contended` or, where the device slowed itself down, `throttled` without a value. Fewer
    than 6 blocks in the plan's time give a `noisy` median without an interval.
    """
    warmth = warm_up(run, meter, plan)
    meter.watch.begin()
    attempt = _attempt(run, meter, plan, warmth.calls)
    for _ in range(ATTEMPTS - 1):
        if attempt.contended:
            attempt = _attempt(run, meter, plan, warmth.calls)
    method = f"median of blocks of {warmth.calls} calls, {meter.clock}, {plan.runtime}"
    if meter.host_load() is None:
        method += ", host load unknown"
    if attempt.contended:
        return Measurement(
            metric=metric,
            unit="s",
            value=None,
            method=method,
            status=Status.CONTENDED,
            samples=tuple(attempt.samples),
            reason=_contention(attempt),
            device=meter.device,
            plan=plan,
        )
    doubts = _doubts(attempt, warmth, plan)
    interval = attempt.interval
    return Measurement(
        metric=metric,
        unit="s",
        value=statistics.median(attempt.samples),
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        samples=tuple(attempt.samples),
        method=method,
        status=Status.NOISY if doubts else Status.OK,
        reason="; ".join(doubts),
        device=meter.device,
        plan=plan,
    )


SINGLE_CALLS = 1000
"""The least calls of which a 99th percentile means something: it rests on the ten slowest."""


@watched
def single_calls(
    run: Run, meter: Meter, plan: MeasurementPlan, *, metric: str = "single_call"
) -> Measurement:
    """Seconds of single calls, each from an idle device to an idle device: at most 1000, as the
    plan's time allows.

    The value is their median; `details` has p50 and p90, and p99 where there are 1000. Nothing is
    left out, so that the tail is real; so where this process waited for cores more than 5 % of the
    time there is no value, `contended`.
    """
    for _ in range(3):
        run()
    meter.watch.begin()
    samples: list[float] = []
    start_s, first = meter.time_s(), meter.host_load()
    while len(samples) < SINGLE_CALLS and (
        meter.time_s() - start_s < plan.max_time_s or len(samples) < 2
    ):
        samples.append(time_block(run, meter, 1))
    share = waiting_s(first, meter.host_load()) / max(meter.time_s() - start_s, 1e-9)
    context: dict[str, Any] = {
        "metric": metric,
        "unit": "s",
        "samples": tuple(samples),
        "device": meter.device,
        "plan": plan,
        "method": f"median of single calls, {meter.clock}, {plan.runtime}",
    }
    if share > MAX_WAITING_SHARE:
        return Measurement(
            **context,
            value=None,
            status=Status.CONTENDED,
            details={"percentiles": {}},
            reason=f"this process waited for a core {share:.0%} of the time; stop the others",
        )
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    percentiles = {"p50": cuts[49], "p90": cuts[89]} | (
        {"p99": cuts[98]} if len(samples) >= SINGLE_CALLS else {}
    )
    interval = median_interval(samples)
    return Measurement(
        **context,
        value=statistics.median(samples),
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        details={"percentiles": percentiles},
    )


def _attempt(run: Run, meter: Meter, plan: MeasurementPlan, calls: int) -> Attempt:
    """Time blocks until the plan is satisfied or its time is over."""
    attempt = Attempt()
    start_s, first = meter.time_s(), meter.host_load()
    before, look_at = first, plan.min_blocks
    while True:
        block_s = time_block(run, meter, calls)
        after = meter.host_load()
        if waiting_s(before, after) <= MAX_WAITING_SHARE * block_s:
            attempt.samples.append(block_s / calls)
        else:
            attempt.rejected += 1
        before, attempt.seconds = after, meter.time_s() - start_s
        over = attempt.seconds >= plan.max_time_s
        if over or (len(attempt.samples) >= look_at and attempt.seconds >= plan.min_time_s):
            attempt.interval = median_interval(attempt.samples)
            look_at = math.ceil(len(attempt.samples) * GROWTH)
            if over or _narrow(attempt.interval, plan):
                break
    if first and after:
        attempt.neighbour_cores = (after.foreign_s - first.foreign_s) / attempt.seconds
        attempt.free_cores = after.cores - plan.threads
    return attempt


def waiting_s(before: HostLoad | None, after: HostLoad | None) -> float:
    """Seconds that threads of this process waited for a core; 0 where the system does not tell."""
    return after.waited_s - before.waited_s if before and after else 0.0


def _narrow(interval: Interval | None, plan: MeasurementPlan) -> bool:
    return interval is not None and interval.half_width <= plan.max_half_width


def _contention(attempt: Attempt) -> str:
    total = attempt.rejected + len(attempt.samples)
    return (
        f"other processes held the cores in {attempt.rejected} of {total} blocks and used "
        f"{attempt.neighbour_cores:.1f} cores; stop them and measure again"
    )


def _doubts(attempt: Attempt, warmth: WarmUp, plan: MeasurementPlan) -> list[str]:
    """Why the value is less certain than the plan asks."""
    doubts = []
    if not warmth.settled:
        doubts.append(f"the pace had not settled after {warmth.seconds:.1f} s of warm-up")
    if attempt.interval is None:
        doubts.append(
            f"only {len(attempt.samples)} blocks in {attempt.seconds:.1f} s, an interval needs "
            f"{next(n for n in range(1, 9) if median_rank(n))}"
        )
    elif not _narrow(attempt.interval, plan):
        doubts.append(
            f"interval of ±{attempt.interval.half_width:.1%} after {attempt.seconds:.1f} s, the plan asks "
            f"±{plan.max_half_width:.1%}"
        )
    elif len(attempt.samples) < plan.min_blocks:
        doubts.append(
            f"{len(attempt.samples)} blocks in {attempt.seconds:.1f} s, the plan asks {plan.min_blocks}"
        )
    if attempt.crowded:
        doubts.append(
            f"other processes used {attempt.neighbour_cores:.1f} of {attempt.free_cores} free cores"
        )
    return doubts
