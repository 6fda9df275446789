"""Latency of a device that its own load has heated until its pace settled.

Theory of operation. Without a fan a device is fast for a minute, until heat lowers its clock. Who
deploys a network that always runs needs the pace after that.

* First the latency is measured as the session finds the device (`nas.measuring.methods.timing`).
* Then the network runs without a pause, in windows of 10 s. The device has settled after 60 s or
  more if the medians of the last four windows differ by no more than the plan's `max_half_width`,
  and its temperature, if it reports one, rose by at most 1 °C over them (judgement). After 600 s
  the measurement goes on without that, and the figure is `noisy`.
* The settled latency is measured at once, before the device cools. A device that slows itself down
  in its heat is what is to be measured, so that is noted and spoils nothing. Other processes do.
"""

import statistics
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter, Run
from nas.measuring.methods.guard import without_value
from nas.measuring.methods.timing import WarmUp, latency, segment, timed, warm_up

METRIC = "hot_latency"
"""Name of the settled figure."""
PROTOCOL = "hot/1"
"""Name of the protocol, stored with the settled figure."""


@dataclass(frozen=True, kw_only=True)
class Heating:
    """Lengths of the load. The defaults are those of the protocol."""

    window_s: float = 10.0
    windows: int = 4
    """Number of windows that must agree."""
    min_s: float = 60.0
    max_s: float = 600.0
    max_rise_c: int = 1
    """Largest rise of the temperature over these windows, in degrees Celsius."""


@dataclass(kw_only=True)
class Load:
    """The windows of a load: the median seconds per call of each, and the temperature at its end in
    degrees Celsius, None if the device reports none.
    """

    medians_s: list[float] = field(default_factory=list)
    temperatures_c: list[int | None] = field(default_factory=list)
    seconds: float = 0.0

    def settled(self, heating: Heating, plan: MeasurementPlan) -> bool:
        """Return whether the last windows agree."""
        if self.seconds < heating.min_s or len(self.medians_s) < heating.windows:
            return False
        last = self.medians_s[-heating.windows :]
        if max(last) - min(last) > plan.max_half_width * min(last):
            return False
        first_c, last_c = self.temperatures_c[-heating.windows], self.temperatures_c[-1]
        return first_c is None or last_c is None or last_c - first_c <= heating.max_rise_c


def hot_latency(
    run: Run, meter: Meter, plan: MeasurementPlan, *, heating: Heating | None = None
) -> tuple[Measurement, Measurement]:
    """Measure seconds per call of `run` as the device is found, and after it has settled under this
    load. The caller must hold the device exclusively.

    The second figure is `hot_latency`. Its details have the first one's value and interval, and the
    windows of the load.
    """
    heating = heating or Heating()
    first = latency(run, meter, plan)
    load, warmth = _heated(run, meter, plan, heating)
    meter.watch.begin()
    settled = timed(run, meter, plan, warmth, metric=METRIC)
    problem = meter.watch.problem(slowdowns=False)
    if problem is not None and settled.value is not None:
        settled = without_value(settled, problem)
    details: dict[str, Any] = {
        **settled.details,
        **meter.watch.details(),
        "first": {
            key: getattr(first, key) for key in ("value", "ci_low", "ci_high", "status", "reason")
        },
        "load": asdict(load),
    }
    return first, replace(settled, details=details)


def _heated(run: Run, meter: Meter, plan: MeasurementPlan, heating: Heating) -> tuple[Load, WarmUp]:
    """Run until the device has settled under this load, or the time is over."""
    calls, load, start_s = warm_up(run, meter, plan).calls, Load(), meter.time_s()
    while True:
        load.medians_s.append(statistics.median(segment(run, meter, calls, heating.window_s)))
        state = meter.device_state()
        load.temperatures_c.append(None if state is None else state.temperature_c)
        load.seconds = meter.time_s() - start_s
        settled = load.settled(heating, plan)
        if settled or load.seconds >= heating.max_s:
            return load, WarmUp(calls=calls, seconds=load.seconds, settled=settled)
