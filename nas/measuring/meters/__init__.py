"""Meters: one instrument for each kind of device, found by name in the entry-point group
`nas.meters`.

A meter reads the clocks, counters and memory of one physical device and decides nothing. Turning
readings into a figure with an interval is the task of `nas.measuring.methods`. A new device needs
one class that passes `nas.testing.meter_contract`.
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
    """Counters of the host since a fixed moment, in core seconds. Only differences have a meaning.

    Neither counter ever falls, except by up to 10 ms, the kernel's clock tick.
    """

    waited_s: float
    """Time in which threads of this process were ready to run and had no core. This includes the
    time that the hypervisor gave to other guests.
    """

    foreign_s: float
    """Time that other processes used on the cores that this process may use."""

    cores: int
    """Number of cores that this process may use."""


@runtime_checkable
class Meter(Protocol):
    """The instrument of one physical device; a context manager that closes itself.

    `clock`, `energy_method` and `memory_method` say how readings are taken and are stored with
    every figure. Threads must not share a meter.
    """

    @property
    def device(self) -> Device:
        """The measured device, as found when the meter was made."""

    torch_device: str
    """The device's name in torch ("cpu", "cuda:0")."""
    clock: str
    energy_method: str
    memory_method: str
    power_kinds: tuple[str, ...]
    """The power sensors that the device may have, of "instant" and "average"."""

    @property
    def energy(self) -> EnergyReader:
        """Windows of energy under load, by the best method that the device offers."""

    @property
    def watch(self) -> Watch:
        """Slowdowns, clocks and other processes during a measurement."""

    def synchronize(self) -> None:
        """Return once all work queued on the device is done."""

    def time_s(self) -> float:
        """Return the time of a monotonic clock in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let time pass while the device has nothing to do."""

    def energy_j(self) -> float:
        """Return the energy counter in joules since a fixed moment.

        Raises `UnavailableError` with the reason.
        """

    def power_w(self, kind: str) -> float:
        """Return the present power in watts by one of `power_kinds`.

        Raises `UnavailableError` with the reason.
        """

    def max_power_w(self) -> float | None:
        """Return the device's power limit in watts, None if it is unknown."""

    def energy_unavailable_reason(self) -> str | None:
        """Return why neither counter nor power can be read here, None if one of them can.

        Takes readings to find out.
        """

    def device_state(self) -> DeviceState | None:
        """Return clocks, slowdowns and other processes, None if the device reports none of them."""

    def busy_percent(self) -> int | None:
        """Return how busy the device was over the last moments, None if it does not report it."""

    def host_load(self) -> HostLoad | None:
        """Return what else runs on the host, None if the system does not report it."""

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Return the most bytes that one call of `run` holds on the device at once, beyond those
        held before it.
        """

    def close(self) -> None:
        """Release all handles. A second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class CommonMeter:
    """Defaults for meters: the host's clock, a context manager, and a device without telemetry."""

    energy_method: str
    power_kinds: tuple[str, ...] = ()

    @cached_property
    def energy(self) -> EnergyReader:
        """Windows of energy under load, by the best method that the device offers."""
        return EnergyReader(self)

    @cached_property
    def watch(self) -> Watch:
        """Slowdowns, clocks and other processes during a measurement."""
        return Watch(self)

    def synchronize(self) -> None:
        """Return at once, since no work is queued."""

    def time_s(self) -> float:
        """Return the host's monotonic clock in seconds."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Sleep in real time."""
        time.sleep(seconds)

    def energy_j(self) -> float:
        """Return the energy counter in joules since a fixed moment.

        Raises `UnavailableError` with the reason.
        """
        raise NotImplementedError

    def power_w(self, kind: str) -> float:
        """Raise `UnavailableError`, since there is no such sensor."""
        raise UnavailableError(f"no sensor of {kind} power")

    def max_power_w(self) -> float | None:
        """Return None, since the power limit is unknown."""
        return None

    def energy_unavailable_reason(self) -> str | None:
        """Return why the energy cannot be read, None if it can."""
        return self.energy.unavailable_reason()

    def device_state(self) -> DeviceState | None:
        """Return None, since the device reports nothing."""
        return None

    def busy_percent(self) -> int | None:
        """Return None, since the device does not report it."""
        return None

    def close(self) -> None:
        """Do nothing, since no handle is open."""

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
    """Return the meter registered as `kind`; by default the CUDA device's, or the CPU's if there is
    no CUDA device.

    Raises `UnknownNameError` for an unregistered kind and `UnavailableError` if the machine has no
    such device.
    """
    import torch

    default = "cuda" if torch.cuda.is_available() else "cpu"
    make: Any = plugins.load("nas.meters", kind or default)
    meter: Meter = make()
    return meter
