"""Sensors of the NVIDIA driver, read through `nvidia-ml-py` (module `pynvml`). This is the only
module that imports it.

One decorator translates the driver's errors, each to its own reason; no fault ever reads as 0 J or
0 W. A device is found by UUID, because NVML's order is not CUDA's. This module only reads: clocks,
limits and modes are never set.
"""

import functools
import os
import time
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from typing import Any, ParamSpec, Protocol, TypeVar

import pynvml

from nas.core.errors import UnavailableError
from nas.measuring.meters.energy import AVERAGE, INSTANT
from nas.measuring.meters.watch import DeviceState

P = ParamSpec("P")
T = TypeVar("T")

ERROR_REASONS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "the NVIDIA driver's library libnvidia-ml.so.1 is not "
    "installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_NOT_SUPPORTED: "this GPU or its virtualisation does not offer it (an energy "
    "counter needs Volta or newer)",
    pynvml.NVML_ERROR_NO_PERMISSION: "permission denied by the NVIDIA driver",
    pynvml.NVML_ERROR_NOT_FOUND: "the NVIDIA driver has no such GPU",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the NVIDIA driver is too old: its library lacks this "
    "function",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU has fallen off the bus",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver and its library have different "
    "versions; restart",
}
"""The reason for each of the driver's error codes."""

SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons under which a figure does not show the device's own pace."""

IDLE, POWER_CAP = 0x01, 0x04
"""Bits of NVML's clock event reasons that are only noted."""

MAX_PERCENT = 100
"""Largest utilisation that is possible."""


def _reason(error: Exception) -> str:
    if isinstance(error, pynvml.NVMLError):
        return str(ERROR_REASONS.get(error.value, str(error)))
    return "the NVIDIA driver is too old for nvidia-ml-py"


def translate_nvml_errors(function: Callable[P, T]) -> Callable[P, T]:
    """Turn NVML's errors in the function into `UnavailableError`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (
            pynvml.NVMLError,
            pynvml.NVMLLibraryMismatchError,  # not derived from NVMLError
        ) as error:
            raise UnavailableError(f"NVML: {_reason(error)}") from error

    return call


def _optional(read: Callable[..., T], *args: Any) -> T | None:
    """Return a reading that some devices do not offer, None if this one does not."""
    try:
        return read(*args)
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
        return None


class UtilisationSample(Protocol):
    """The driver's sample of what one process used of the GPU, in percent."""

    pid: int
    timeStamp: int  # noqa: N815 - NVML's names
    smUtil: int  # noqa: N815
    memUtil: int  # noqa: N815
    encUtil: int  # noqa: N815
    decUtil: int  # noqa: N815


def process_shares(
    samples: Iterable[UtilisationSample], running: Collection[int], own: int
) -> dict[int, int] | None:
    """Return the percent of the GPU that each running process but `own` used; None if that of one
    is impossible.

    The driver is known to return stale processes and shares like 2147483632 % (nvtop issue 110,
    DCGM issue 83). Samples of processes that do not run are left out, as nvtop does. An impossible
    share of a running one means that the driver does not know what it uses.
    """
    shares: dict[int, int] = {}
    for sample in samples:
        if sample.pid == own or sample.pid not in running:
            continue
        if not _is_possible(sample):
            return None
        if sample.smUtil:
            shares[sample.pid] = max(shares.get(sample.pid, 0), int(sample.smUtil))
    return shares


def _is_possible(sample: UtilisationSample) -> bool:
    return max(sample.smUtil, sample.memUtil, sample.encUtil, sample.decUtil) <= MAX_PERCENT


