"""Energy: joules per frame over windows that begin and end where the device's counter steps.

A GPU's counter moves only each 100 ms or so, and a window cut anywhere has an error of T/(sqrt(6) W): 4.1 % rms at 1 s.
So the load runs on while the counter is watched for its next step, and joules and frames are counted from step to
step. One step ends a window and begins the next. The rest of the error is one call's length at each end.
"""

from collections.abc import Callable

from nas.benchmark.interval import mean_interval
from nas.benchmark.timing import warm_up
from nas.errors import UnavailableError
from nas.measurement import Measurement, MeasurementPlan, Status
from nas.meters import Meter

WINDOWS = 4
WINDOW_S = 1.0
MAX_STEP_S = 0.5
"""A counter that does not move for so long under load is broken; known ones step each 1 to 200 ms."""

POLL_S = 0.002
MAX_HALF_WIDTH = 0.05
"""Boards' sensors are good to about 5 % themselves, so a narrower interval would claim too much."""


def energy(run: Callable[[], object], meter: Meter, plan: MeasurementPlan, *, metric: str = "energy") -> Measurement:
    """Joules per frame (one of the plan's batch), of the whole device, idle power included.

    Four windows of a second or more after the warm-up; `samples` are the windows, the interval is Student's t on them.
    Status `unavailable` with the meter's reason where there is no trustworthy counter.
    """
    reason = meter.energy_unavailable_reason()
    if reason:
        return Measurement.unavailable(metric, "J", reason, device=meter.device, plan=plan)
    calls = max(1, int(warm_up(run, meter, plan).calls * POLL_S / plan.block_s))
    try:
        samples = _windows(run, meter, plan, calls)
    except UnavailableError as error:
        return Measurement.unavailable(metric, "J", str(error), device=meter.device, plan=plan)
    interval = mean_interval(samples)
    noisy = interval.half_width > MAX_HALF_WIDTH
    return Measurement(metric=metric, unit="J", value=interval.value, ci_low=interval.low, ci_high=interval.high,
                       samples=tuple(samples), method=f"{meter.energy_method}, windows from step to step",
                       status=Status.NOISY if noisy else Status.OK,
                       reason=f"interval of ±{interval.half_width:.1%}, at most ±{MAX_HALF_WIDTH:.0%} is good"
                       if noisy else "", device=meter.device, plan=plan)


def _windows(run: Callable[[], object], meter: Meter, plan: MeasurementPlan, calls: int) -> list[float]:
    """Joules per frame of each window. Raises `UnavailableError` for a counter that cannot be trusted."""
    load = _Load(run, meter, calls)
    begin_j = load.to_next_step()
    samples = []
    for _ in range(WINDOWS):
        load.batches = 0
        load.run_for(WINDOW_S)
        end_j = load.to_next_step()
        if end_j <= begin_j:
            raise UnavailableError(f"the energy counter went from {begin_j} to {end_j} J under load")
        samples.append((end_j - begin_j) / (load.batches * plan.batch_size))
        begin_j = end_j
    return samples


class _Load:
    """The network run over and over, counting the `batches`."""

    def __init__(self, run: Callable[[], object], meter: Meter, calls: int) -> None:
        self._run = run
        self._meter = meter
        self._calls = calls
        self.batches = 0

    def _some(self) -> None:
        for _ in range(self._calls):
            self._run()
        self._meter.synchronize()
        self.batches += self._calls

    def run_for(self, seconds: float) -> None:
        """Load the device without reading the counter, which fast reading disturbs."""
        end_s = self._meter.time_s() + seconds
        while self._meter.time_s() < end_s:
            self._some()

    def to_next_step(self) -> float:
        """Load the device until its counter moves; the counter then, in joules."""
        start_j, end_s = self._meter.energy_j(), self._meter.time_s() + MAX_STEP_S
        while self._meter.time_s() < end_s:
            self._some()
            now_j = self._meter.energy_j()
            if now_j != start_j:
                return now_j
        raise UnavailableError(f"the energy counter stood still for {MAX_STEP_S} s under load")
