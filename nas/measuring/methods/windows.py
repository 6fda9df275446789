"""Energy: joules per frame over windows under load. How a device's sensors give joules is
`nas.measuring.meters.energy`.
"""

from functools import partial
from statistics import fmean

from nas.core.errors import UnavailableError
from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.measuring.meters import Meter
from nas.measuring.meters.energy import POLL_S
from nas.measuring.methods.guard import watched
from nas.measuring.methods.interval import mean_interval
from nas.measuring.methods.timing import Run, warm_up

WINDOWS = 4

MAX_HALF_WIDTH = 0.05
"""Boards' sensors are good to about 5 % themselves, so a narrower interval would claim too much."""

MAX_DISAGREEMENT = 0.05
"""Between two sensors of one board; users saw counters that show 57 % of the power (zeus issue
181).
"""


def piece_calls(run: Run, meter: Meter, plan: MeasurementPlan) -> int:
    """Warm up; calls in a piece of work that is short enough to watch a counter between two of
    them, at least one.
    """
    return max(1, int(warm_up(run, meter, plan).calls * POLL_S / plan.block_s))


def piece(run: Run, calls: int, meter: Meter, plan: MeasurementPlan) -> float:
    """Keep the device busy with so many calls, to its end; the frames done. Before it, the device
    may be looked at.
    """
    meter.watch.look()
    for _ in range(calls):
        run()
    meter.synchronize()
    return calls * plan.batch_size


@watched
def energy(run: Run, meter: Meter, plan: MeasurementPlan, *, metric: str = "energy") -> Measurement:
    """Joules per frame (one of the plan's batch), of the whole device, idle power included.

    Four windows after the warm-up; `samples` are the windows, the interval is Student's t on them.
    Status `noisy` also where a second sensor disagrees; `unavailable` with the reason where there
    is no sensor that can be trusted; `contended` or `throttled` where the device was.
    """
    reason = meter.energy_unavailable_reason()
    if reason:
        return Measurement.unavailable(metric, "J", reason, device=meter.device, plan=plan)
    calls = piece_calls(run, meter, plan)
    meter.watch.begin()
    try:
        windows = meter.energy.windows(partial(piece, run, calls, meter, plan), WINDOWS)
    except UnavailableError as error:
        return Measurement.unavailable(
            metric, "J", str(error), device=meter.device, plan=plan, details=meter.energy.details()
        )
    samples = tuple(window.energy_j / window.frames for window in windows)
    interval, powers_w = (
        mean_interval(samples),
        [window.energy_j / window.seconds for window in windows],
    )
    seen_w = meter.watch.mean_power_w()
    doubts = []
    if interval.half_width > MAX_HALF_WIDTH:
        doubts.append(
            f"interval of ±{interval.half_width:.1%}, at most ±{MAX_HALF_WIDTH:.0%} is good"
        )
    if seen_w is not None and abs(fmean(powers_w) / seen_w - 1) > MAX_DISAGREEMENT:
        doubts.append(
            f"{fmean(powers_w):.0f} W by this method, {seen_w:.0f} W by instant power, seldom read"
        )
    return Measurement(
        metric=metric,
        unit="J",
        value=interval.value,
        ci_low=interval.low,
        ci_high=interval.high,
        samples=samples,
        method=meter.energy.method,
        status=Status.NOISY if doubts else Status.OK,
        reason="; ".join(doubts),
        device=meter.device,
        plan=plan,
        details={**meter.energy.details(), "power_w": powers_w, "instant_power_w": seen_w},
    )
