"""Disturbances of a measurement by the device: it slows itself down, or it works for other
processes.

The device is looked at between blocks, at most five times a second, never inside a timed block.
The rules are judgement where no source is named:

* A slowdown by temperature, hardware or power brake spoils a measurement.
* So does an SM clock that moves by more than 5 %, unless the board is at its power limit. That is
  the board's true steady state and is only noted.
* Another process spoils it if that process uses more than 2 % of the device, or starts, during the
  measurement. One that only holds memory or uses less, as a display does, is noted.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

from nas.core.measurement import Status

Span = tuple[float, float]
"""Start and end in seconds of the device's clock."""

LOOK_INTERVAL_S = 0.2
"""Shortest time between two looks."""
MAX_LOOKS = 10_000
"""Looks that are remembered."""
MAX_CLOCK_CHANGE = 0.05
"""Largest change between the lowest and the highest clock of single looks, which scatter more than
the means of long segments.
"""

MAX_NEIGHBOUR_PERCENT = 2
"""Largest share of the device that another process may use. It is the half width that a plan asks
of an interval by default (`MeasurementPlan.max_half_width`).
"""

SETTLE_S, SETTLE_POLL_S = 1.5, 0.05
"""Time that a driver's utilisation may need to fall to 0 after our own work, since it covers the
last second; and the time between two readings of it.
"""


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """One look at a device. Values that the device does not report are None.

    This process is left out of `programs` and `busy` if its number can be known.
    """

    time_s: float
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    slowed: tuple[str, ...] | None = None
    """Names of the slowdowns in force."""
    power_capped: bool = False
    """True if the board is at its power limit."""
    idle: bool = False
    """True if the clocks are low because there is no work."""
    programs: frozenset[int] | None = None
    """Processes on the device."""
    busy: Mapping[int, int] | None = field(default=None)
    """Share of the device in percent that each process used since the last look."""


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """The reason why a measurement has no value."""

    status: Status
    reason: str


