"""Energy: joules per frame over windows under load.

`nas.measuring.meters.energy` turns a device's sensors into joules.
"""

from functools import partial
from statistics import fmean

from nas.core.errors import UnavailableError
from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.measuring.meters import Meter, Run
from nas.measuring.meters.energy import POLL_S
from nas.measuring.methods.guard import watched
from nas.measuring.methods.interval import mean_interval
from nas.measuring.methods.timing import HELD, foreign_work, long_waiting, warm_up

WINDOWS = 4
"""Windows in a measurement."""

MAX_HALF_WIDTH = 0.05
"""Largest half width of an interval that is not noisy, as a share of the mean. Boards' sensors are
good to about 5 % themselves, so a narrower interval would claim too much.
"""

MAX_DISAGREEMENT = 0.05
"""Largest relative difference between two sensors of one board. Users saw counters that show 57 %
of the power (zeus issue 181).
"""


def piece_calls(run: Run, meter: Meter, plan: MeasurementPlan) -> int:
    """Warm up and return the calls in a piece of work that is short enough to read a counter
    between two of them; at least one.
    """
    return max(1, int(warm_up(run, meter, plan).calls * POLL_S / plan.block_s))


def piece(run: Run, calls: int, meter: Meter, plan: MeasurementPlan) -> float:
    """Keep the device busy with this many calls until they are done, and return the frames."""
    return meter.keep_busy(run, calls) * plan.batch_size


@watched
def energy(run: Run, meter: Meter, plan: MeasurementPlan, *, metric: str = "energy") -> Measurement:
    """Measure joules per frame, one of the plan's batch, of the whole device, idle power included.

    There are four windows after the warm-up. `samples` are the windows; the interval is Student's
    t on them. The status is `noisy` also if a second sensor disagrees, or if other processes used
    most of the cores left free: the sensors of a CPU count their work too. It is `unavailable` with
    the reason if no sensor can be trusted, and `contended` or `throttled` if the device was, or if
    this process waited for cores more than 5 % of the time.
    """
    reason = meter.energy_unavailable_reason()
    if reason:
        return Measurement.unavailable(metric, "J", reason, device=meter.device, plan=plan)
    calls = piece_calls(run, meter, plan)
    meter.watch.begin()
    start_s, load = meter.time_s(), meter.host_load()
    try:
        windows = meter.energy.windows(partial(piece, run, calls, meter, plan), WINDOWS)
    except UnavailableError as error:
        return Measurement.unavailable(
            metric, "J", str(error), device=meter.device, plan=plan, details=meter.energy.details()
        )
    seconds, last = meter.time_s() - start_s, meter.host_load()
    samples = tuple(window.energy_j / window.frames for window in windows)
    powers_w = [window.energy_j / window.seconds for window in windows]
    instant_w = meter.watch.mean_power_w()
    figure = partial(
        Measurement,
        metric=metric,
        unit="J",
        samples=samples,
        method=meter.energy.method,
        device=meter.device,
        plan=plan,
    )
    details = {**meter.energy.details(), "power_w": powers_w, "instant_power_w": instant_w}
    if waiting := long_waiting(load, last, seconds):
        details[HELD] = list(samples)
        return figure(value=None, status=Status.CONTENDED, reason=waiting, details=details)
    interval = mean_interval(samples)
    doubts = []
    if interval.half_width > MAX_HALF_WIDTH:
        doubts.append(
            f"the interval is ±{interval.half_width:.1%} wide; at most ±{MAX_HALF_WIDTH:.0%} is "
            "good"
        )
    if instant_w is not None and abs(fmean(powers_w) / instant_w - 1) > MAX_DISAGREEMENT:
        doubts.append(
            f"{fmean(powers_w):.0f} W by this method, {instant_w:.0f} W by the few readings of "
            "instant power"
        )
    if neighbours := foreign_work(load, last, seconds, plan):
        doubts.append(neighbours)
    return figure(
        value=interval.value,
        ci_low=interval.low,
        ci_high=interval.high,
        status=Status.NOISY if doubts else Status.OK,
        reason="; ".join(doubts),
        details=details,
    )
