"""The NVIDIA driver's own counters, through `nvidia-ml-py` (module `pynvml`); the only place that imports it.

Vendor errors are translated once, by one decorator, each to its own reason; no fault ever reads as 0 J. A device is
found by UUID, because NVML's order is not CUDA's.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pynvml

from nas.errors import UnavailableError

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


def translated(function: Callable[P, T]) -> Callable[P, T]:
    """The function with NVML's errors turned into `UnavailableError`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except pynvml.NVMLError as error:
            raise UnavailableError(f"NVML: {REASONS.get(error.value, str(error))}") from error
        except pynvml.NVMLLibraryMismatchError as error:  # not an NVMLError
            raise UnavailableError("NVML: the NVIDIA driver is too old for nvidia-ml-py") from error

    return call


class NvmlDevice:
    """One GPU by its UUID ("GPU-…"). Raises `UnavailableError` with the reason where the driver cannot be asked."""

    @translated
    def __init__(self, uuid: str) -> None:
        pynvml.nvmlInit()
        try:
            self._handle: Any = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        except BaseException:
            pynvml.nvmlShutdown()
            raise
        self._open = True

    @translated
    def energy_j(self) -> float:
        """Joules since the driver was loaded, of the whole board."""
        if self._is_partitioned():
            raise UnavailableError("this GPU is partitioned (MIG): its energy counter covers all partitions")
        energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        if energy_mj == 0:
            raise UnavailableError("NVML: the energy counter reads 0, so it does not count")
        return float(energy_mj) / 1000

    def _is_partitioned(self) -> bool:
        with contextlib.suppress(pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
            return bool(pynvml.nvmlDeviceGetMigMode(self._handle)[0])
        return False

    @translated
    def close(self) -> None:
        """Give the driver's handle back."""
        if self._open:
            self._open = False
            pynvml.nvmlShutdown()


@translated
def gpu_uuids() -> list[str]:
    """All GPUs that the driver knows, in NVML's order. Raises `UnavailableError` where it cannot be asked."""
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()