class Watched(Protocol):
    """A device that can be looked at."""

    def time_s(self) -> float:
        """Return the time of a monotonic clock in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def synchronize(self) -> None:
        """Return once all work of this process is done."""

    def device_state(self) -> DeviceState | None:
        """Return the present state, None if the device reports nothing."""

    def busy_percent(self) -> int | None:
        """Return how busy the device was recently, None if it does not report it."""


class Watch:
    """Looks at one device and judges them together."""

    def __init__(self, device: Watched) -> None:
        self._device = device
        self._looks: deque[DeviceState] = deque(maxlen=MAX_LOOKS)
        self._next_s = 0.0
        self._begin_s = 0.0

    def look(self) -> None:
        """Look at the device, unless the last look is less than 0.2 s old. A look takes about ten
        queries to the driver.
        """
        if self._device.time_s() >= self._next_s:
            self._look()

    def begin(self) -> None:
        """Begin a measurement: from now on looks concern it."""
        self._look()
        self._begin_s = self._device.time_s()

    def problem(
        self, since_s: float | None = None, *, slowdowns: bool = True
    ) -> Disturbance | None:
        """Return the disturbance since that time, by default since `begin`; None if there is none.
        Without `slowdowns` only other processes disturb.

        Takes a last look.
        """
        self._look()
        looks = self._since(since_s)
        others = _contention(looks, self._programs_before(looks))
        return others or (_slowdown(looks) if slowdowns else None)

    def clocks(self, first: Span, others: Sequence[Span]) -> tuple[float, float] | None:
        """Return the mean SM clock in MHz in the first span and in the others; None if the device
        does not report it.
        """
        here = self._busy_clocks([first])
        there = self._busy_clocks(others)
        return (fmean(here), fmean(there)) if here and there else None

    def power_capped(self, spans: Sequence[Span]) -> bool:
        """Return whether the board was seen at its power limit in one of the spans, which a network
        may well reach.
        """
        return any(look.power_capped for span in spans for look in self._during(*span))

    def mean_power_w(self) -> float | None:
        """Return the mean power of the looks since `begin`; None if the device does not report
        it.
        """
        watts = [look.power_w for look in self._since(None) if look.power_w is not None]
        return sum(watts) / len(watts) if watts else None

    def details(self) -> dict[str, Any]:
        """Return a summary of the looks since `begin` for the record; empty if the device reports
        nothing.
        """
        looks = self._since(None)
        if not looks:
            return {}
        clocks = [look.sm_clock_mhz for look in looks if look.sm_clock_mhz is not None]
        temperatures = [look.temperature_c for look in looks if look.temperature_c is not None]
        shares = {str(program): percent for program, percent in _largest_shares(looks).items()}
        return {
            "watch": {
                "looks": len(looks),
                "idle": sum(look.idle for look in looks),
                "sm_clock_mhz": clocks,
                "temperature_c": max(temperatures, default=None),
                "slowed": dict(Counter(name for look in looks for name in look.slowed or ())),
                "power_capped": sum(look.power_capped for look in looks),
                "other_programs": sorted(
                    frozenset().union(*(look.programs or () for look in looks))
                ),
                "other_percent": shares,
            }
        }

    def neighbour(self) -> Disturbance | None:
        """Return the disturbance by other processes that work on the device while this one does
        not. To be called before a measurement.

        Waits for up to 1.5 s, and only if the driver does not report the share of each process.
        """
        state = self._device.device_state()
        if state is None or state.busy is not None:
            return None
        self._device.synchronize()
        end_s = self._device.time_s() + SETTLE_S
        while busy := self._device.busy_percent():
            if self._device.time_s() > end_s:
                return Disturbance(
                    status=Status.CONTENDED,
                    reason=f"the device is {busy} % busy though this program runs nothing on it; "
                    "stop the other programs and measure again",
                )
            self._device.sleep(SETTLE_POLL_S)
        return None

    def _look(self) -> None:
        state = self._device.device_state()
        if state is not None:
            self._looks.append(state)
        self._next_s = self._device.time_s() + LOOK_INTERVAL_S

    def _since(self, since_s: float | None) -> list[DeviceState]:
        begin_s = self._begin_s if since_s is None else since_s
        return [look for look in self._looks if look.time_s > begin_s]

    def _during(self, start_s: float, end_s: float) -> list[DeviceState]:
        return [look for look in self._looks if start_s < look.time_s <= end_s]

    def _busy_clocks(self, spans: Sequence[Span]) -> list[int]:
        return _busy_clocks(look for span in spans for look in self._during(*span))

    def _programs_before(self, looks: list[DeviceState]) -> frozenset[int] | None:
        """Return the programs of the look before these."""
        earlier = [
            look.programs for look in self._looks if not looks or look.time_s < looks[0].time_s
        ]
        return earlier[-1] if earlier else None


def _busy_clocks(looks: Iterable[DeviceState]) -> list[int]:
    """Return the SM clocks of the looks at a device that was not idle."""
    return [look.sm_clock_mhz for look in looks if look.sm_clock_mhz and not look.idle]


def _largest_shares(looks: Iterable[DeviceState]) -> dict[int, int]:
    """Return the largest percent of the device that each other process used between two looks."""
    shares: dict[int, int] = {}
    for look in looks:
        for program, percent in (look.busy or {}).items():
            shares[program] = max(shares.get(program, 0), percent)
    return shares


def _slowdown(looks: list[DeviceState]) -> Disturbance | None:
    slowed = Counter(name for look in looks for name in look.slowed or ())
    if slowed:
        name, count = slowed.most_common(1)[0]
        return Disturbance(
            status=Status.THROTTLED,
            reason=f"the device slowed itself down: {name} in {count} of "
            f"{len(looks)} looks{_warmth(looks)}",
        )
    clocks = _busy_clocks(looks)
    if not clocks or any(look.power_capped for look in looks):
        return None
    if min(clocks) >= (1 - MAX_CLOCK_CHANGE) * max(clocks):
        return None
    return Disturbance(
        status=Status.THROTTLED,
        reason=f"the device's clock moved between {min(clocks)} and "
        f"{max(clocks)} MHz{_warmth(looks)}",
    )


def _warmth(looks: list[DeviceState]) -> str:
    temperatures = [look.temperature_c for look in looks if look.temperature_c is not None]
    return f", at up to {max(temperatures)} °C" if temperatures else ""


def _contention(looks: list[DeviceState], before: frozenset[int] | None) -> Disturbance | None:
    """Return the disturbance by other processes. `before` are the programs of an earlier look."""
    shares = ", ".join(
        f"process {program} used up to {percent} % of it"
        for program, percent in _largest_shares(looks).items()
        if percent > MAX_NEIGHBOUR_PERCENT
    )
    if shares:
        return Disturbance(
            status=Status.CONTENDED,
            reason=f"the device worked for other processes: {shares}; stop them and measure again",
        )
    if before is None:
        before = next((look.programs for look in looks), None)
    if before is None:
        return None
    started = {program for look in looks for program in look.programs or ()} - before
    if not started:
        return None
    numbers = ", ".join(map(str, sorted(started)))
    return Disturbance(
        status=Status.CONTENDED, reason=f"started on the device meanwhile: process {numbers}"
    )
