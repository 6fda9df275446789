"""Latency: median seconds per batch over blocks of calls, with a 95 % interval, after a warm-up
that has settled.

Theory of operation.

* Warm-up: segments of half the plan's warm-up time, until this time has passed and the median
  blocks of two successive segments differ by no more than the plan's `max_half_width`, but at most
  ten times as long. A block is as many calls as fill the plan's block time at the fastest pace
  seen. No warm-up block is a sample.
* A block is accepted if the threads of this process waited for a core no more than 5 % of it
  (judgement). Beside others that keep 1.5 of two cores busy, one thread waited 40 to 80 % of its
  time, and blocks took two to five times as long as those without waiting.
* Stop: from the plan's minimum of accepted blocks and seconds on, after each 25 % more blocks, if
  the interval is narrow enough. Looking after every block would lower the coverage of the interval:
  91 % instead of 93 % in simulation. At the plan's maximum it stops in any case, with status
  `noisy`.
* `contended`: fewer than 6 accepted blocks, the least that have an interval, because others held
  the cores. It is tried again once; then there is no value. If others kept more than half of the
  cores busy that this measurement leaves free, they share caches, memory and clocks with it.
  Therefore the value stands as `noisy`.
"""

import math
import statistics
from dataclasses import dataclass, field, replace
from functools import partial

from nas.agent.host import HostLoad
from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.measuring.meters import Meter, Run
from nas.measuring.methods.guard import watched
from nas.measuring.methods.interval import Interval, median_interval, median_rank

MAX_WAITING_SHARE = 0.05
"""Largest share of a block in which this process may have waited for a core."""

MAX_NEIGHBOUR_SHARE = 0.5
"""Largest share of the cores left free that other processes may use."""

MAX_WARMUP_FACTOR = 10
"""Longest warm-up, as a multiple of the plan's."""

LOOK_GROWTH = 1.25
"""Growth of the number of blocks from one look at the interval to the next."""

ATTEMPTS = 2
"""Attempts at a figure beside others that hold the cores."""

MIN_TAIL_CALLS = 1000
"""Fewest single calls for a 99th percentile, which rests on the ten slowest of them. It is also
the most that are timed.
"""


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """The end of a warm-up: calls that fill a block, seconds it took, and if it settled."""

    calls: int
    seconds: float
    settled: bool


def warm_up(run: Run, meter: Meter, plan: MeasurementPlan) -> WarmUp:
    """Run until the pace has settled."""
    start_s = meter.time_s()
    calls, fastest_s = _first_block(run, meter, plan.block_s)
    medians: list[float] = []
    settled = False
    while not settled and meter.time_s() - start_s < plan.warmup_s * MAX_WARMUP_FACTOR:
        blocks = segment(run, meter, calls, plan.warmup_s / 2)
        medians.append(statistics.median(blocks))
        fastest_s = min(fastest_s, *blocks)
        calls = math.ceil(plan.block_s / fastest_s)
        settled = (
            meter.time_s() - start_s >= plan.warmup_s
            and len(medians) > 1
            and abs(medians[-1] - medians[-2]) <= plan.max_half_width * medians[-1]
        )
    return WarmUp(calls=calls, seconds=meter.time_s() - start_s, settled=settled)


def _first_block(run: Run, meter: Meter, block_s: float) -> tuple[int, float]:
    """Double the calls until they fill a block; return them and the seconds per call."""
    calls = 1
    while (block_taken_s := meter.time_block(run, calls)) < block_s:
        calls *= 2
    return calls, block_taken_s / calls


def segment(run: Run, meter: Meter, calls: int, seconds: float) -> list[float]:
    """Return the seconds per call of the blocks that fill this time."""
    meter.expect(run, calls, seconds)
    start_s = meter.time_s()
    times = [meter.time_block(run, calls) / calls]
    while meter.time_s() - start_s < seconds:
        times.append(meter.time_block(run, calls) / calls)
    return times


HELD = "all_blocks"
"""Key of a contended figure's details: the figures of all blocks or windows, rejected ones too."""


def as_noisy(figure: Measurement) -> Measurement:
    """Return a contended latency or energy as a noisy one: the median of all its blocks or windows
    with its interval.

    Others slow a network down, so the figure is rather too large. Other figures come back as they
    are.
    """
    blocks = figure.details.get(HELD)
    if figure.status is not Status.CONTENDED or not blocks:
        return figure
    interval = median_interval(blocks)
    return replace(
        figure,
        value=statistics.median(blocks),
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        samples=tuple(blocks),
        status=Status.NOISY,
        reason=f"taken beside others: {figure.reason}",
        details={key: value for key, value in figure.details.items() if key != HELD},
    )


