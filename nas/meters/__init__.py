"""Instruments: one meter for each kind of device, found by name in the entry-point group `nas.meters`.

A meter reads clocks, counters and memory of one physical device and decides nothing; how readings become a figure with
an interval is the business of `nas.benchmark`. A new device needs one class that passes `nas.testing.meter_contract`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from nas import plugins
from nas.errors import UnavailableError
from nas.measurement import Device


@dataclass(frozen=True, kw_only=True)
class HostLoad:
    """Counters of the host since a fixed moment, in core seconds; only differences mean something.

    `waited_s` is how long threads of this process were ready to run and had no core, the hypervisor's share included;
    `foreign_s` is what other processes used of the cores this process may use. Both never fall, but for the 10 ms of
    the kernel's clock tick. `cores` is how many cores this process may use.
    """

    waited_s: float
    foreign_s: float
    cores: int


@runtime_checkable
class Meter(Protocol):
    """The instrument of one physical device; a context manager that closes itself.

    `torch_device` is the device's name for torch ("cpu", "cuda:0"). `clock`, `energy_method` and `memory_method` say
    how the readings are taken and are stored with every figure. Not to be shared between threads.
    """

    @property
    def device(self) -> Device:
        """What is measured, as found when the meter was made."""

    torch_device: str
    clock: str
    energy_method: str
    memory_method: str

    def synchronize(self) -> None:
        """Return once all work queued on the device is done."""

    def time_s(self) -> float:
        """A monotonic clock in seconds."""

    def energy_j(self) -> float:
        """Joules used by the device since a fixed moment. Raises `UnavailableError` with the reason."""

    def energy_unavailable_reason(self) -> str | None:
        """Why `energy_j` cannot be read here, None where it can. Takes a reading to find out."""

    def host_load(self) -> HostLoad | None:
        """What else runs on the host, None where the system does not tell."""

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """The most bytes that one call of `run` holds on the device at once, beyond what was held before it."""

    def close(self) -> None:
        """Give back handles; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None: ...


class ClosingMeter:
    """What meters share: a `with` block closes them, and asking for energy tells why there is none."""

    def energy_j(self) -> float:
        """Joules used by the device since a fixed moment. Raises `UnavailableError` with the reason."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held open."""

    def energy_unavailable_reason(self) -> str | None:
        """Why the joules cannot be read, None where they can."""
        try:
            self.energy_j()
        except UnavailableError as error:
            return str(error)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


def find_meter(kind: str | None = None) -> Meter:
    """The meter registered as `kind`, else that of the CUDA device where there is one, else the CPU's.

    Raises `UnknownNameError` for an unregistered kind, `UnavailableError` where the machine has no such device.
    """
    import torch  # noqa: PLC0415 - two seconds that nobody pays who only wants the lock

    make: Any = plugins.load("nas.meters", kind or ("cuda" if torch.cuda.is_available() else "cpu"))
    meter: Meter = make()
    return meter
