"""Meters: one instrument for each kind of device, found by name in the entry-point group
`nas.meters`.

A meter reads the clocks, counters and memory of one physical device and decides nothing. Turning
readings into a figure with an interval is the task of `nas.measuring.methods`. A new device needs
one class that passes `nas.testing.meter_contract`.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from nas.agent import host
from nas.agent.host import HostLoad
from nas.core import plugins
from nas.core.errors import InvalidValueError, UnavailableError, UnknownNameError
from nas.core.measurement import Device, MeasurementPlan
from nas.measuring.meters.energy import EnergyReader
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.meters.watch import DeviceState, Watch

REMOTE_RUNTIME = "onnxruntime"
"""The runtime of devices elsewhere."""
Run = Callable[[], object]
"""A network that runs one batch when it is called."""


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

    only_runtime: str | None
    """The only runtime of the device, None if it has those of `nas.measuring.methods`."""

    @property
    def memory_runtime(self) -> str | None:
        """The runtime in which peak memory can be measured, None if it cannot."""

    def plan_problem(self, plan: MeasurementPlan) -> str | None:
        """Return what only this device cannot do of a plan, None if it can do all."""

    def built_elsewhere(self, network: Any, plan: MeasurementPlan) -> Any:
        """Do the slow part for a device elsewhere, which need not be held for it, and return what
        `prepared_elsewhere` takes; None if the network runs in this process.
        """

    def prepared_elsewhere(
        self, built: Any, plan: MeasurementPlan
    ) -> AbstractContextManager[Any] | None:
        """Return the network, loaded on a device elsewhere; None if it runs in this process."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the device exclusively in the `with` block. Raises `UnavailableError`."""

    def host_details(self) -> dict[str, Any]:
        """Return the conditions of the device's host that may affect a figure."""

    def usable_cores(self) -> int:
        """Return the number of cores that a network may use."""

    def expect(self, run: Run, calls: int, seconds: float) -> None:
        """Announce that blocks of this many calls follow, for about so long.

        A meter that times elsewhere may time several blocks before it returns the first.
        """

    def time_block(self, run: Run, calls: int) -> float:
        """Return the seconds for this many calls, from an idle device to an idle device.

        Before them the device may be looked at.
        """

    def keep_busy(self, run: Run, calls: int) -> int:
        """Keep the device busy with at least this many calls until they are done, and return how
        many there were. Before them the device may be looked at.
        """

    def synchronize(self) -> None:
        """Return once all work queued on the device is done."""

    def vacate(self) -> None:
        """Finish the queued work, and return unused memory to the device: another process may use
        it next.
        """

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

    device: Device
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

    only_runtime: str | None = None

    @property
    def memory_runtime(self) -> str | None:
        """The runtime in which peak memory can be measured, None if it cannot."""
        return self.only_runtime or "eager"

    def plan_problem(self, plan: MeasurementPlan) -> str | None:
        """Return None, since the methods check the plan."""
        return None

    def built_elsewhere(self, network: Any, plan: MeasurementPlan) -> Any:
        """Return None, since the network runs in this process."""

    def prepared_elsewhere(
        self, built: Any, plan: MeasurementPlan
    ) -> AbstractContextManager[Any] | None:
        """Return None, since the network runs in this process."""
        return None

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the lock of this machine's device. Raises `UnavailableError`."""
        return DeviceLock(self.device.identity).exclusive()

    def host_details(self) -> dict[str, Any]:
        """Return the conditions of this machine."""
        return host.details()

    def usable_cores(self) -> int:
        """Return the number of cores that this process may use."""
        return host.usable_cores()

    def expect(self, run: Run, calls: int, seconds: float) -> None:
        """Do nothing, since each block is timed when it is asked for."""

    def time_block(self, run: Run, calls: int) -> float:
        """Time the calls by the meter's clock."""
        self.watch.look()
        self.synchronize()
        start_s = self.time_s()
        for _ in range(calls):
            run()
        self.synchronize()
        return self.time_s() - start_s

    def keep_busy(self, run: Run, calls: int) -> int:
        """Make the calls and wait until they are done."""
        self.watch.look()
        for _ in range(calls):
            run()
        self.synchronize()
        return calls

    def synchronize(self) -> None:
        """Return at once, since no work is queued."""

    def vacate(self) -> None:
        """Finish the queued work. No unused memory is held."""
        self.synchronize()

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


def find_meter(name: str | None = None) -> Meter:
    """Return the meter of a device: of this machine by its kind, or elsewhere by its name in the
    device book. The default is the CUDA device, or the CPU if there is no CUDA device.

    Raises `UnknownNameError` for an unknown name, `UnavailableError` if the machine has no such
    device, and `DeviceLostError` if a device elsewhere does not answer.
    """
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if elsewhere(name):
        from nas.measuring.devices.meter import RemoteMeter

        return RemoteMeter(name)
    make: Any = plugins.load("nas.meters", name)
    meter: Meter = make()
    return meter


def find_trainer(name: str | None = None) -> Meter:
    """Return the meter of this machine's device on which networks are trained.

    Raises `InvalidValueError` for a device elsewhere, and the errors of `find_meter`.
    """
    if elsewhere(name):
        raise InvalidValueError(f"networks are trained on this machine: cpu or cuda, not {name}")
    return find_meter(name)


def elsewhere(name: str | None) -> bool:
    """Return whether this names a device elsewhere, in the device book.

    Raises `UnknownNameError` for a name that is neither in the book nor a kind of local device.
    """
    kinds = plugins.names("nas.meters")
    if name is None or name in kinds or ":" in name:
        return False
    from nas.measuring.devices import book

    devices = book.entries()
    if name not in devices:
        raise UnknownNameError("devices", name, [*kinds, *devices])
    return True
