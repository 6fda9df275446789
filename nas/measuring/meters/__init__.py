"""Instruments: one meter for each kind of device, found by name in the entry-point group
`nas.meters`.

A meter reads clocks, counters and memory of one physical device and decides nothing; how readings
become a figure with an interval is the business of `nas.measuring.methods`. A new device needs one
class that passes `nas.testing.meter_contract`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from nas.core import plugins
from nas.core.errors import UnavailableError
from nas.core.measurement import Device
from nas.measuring.meters.energy import EnergyReader
from nas.measuring.meters.watch import DeviceState, Watch


@dataclass(frozen=True, kw_only=True)
class HostLoad:
    """Counters of the host since a fixed moment, in core seconds; only differences mean something.

    `waited_s` is how long threads of this process were ready to run and had no core, the
    hypervisor's share included; `foreign_s` is what other processes used of the cores this process
    may use. Both never fall, but for the 10 ms of the kernel's clock tick. `cores` is how many
    cores this process may use.
    """

    waited_s: float
    foreign_s: float
    cores: int


@runtime_checkable
class Meter(Protocol):
    """The instrument of one physical device; a context manager that closes itself.

    `torch_device` is the device's name for torch ("cpu", "cuda:0"). `clock`, `energy_method` and
    `memory_method` say how the readings are taken and are stored with every figure. `power_kinds`
    are those of "instant" and "average" that the device may know. `energy` turns its sensors into
    joules, `watch` sees what it does meanwhile. Not to be shared between threads.
    """

    @property
    def device(self) -> Device:
        """What is measured, as found when the meter was made."""

    torch_device: str
    clock: str
    energy_method: str
    memory_method: str
    power_kinds: tuple[str, ...]

    @property
    def energy(self) -> EnergyReader:
        """Windows of joules under load, by the best way that the device offers."""

    @property
    def watch(self) -> Watch:
        """Slowdowns, clocks and other processes during a measurement."""

    def synchronize(self) -> None:
        """Return once all work queued on the device is done."""

    def time_s(self) -> float:
        """A monotonic clock in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let time pass, with nothing to do for the device."""

    def energy_j(self) -> float:
        """What the energy counter shows: joules since a fixed moment. Raises `UnavailableError`
        with the reason.
        """

    def power_w(self, kind: str) -> float:
        """Watts now, of one of `power_kinds`. Raises `UnavailableError` with the reason."""

    def max_power_w(self) -> float | None:
        """What the device may draw at most, None where that is unknown."""

    def energy_unavailable_reason(self) -> str | None:
        """Why neither counter nor power can be read here, None where one can. Takes readings to
        find out.
        """

    def device_state(self) -> DeviceState | None:
        """Clocks, slowdowns and other processes on the device, None where it tells nothing."""

    def busy_percent(self) -> int | None:
        """How busy the device was over the last moments, None where it does not tell."""

    def host_load(self) -> HostLoad | None:
        """What else runs on the host, None where the system does not tell."""

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """The most bytes that one call of `run` holds on the device at once, beyond what was held
        before it.
        """

    def close(self) -> None:
        """Give back handles; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class CommonMeter:
    """What meters share: the host's clock, a `with` block that closes them, and a device that tells
    nothing of itself but, at best, joules.
    """

    energy_method: str
    power_kinds: tuple[str, ...] = ()

    @cached_property
    def energy(self) -> EnergyReader:
        """Windows of joules under load, by the best way that the device offers."""
        return EnergyReader(self)

    @cached_property
    def watch(self) -> Watch:
        """Slowdowns, clocks and other processes during a measurement."""
        return Watch(self)

    def synchronize(self) -> None:
        """Nothing is queued."""

    def time_s(self) -> float:
        """Seconds of the host's monotonic clock."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Sleep in earnest."""
        time.sleep(seconds)

    def energy_j(self) -> float:
        """What the energy counter shows: joules since a fixed moment. Raises `UnavailableError`
        with the reason.
        """
        raise NotImplementedError

    def power_w(self, kind: str) -> float:
        """There is no such sensor."""
        raise UnavailableError(f"no sensor of {kind} power")

    def max_power_w(self) -> float | None:
        """Unknown."""
        return None

    def energy_unavailable_reason(self) -> str | None:
        """Why the joules cannot be read, None where they can."""
        return self.energy.unavailable_reason()

    def device_state(self) -> DeviceState | None:
        """It tells nothing."""
        return None

    def busy_percent(self) -> int | None:
        """It does not tell."""
        return None

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def find_meter(kind: str | None = None) -> Meter:
    """The meter registered as `kind`, else that of the CUDA device where there is one, else the
    CPU's.

    Raises `UnknownNameError` for an unregistered kind, `UnavailableError` where the machine has no
    such device.
    """
    import torch

    make: Any = plugins.load("nas.meters", kind or ("cuda" if torch.cuda.is_available() else "cpu"))
    meter: Meter = make()
    return meter