@dataclass(kw_only=True)
class Attempt:
    """The blocks of one attempt."""

    samples: list[float] = field(default_factory=list)
    """Seconds per call of each accepted block."""
    held: list[float] = field(default_factory=list)
    """Seconds per call of each block in which this process waited for a core."""
    seconds: float = 0.0
    neighbour_cores: float = 0.0
    """Cores that other processes kept busy, on average."""
    neighbours: str = ""
    """What other processes did, if they used more than their share of the cores left free."""
    interval: Interval | None = None

    @property
    def rejected(self) -> int:
        """Blocks in which this process waited for a core."""
        return len(self.held)

    @property
    def contended(self) -> bool:
        """True if others left too few blocks undisturbed."""
        return self.rejected > 0 and self.interval is None


@watched
def latency(
    run: Run, meter: Meter, plan: MeasurementPlan, *, metric: str = "latency"
) -> Measurement:
    """Measure seconds per call of `run`, one batch of the plan. The caller must hold the device
    exclusively (`nas.measuring.meters.lock`).

    `samples` are the accepted blocks in order, in seconds per call. The status is `ok`, or `noisy`
    with the reason, or without a value `contended`, or `throttled` if the device slowed itself
    down. Fewer than 6 blocks in the plan's time give a `noisy` median without an interval.
    """
    warmth = warm_up(run, meter, plan)
    meter.watch.begin()
    return timed(run, meter, plan, warmth, metric=metric)


def timed(
    run: Run, meter: Meter, plan: MeasurementPlan, warmth: WarmUp, *, metric: str
) -> Measurement:
    """Measure seconds per call after this warm-up, like `latency`, without a look at the device's
    own state.
    """
    attempt = _attempt(run, meter, plan, warmth.calls)
    for _ in range(ATTEMPTS - 1):
        if attempt.contended:
            attempt = _attempt(run, meter, plan, warmth.calls)
    method = f"median of blocks of {warmth.calls} calls, {meter.clock}, {plan.runtime}"
    if meter.host_load() is None:
        method += ", host load unknown"
    figure = partial(
        Measurement,
        metric=metric,
        unit="s",
        samples=tuple(attempt.samples),
        method=method,
        device=meter.device,
        plan=plan,
    )
    if attempt.contended:
        return figure(
            value=None,
            status=Status.CONTENDED,
            reason=_contention(attempt),
            details={HELD: [*attempt.samples, *attempt.held]},
        )
    doubts = _doubts(attempt, warmth, plan)
    interval = attempt.interval
    return figure(
        value=statistics.median(attempt.samples),
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        status=Status.NOISY if doubts else Status.OK,
        reason="; ".join(doubts),
    )


@watched
def single_calls(
    run: Run, meter: Meter, plan: MeasurementPlan, *, metric: str = "single_call"
) -> Measurement:
    """Measure seconds of single calls, each from an idle device to an idle device: at most 1000, as
    the plan's time allows.

    The value is their median. `details` has p50 and p90, and p99 if there are 1000. Nothing is left
    out, so that the tail is real. Therefore, if this process waited for cores more than 5 % of the
    time, there is no value and the status is `contended`. It is `noisy` for the reasons of
    `latency`: a wide interval or none, or a crowded machine.
    """
    for _ in range(3):
        run()
    meter.watch.begin()
    samples: list[float] = []
    meter.expect(run, 1, plan.max_time_s)
    start_s, first = meter.time_s(), meter.host_load()
    while len(samples) < MIN_TAIL_CALLS and (
        meter.time_s() - start_s < plan.max_time_s or len(samples) < 2
    ):
        samples.append(meter.time_block(run, 1))
    seconds, last = max(meter.time_s() - start_s, 1e-9), meter.host_load()
    figure = partial(
        Measurement,
        metric=metric,
        unit="s",
        samples=tuple(samples),
        device=meter.device,
        plan=plan,
        method=f"median of single calls, {meter.clock}, {plan.runtime}",
    )
    if waiting := long_waiting(first, last, seconds):
        return figure(
            value=None, status=Status.CONTENDED, details={"percentiles": {}}, reason=waiting
        )
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    percentiles = {"p50": cuts[49], "p90": cuts[89]}
    if len(samples) >= MIN_TAIL_CALLS:
        percentiles["p99"] = cuts[98]
    interval = median_interval(samples)
    doubts = _interval_doubts(interval, plan, f"{len(samples)} calls in {seconds:.1f} s")
    if neighbours := foreign_work(first, last, seconds, plan):
        doubts.append(neighbours)
    return figure(
        value=statistics.median(samples),
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        details={"percentiles": percentiles},
        status=Status.NOISY if doubts else Status.OK,
        reason="; ".join(doubts),
    )


