"""The NVIDIA driver's own sensors, through `nvidia-ml-py` (module `pynvml`); the only place that
imports it.

Vendor errors are translated once, by one decorator, each to its own reason; no fault ever reads as
0 J or 0 W. A device is found by UUID, because NVML's order is not CUDA's. Everything here reads;
clocks, limits and modes are never set.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pynvml

from nas.core.errors import UnavailableError
from nas.measuring.meters.energy import AVERAGE, INSTANT
from nas.measuring.meters.watch import DeviceState

P = ParamSpec("P")
T = TypeVar("T")

REASONS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "the NVIDIA driver's library libnvidia-ml.so.1 is not installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_NOT_SUPPORTED: "this GPU or its virtualisation does not offer it (an energy counter needs Volta "
    "or newer)",
    pynvml.NVML_ERROR_NO_PERMISSION: "permission denied by the NVIDIA driver",
    pynvml.NVML_ERROR_NOT_FOUND: "the NVIDIA driver knows no such GPU",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the NVIDIA driver is too old: its library lacks this function",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU has fallen off the bus",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver and its library have different versions; restart",
}

SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons under which a figure is not the device's own."""

IDLE, POWER_CAP = 0x01, 0x04


def _reason(error: Exception) -> str:
    if isinstance(error, pynvml.NVMLError):
        return str(REASONS.get(error.value, str(error)))
    return "the NVIDIA driver is too old for nvidia-ml-py"


def translated(function: Callable[P, T]) -> Callable[P, T]:
    """The function with NVML's errors turned into `UnavailableError`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (
            pynvml.NVMLError,
            pynvml.NVMLLibraryMismatchError,
        ) as error:  # the latter is no NVMLError
            raise UnavailableError(f"NVML: {_reason(error)}") from error

    return call


def _told(read: Callable[..., T], *args: Any) -> T | None:
    """A reading that some devices do not offer: None where this one does not."""
    try:
        return read(*args)
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
        return None


class NvmlDevice:
    """One GPU by its UUID ("GPU-…"): a sensor of energy, and what there is to watch.

    `time_s` and `sleep` are its clock. Raises `UnavailableError` with the reason where the driver
    cannot be asked.
    """

    energy_method = "nvml counter, board"
    power_kinds: tuple[str, ...] = (INSTANT, AVERAGE)

    @translated
    def __init__(
        self,
        uuid: str,
        time_s: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._time_s, self._sleep = time_s, sleep
        pynvml.nvmlInit()
        try:
            self._handle: Any = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        except BaseException:
            pynvml.nvmlShutdown()
            raise
        self._open = True
        self._seen_us = 0

    def time_s(self) -> float:
        """The clock that was given, in seconds."""
        return self._time_s()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._sleep(seconds)

    @translated
    def energy_j(self) -> float:
        """Joules since the driver was loaded, of the whole board."""
        self._refuse_partitions("energy counter")
        energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        if energy_mj == 0:
            raise UnavailableError("NVML: the energy counter reads 0, so it does not count")
        return float(energy_mj) / 1000

    @translated
    def power_w(self, kind: str) -> float:
        """Watts of the whole board: "instant", or "average" over the last second."""
        self._refuse_partitions("power sensor")
        if kind == AVERAGE:
            return float(pynvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000
        value = pynvml.nvmlDeviceGetFieldValues(self._handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
        if (
            value.nvmlReturn != pynvml.NVML_SUCCESS
        ):  # pynvml raises nothing for a field, and its value is rubbish
            raise pynvml.NVMLError(value.nvmlReturn)
        return float(value.value.uiVal) / 1000

    def max_power_w(self) -> float | None:
        """The board's power limit in force."""
        limit_mw = _told(pynvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        return limit_mw / 1000 if limit_mw else None

    def partitioned(self) -> bool:
        """Whether the GPU is split by MIG: then its sensors cover all partitions."""
        modes = _told(pynvml.nvmlDeviceGetMigMode, self._handle)
        return bool(modes and modes[0])

    def device_state(self) -> DeviceState:
        """Clocks, temperature, slowdowns and other processes now; what the device does not offer is
        None.
        """
        told = self._clock_reasons()
        reasons = told or 0
        programs = self._programs()
        own = os.getpid()
        return DeviceState(
            time_s=self.time_s(),
            sm_clock_mhz=_told(pynvml.nvmlDeviceGetClockInfo, self._handle, pynvml.NVML_CLOCK_SM),
            memory_clock_mhz=_told(
                pynvml.nvmlDeviceGetClockInfo, self._handle, pynvml.NVML_CLOCK_MEM
            ),
            temperature_c=_told(
                pynvml.nvmlDeviceGetTemperature, self._handle, pynvml.NVML_TEMPERATURE_GPU
            ),
            power_w=self._instant_w(),
            slowed=None
            if told is None
            else tuple(name for bit, name in SLOWDOWNS.items() if told & bit),
            power_capped=bool(reasons & POWER_CAP),
            idle=bool(reasons & IDLE),
            programs=None if programs is None else programs - {own},
            busy=self._busy(own) if programs and own in programs else None,
        )

    def busy_percent(self) -> int | None:
        """How busy the GPU was over the driver's last sampling period, whoever it worked for."""
        rates = _told(pynvml.nvmlDeviceGetUtilizationRates, self._handle)
        return None if rates is None else int(rates.gpu)

    def _instant_w(self) -> float | None:
        try:
            return self.power_w(INSTANT)
        except UnavailableError:
            return None

    def _clock_reasons(self) -> int | None:
        found = _told(pynvml.nvmlDeviceGetCurrentClocksEventReasons, self._handle)
        return (
            found
            if found is not None
            else _told(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, self._handle)
        )

    def _programs(self) -> frozenset[int] | None:
        """The processes with a context on the GPU, by the host's numbers, in a container too."""
        found = _told(pynvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        return None if found is None else frozenset(process.pid for process in found)

    def _busy(self, own: int) -> dict[int, int] | None:
        """Percent of the GPU that each other process used since the last call."""
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(self._handle, self._seen_us)
        except pynvml.NVMLError as error:
            return {} if error.value == pynvml.NVML_ERROR_NOT_FOUND else None  # nobody worked
        new = [sample for sample in samples if sample.timeStamp > self._seen_us]
        self._seen_us = max((sample.timeStamp for sample in new), default=self._seen_us)
        return {
            sample.pid: int(sample.smUtil) for sample in new if sample.smUtil and sample.pid != own
        }

    def _refuse_partitions(self, sensor: str) -> None:
        if self.partitioned():
            raise UnavailableError(
                f"this GPU is partitioned (MIG): its {sensor} covers all partitions"
            )

    @translated
    def close(self) -> None:
        """Give the driver's handle back."""
        if self._open:
            self._open = False
            pynvml.nvmlShutdown()


@translated
def gpu_uuids() -> list[str]:
    """All GPUs that the driver knows, in NVML's order. Raises `UnavailableError` where it cannot be
    asked.
    """
    pynvml.nvmlInit()
    try:
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()
