"""What a device does to a measurement: it slows itself down, or it works for others.

The device is looked at between blocks, at most five times a second, never inside a timed block.
Rules (judgement where no source is named): a slowdown by temperature, hardware or power brake
spoils a measurement, and so does an SM clock that moves by more than 5 %, unless the board is at
its power limit, which is its honest steady state and only noted. Another process spoils it where it
works, or starts, meanwhile; one that only holds memory is noted.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

from nas.core.measurement import Status

Span = tuple[float, float]
"""From when to when, in seconds of the device's clock."""

LOOK_S = 0.2
MAX_LOOKS = 10_000
MAX_CLOCK_CHANGE = 0.05
"""Between the lowest and the highest of single looks, which scatter more than the means of long
segments.
"""

SETTLE_S, SETTLE_POLL_S = 1.5, 0.05
"""A driver's utilisation is that of the last second; so long it may take to fall to 0 after our own
work.
"""


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """One look. What the device does not tell is None.

    `slowed` names the slowdowns in force, `power_capped` says that the board is at its power limit,
    `idle` that its clocks are low for want of work. `programs` are the processes on it, `busy` the
    share of the device in percent that each process used since the last look, this one left out of
    both where its number can be known.
    """

    time_s: float
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    slowed: tuple[str, ...] | None = None
    power_capped: bool = False
    idle: bool = False
    programs: frozenset[int] | None = None
    busy: Mapping[int, int] | None = field(default=None)


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """Why what was measured meanwhile has no value."""

    status: Status
    reason: str


class Watched(Protocol):
    """What can be looked at."""

    def time_s(self) -> float:
        """A monotonic clock in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def synchronize(self) -> None:
        """Return once all work of this process is done."""

    def device_state(self) -> DeviceState | None:
        """The device now, None where it tells nothing."""

    def busy_percent(self) -> int | None:
        """How busy the device was of late, None where it does not tell."""


class Watch:
    """Looks at one device, and what they say together."""

    def __init__(self, device: Watched) -> None:
        self._device = device
        self._looks: deque[DeviceState] = deque(maxlen=MAX_LOOKS)
        self._next_s = 0.0
        self._begin_s = 0.0

    def look(self) -> None:
        """Look at the device, unless that was done within the last 0.2 s: some ten questions to the
        driver.
        """
        if self._device.time_s() >= self._next_s:
            self._look()

    def begin(self) -> None:
        """What is seen from now on concerns the measurement that begins."""
        self._look()
        self._begin_s = self._device.time_s()

    def problem(self, since_s: float | None = None) -> Disturbance | None:
        """What spoils a measurement since then, else since `begin`; None where nothing does. Takes
        a last look.
        """
        self._look()
        looks = self._since(since_s)
        return _contention(looks, self._before(looks)) or _slowdown(looks)

    def clocks(self, first: Span, others: Sequence[Span]) -> tuple[float, float] | None:
        """The mean SM clock in the first span and in the others, MHz; None where the device does
        not tell.
        """
        known = [
            [
                look.sm_clock_mhz
                for look in self._during(*span)
                if look.sm_clock_mhz and not look.idle
            ]
            for span in (first, *others)
        ]
        here, there = known[0], [clock for each in known[1:] for clock in each]
        return (fmean(here), fmean(there)) if here and there else None

    def power_capped(self, spans: Sequence[Span]) -> bool:
        """Whether the board was seen at its power limit in one of them, which a network may well
        reach.
        """
        return any(look.power_capped for span in spans for look in self._during(*span))

    def mean_power_w(self) -> float | None:
        """The mean of the power that the looks since `begin` saw, None where the device does not
        tell.
        """
        watts = [look.power_w for look in self._since(None) if look.power_w is not None]
        return sum(watts) / len(watts) if watts else None

    def details(self) -> dict[str, Any]:
        """What was seen since `begin`, for the record; empty where the device tells nothing."""
        looks = self._since(None)
        if not looks:
            return {}
        clocks = [look.sm_clock_mhz for look in looks if look.sm_clock_mhz is not None]
        warmest = max(
            (look.temperature_c for look in looks if look.temperature_c is not None), default=None
        )
        return {
            "watch": {
                "looks": len(looks),
                "sm_clock_mhz": clocks,
                "temperature_c": warmest,
                "slowed": dict(Counter(name for look in looks for name in look.slowed or ())),
                "power_capped": sum(look.power_capped for look in looks),
                "other_programs": sorted(
                    frozenset().union(*(look.programs or () for look in looks))
                ),
            }
        }

    def neighbour(self) -> Disturbance | None:
        """Who works on the device while this process does not; to be asked before a measurement.

        Waits for up to 1.5 s, only where the driver does not tell processes apart.
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
                    reason=f"the device is {busy} % busy though nothing of this "
                    "program runs; stop the others and measure again",
                )
            self._device.sleep(SETTLE_POLL_S)
        return None

    def _look(self) -> None:
        state = self._device.device_state()
        if state is not None:
            self._looks.append(state)
        self._next_s = self._device.time_s() + LOOK_S

    def _since(self, since_s: float | None) -> list[DeviceState]:
        begin_s = self._begin_s if since_s is None else since_s
        return [look for look in self._looks if look.time_s > begin_s]

    def _during(self, start_s: float, end_s: float) -> list[DeviceState]:
        return [look for look in self._looks if start_s < look.time_s <= end_s]

    def _before(self, looks: list[DeviceState]) -> frozenset[int] | None:
        """The programs of the look before these."""
        earlier = [
            look.programs for look in self._looks if not looks or look.time_s < looks[0].time_s
        ]
        return earlier[-1] if earlier else None


def _slowdown(looks: list[DeviceState]) -> Disturbance | None:
    slowed = Counter(name for look in looks for name in look.slowed or ())
    if slowed:
        name, count = slowed.most_common(1)[0]
        return Disturbance(
            status=Status.THROTTLED,
            reason=f"the device slowed itself down: {name} in {count} of "
            f"{len(looks)} looks{_warmth(looks)}",
        )
    clocks = [look.sm_clock_mhz for look in looks if look.sm_clock_mhz and not look.idle]
    if (
        clocks
        and min(clocks) < (1 - MAX_CLOCK_CHANGE) * max(clocks)
        and not any(look.power_capped for look in looks)
    ):
        return Disturbance(
            status=Status.THROTTLED,
            reason=f"the device's clock moved between {min(clocks)} and "
            f"{max(clocks)} MHz{_warmth(looks)}",
        )
    return None


def _warmth(looks: list[DeviceState]) -> str:
    known = [look.temperature_c for look in looks if look.temperature_c is not None]
    return f", at up to {max(known)} °C" if known else ""


def _contention(looks: list[DeviceState], before: frozenset[int] | None) -> Disturbance | None:
    busy: Counter[int] = Counter()
    for look in looks:
        for program, percent in (look.busy or {}).items():
            busy[program] = max(busy[program], percent)
    if busy:
        shares = ", ".join(
            f"process {program} used up to {percent} % of it" for program, percent in busy.items()
        )
        return Disturbance(
            status=Status.CONTENDED,
            reason=f"the device worked for others: {shares}; stop them and measure again",
        )
    known = before if before is not None else next((look.programs for look in looks), None)
    came = {program for look in looks for program in look.programs or ()} - (known or frozenset())
    if came and known is not None:
        return Disturbance(
            status=Status.CONTENDED,
            reason=f"started on the device meanwhile: process {', '.join(map(str, sorted(came)))}",
        )
    return None