class NvmlDevice:
    """One GPU by its UUID ("GPU-…"): a sensor of energy, and the state that a watch looks at.

    The UUID of a MIG partition, also with the prefix "GPU-", gives the whole GPU, whose sensors
    cover all partitions. `time_s` and `sleep` are the clock. Raises `UnavailableError` with the
    reason if the driver cannot be queried.
    """

    energy_method = "nvml counter, board"
    power_kinds: tuple[str, ...] = (INSTANT, AVERAGE)

    @translate_nvml_errors
    def __init__(
        self,
        uuid: str,
        time_s: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._time_s, self._sleep = time_s, sleep
        pynvml.nvmlInit()
        try:
            self._handle: Any = _handle_of(uuid)
            self.uuid = str(pynvml.nvmlDeviceGetUUID(self._handle))
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        except BaseException:
            pynvml.nvmlShutdown()
            raise
        self._open = True
        self._seen_us = 0
        self._last_programs: frozenset[int] = frozenset()

    def time_s(self) -> float:
        """Return the time of the given clock in seconds."""
        return self._time_s()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._sleep(seconds)

    @translate_nvml_errors
    def energy_j(self) -> float:
        """Return joules of the whole board since the driver was loaded."""
        self._refuse_partitions("energy counter")
        energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        if energy_mj == 0:
            raise UnavailableError("NVML: the energy counter reads 0, so it does not count")
        return float(energy_mj) / 1000

    @translate_nvml_errors
    def power_w(self, kind: str) -> float:
        """Return watts of the whole board: "instant", or "average" over the last second."""
        self._refuse_partitions("power sensor")
        if kind == AVERAGE:
            return float(pynvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000
        value = pynvml.nvmlDeviceGetFieldValues(self._handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
        # pynvml raises nothing for a field's own error, and the value is then meaningless
        if value.nvmlReturn != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(value.nvmlReturn)
        return float(value.value.uiVal) / 1000

    def max_power_w(self) -> float | None:
        """Return the board's enforced power limit in watts."""
        limit_mw = _optional(pynvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        return limit_mw / 1000 if limit_mw else None

    @cached_property
    def partitioned(self) -> bool:
        """True if the GPU is split by MIG. Its sensors then cover all partitions.

        It is read once, since the mode cannot change while a program uses the GPU.
        """
        modes = _optional(pynvml.nvmlDeviceGetMigMode, self._handle)
        return bool(modes and modes[0])

    def device_state(self) -> DeviceState:
        """Return the present clocks, temperature, slowdowns and other processes.

        Values that the device does not offer are None.
        """
        reasons = self._clock_reasons()
        bits = reasons or 0
        slowdowns = tuple(name for bit, name in SLOWDOWNS.items() if bits & bit)
        programs = self._programs()
        own = os.getpid()
        return DeviceState(
            time_s=self.time_s(),
            sm_clock_mhz=self._clock_mhz(pynvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._clock_mhz(pynvml.NVML_CLOCK_MEM),
            temperature_c=_optional(
                pynvml.nvmlDeviceGetTemperature, self._handle, pynvml.NVML_TEMPERATURE_GPU
            ),
            power_w=self._instant_w(),
            slowed=None if reasons is None else slowdowns,
            power_capped=bool(bits & POWER_CAP),
            idle=bool(bits & IDLE),
            programs=None if programs is None else programs - {own},
            busy=self._busy(programs, own) if programs and own in programs else None,
        )

    def busy_percent(self) -> int | None:
        """Return how busy the GPU was over the driver's last sampling period, for any process."""
        rates = _optional(pynvml.nvmlDeviceGetUtilizationRates, self._handle)
        return int(rates.gpu) if rates is not None and rates.gpu <= MAX_PERCENT else None

    def _clock_mhz(self, kind: int) -> int | None:
        clock_mhz: int | None = _optional(pynvml.nvmlDeviceGetClockInfo, self._handle, kind)
        return clock_mhz

    def _instant_w(self) -> float | None:
        try:
            return self.power_w(INSTANT)
        except UnavailableError:
            return None

    def _clock_reasons(self) -> int | None:
        """Return the clock event reasons, by the present name of the function or by its old one."""
        reasons: int | None = _optional(pynvml.nvmlDeviceGetCurrentClocksEventReasons, self._handle)
        if reasons is None:
            reasons = _optional(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, self._handle)
        return reasons

    def _programs(self) -> frozenset[int] | None:
        """Return the processes with a context on the GPU, by the host's numbers, in a container
        too.
        """
        processes = _optional(pynvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        return None if processes is None else frozenset(process.pid for process in processes)

    def _graphics_programs(self) -> frozenset[int]:
        """Return the processes that draw with the GPU, which are not among `_programs`."""
        processes = _optional(pynvml.nvmlDeviceGetGraphicsRunningProcesses, self._handle)
        return frozenset(process.pid for process in processes or ())

    def _busy(self, programs: frozenset[int], own: int) -> dict[int, int] | None:
        """Return the percent of the GPU that each other process used since the last call; None if
        the driver does not know it. `programs` are the processes with a context.
        """
        running = programs | self._last_programs  # one may have worked and ended since then
        self._last_programs = programs
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(self._handle, self._seen_us)
        except pynvml.NVMLError as error:
            # NOT_FOUND means that no process has worked
            return {} if error.value == pynvml.NVML_ERROR_NOT_FOUND else None
        new = [sample for sample in samples if sample.timeStamp > self._seen_us]
        if any(sample.pid not in running for sample in new):
            running |= self._graphics_programs()
        credible = [sample for sample in new if sample.pid in running and _is_possible(sample)]
        self._seen_us = max((sample.timeStamp for sample in credible), default=self._seen_us)
        return process_shares(new, running, own)

    def _refuse_partitions(self, sensor: str) -> None:
        if self.partitioned:
            raise UnavailableError(
                f"this GPU is partitioned (MIG): its {sensor} covers all partitions"
            )

    @translate_nvml_errors
    def close(self) -> None:
        """Release the driver's handle."""
        if self._open:
            self._open = False
            pynvml.nvmlShutdown()


def _handle_of(uuid: str) -> Any:
    """Return the handle of the GPU with this UUID, or of the GPU whose MIG partition has it."""
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_NOT_FOUND:
            raise
    partition = pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid.partition('-')[2]}")
    return pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(partition)


@translate_nvml_errors
def gpu_uuids() -> list[str]:
    """Return the UUIDs of all GPUs of the driver, in NVML's order.

    Raises `UnavailableError` if the driver cannot be queried.
    """
    pynvml.nvmlInit()
    try:
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()