def _attempt(run: Run, meter: Meter, plan: MeasurementPlan, calls: int) -> Attempt:
    """Time blocks until the plan is satisfied or its time is over."""
    attempt = Attempt()
    meter.expect(run, calls, plan.max_time_s)
    start_s, first = meter.time_s(), meter.host_load()
    before, next_look = first, plan.min_blocks
    while True:
        block_s = meter.time_block(run, calls)
        after = meter.host_load()
        if waiting_s(before, after) <= MAX_WAITING_SHARE * block_s:
            attempt.samples.append(block_s / calls)
        else:
            attempt.held.append(block_s / calls)
        before, attempt.seconds = after, meter.time_s() - start_s
        over = attempt.seconds >= plan.max_time_s
        due = len(attempt.samples) >= next_look and attempt.seconds >= plan.min_time_s
        if over or due:
            attempt.interval = median_interval(attempt.samples)
            next_look = math.ceil(len(attempt.samples) * LOOK_GROWTH)
            if over or _narrow(attempt.interval, plan):
                break
    if first and after:
        attempt.neighbour_cores = (after.foreign_s - first.foreign_s) / attempt.seconds
    attempt.neighbours = foreign_work(first, after, attempt.seconds, plan)
    return attempt


def waiting_s(before: HostLoad | None, after: HostLoad | None) -> float:
    """Return the seconds that threads of this process waited for a core, 0 if the system does not
    report them.
    """
    return after.waited_s - before.waited_s if before and after else 0.0


def long_waiting(before: HostLoad | None, after: HostLoad | None, seconds: float) -> str:
    """Return that threads of this process waited for a core for too large a share of these seconds;
    empty if they did not.
    """
    share = waiting_s(before, after) / seconds
    if share <= MAX_WAITING_SHARE:
        return ""
    return f"this process waited for a core {share:.0%} of the time; stop the others"


def foreign_work(
    before: HostLoad | None, after: HostLoad | None, seconds: float, plan: MeasurementPlan
) -> str:
    """Return what other processes did meanwhile, if they used most of the cores left free; empty
    otherwise, and if the plan leaves no core free.
    """
    if before is None or after is None:
        return ""
    busy, free = (after.foreign_s - before.foreign_s) / seconds, after.cores - plan.threads
    if free <= 0 or busy <= MAX_NEIGHBOUR_SHARE * free:
        return ""
    return f"other processes used {busy:.1f} of {free} free cores"


def _narrow(interval: Interval | None, plan: MeasurementPlan) -> bool:
    return interval is not None and interval.half_width <= plan.max_half_width


def _contention(attempt: Attempt) -> str:
    total = attempt.rejected + len(attempt.samples)
    return (
        f"other processes held the cores in {attempt.rejected} of {total} blocks and used "
        f"{attempt.neighbour_cores:.1f} cores; stop them and measure again"
    )


def _doubts(attempt: Attempt, warmth: WarmUp, plan: MeasurementPlan) -> list[str]:
    """Return why the value is less certain than the plan requires."""
    doubts = []
    taken = f"{len(attempt.samples)} blocks in {attempt.seconds:.1f} s"
    if not warmth.settled:
        doubts.append(f"the pace had not settled after {warmth.seconds:.1f} s of warm-up")
    doubts += _interval_doubts(attempt.interval, plan, taken)
    if _narrow(attempt.interval, plan) and len(attempt.samples) < plan.min_blocks:
        doubts.append(f"{taken}, the plan requires {plan.min_blocks}")
    if attempt.neighbours:
        doubts.append(attempt.neighbours)
    return doubts


def _interval_doubts(interval: Interval | None, plan: MeasurementPlan, taken: str) -> list[str]:
    """Return why the interval is not as narrow as the plan requires. `taken` says what it rests on,
    such as "9 blocks in 2.0 s".
    """
    if interval is None:
        fewest = next(n for n in range(1, 9) if median_rank(n))
        return [f"only {taken}, an interval needs {fewest}"]
    if _narrow(interval, plan):
        return []
    width, required = f"±{interval.half_width:.1%}", f"±{plan.max_half_width:.1%}"
    return [f"the interval is {width} after {taken}, the plan requires {required}"]
