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
from typing import Any, Self

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


class Meter:
    """The instrument of one physical device; a context manager that closes itself.

    By default it has the host's clock and a device without telemetry. `clock`, `energy_method` and
    `memory_method` say how readings are taken and are stored with every figure. Threads must not
    share a meter.
    """

    device: Device
    """The measured device, as found when the meter was made."""
    torch_device: str
    """The device's name in torch ("cpu", "cuda:0")."""
    clock: str
    energy_method: str
    memory_method: str
    power_kinds: tuple[str, ...] = ()
    """The power sensors that the device may have, of "instant" and "average"."""
    only_runtime: str | None = None
    """The only runtime of the device, None if it has those of `nas.measuring.methods`."""

    @cached_property
    def energy(self) -> EnergyReader:
        """Windows of energy under load, by the best method that the device offers."""
        return EnergyReader(self)

    @cached_property
    def watch(self) -> Watch:
        """Slowdowns, clocks and other processes during a measurement."""
        return Watch(self)

    @property
    def memory_runtime(self) -> str | None:
        """The runtime in which peak memory can be measured, None if it cannot."""
        return self.only_runtime or "eager"

    def plan_problem(self, plan: MeasurementPlan) -> str | None:
        """Return what only this device cannot do of a plan, None if it can do all. The methods
        check the rest.
        """
        return None

    def built_elsewhere(self, network: Any, plan: MeasurementPlan) -> Any:
        """Do the slow part for a device elsewhere, which need not be held for it, and return what
        `prepared_elsewhere` takes; None if the network runs in this process.
        """

    def prepared_elsewhere(
        self, built: Any, plan: MeasurementPlan
    ) -> AbstractContextManager[Any] | None:
        """Return the network, loaded on a device elsewhere; None if it runs in this process."""
        return None

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the device exclusively in the `with` block. Raises `UnavailableError`."""
        return DeviceLock(self.device.identity).exclusive()

    def host_details(self) -> dict[str, Any]:
        """Return the conditions of the device's host that may affect a figure."""
        return host.details()

    def usable_cores(self) -> int:
        """Return the number of cores that a network may use."""
        return host.usable_cores()

    def expect(self, run: Run, calls: int, seconds: float) -> None:
        """Announce that blocks of this many calls follow, for about so long.

        A meter that times elsewhere may time several blocks before it returns the first.
        """

    def time_block(self, run: Run, calls: int) -> float:
        """Return the seconds for this many calls, from an idle device to an idle device.

        Before them the device may be looked at.
        """
        self.watch.look()
        self.synchronize()
        start_s = self.time_s()
        for _ in range(calls):
            run()
        self.synchronize()
        return self.time_s() - start_s

    def keep_busy(self, run: Run, calls: int) -> int:
        """Keep the device busy with at least this many calls until they are done, and return how
        many there were. Before them the device may be looked at.
        """
        self.watch.look()
        for _ in range(calls):
            run()
        self.synchronize()
        return calls

    def synchronize(self) -> None:
        """Return once all work queued on the device is done."""

    def vacate(self) -> None:
        """Finish the queued work, and return unused memory to the device: another process may use
        it next.
        """
        self.synchronize()

    def time_s(self) -> float:
        """Return the time of a monotonic clock in seconds."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Let time pass while the device has nothing to do."""
        time.sleep(seconds)

    def energy_j(self) -> float:
        """Return the energy counter in joules since a fixed moment.

        Raises `UnavailableError` with the reason.
        """
        raise NotImplementedError

    def power_w(self, kind: str) -> float:
        """Return the present power in watts by one of `power_kinds`.

        Raises `UnavailableError` with the reason.
        """
        raise UnavailableError(f"no sensor of {kind} power")

    def max_power_w(self) -> float | None:
        """Return the device's power limit in watts, None if it is unknown."""
        return None

    def energy_unavailable_reason(self) -> str | None:
        """Return why neither counter nor power can be read here, None if one of them can.

        Takes readings to find out.
        """
        return self.energy.unavailable_reason()

    def device_state(self) -> DeviceState | None:
        """Return clocks, slowdowns and other processes, None if the device reports none of them."""
        return None

    def busy_percent(self) -> int | None:
        """Return how busy the device was over the last moments, None if it does not report it."""
        return None

    def host_load(self) -> HostLoad | None:
        """Return what else runs on the host, None if the system does not report it."""
        raise NotImplementedError

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Return the most bytes that one call of `run` holds on the device at once, beyond those
        held before it.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release all handles. A second call does nothing."""

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
