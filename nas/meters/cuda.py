"""One NVIDIA GPU: host clock around synchronised work, NVML's energy counter, torch's caching allocator.

The device is known by its UUID. Other processes on the GPU are not looked for in this version; waiting on the host is.
"""

import time
from collections.abc import Callable

import torch

from nas.errors import UnavailableError
from nas.measurement import Device
from nas.meters import ClosingMeter, HostLoad, host
from nas.meters.nvml import NvmlDevice


class CudaMeter(ClosingMeter):
    """The meter of CUDA device `index`, torch's current one where it is not given.

    Raises `UnavailableError` without a CUDA device. Without NVML everything but energy works.
    """

    clock = "perf_counter around torch.cuda.synchronize"
    energy_method = "nvml counter, board"
    memory_method = "torch.cuda.max_memory_allocated"

    def __init__(self, index: int | None = None) -> None:
        if not torch.cuda.is_available():
            raise UnavailableError("no CUDA device: torch.cuda.is_available() is False")
        self._index = torch.cuda.current_device() if index is None else index
        self.torch_device = f"cuda:{self._index}"
        uuid = f"GPU-{torch.cuda.get_device_properties(self._index).uuid}"
        self._nvml: NvmlDevice | UnavailableError = _nvml(uuid)
        self.device = _device(self._index, uuid, self._nvml)

    def synchronize(self) -> None:
        """Wait for all streams of the device."""
        torch.cuda.synchronize(self._index)

    def time_s(self) -> float:
        """Seconds of the host's monotonic clock."""
        return time.perf_counter()

    def energy_j(self) -> float:
        """Joules of the board since the driver was loaded. Raises `UnavailableError` with the reason."""
        if isinstance(self._nvml, UnavailableError):
            raise UnavailableError(str(self._nvml))
        return self._nvml.energy_j()

    def host_load(self) -> HostLoad | None:
        """What else runs on the host's cores: small networks are bound by the host that launches them."""
        return host.host_load()

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """The most bytes that the caching allocator handed out at once during `run`, beyond those before it."""
        self.synchronize()
        before = torch.cuda.memory_allocated(self._index)
        torch.cuda.reset_peak_memory_stats(self._index)
        result = run()
        self.synchronize()
        del result
        return torch.cuda.max_memory_allocated(self._index) - before

    def close(self) -> None:
        """Give NVML's handle back."""
        if isinstance(self._nvml, NvmlDevice):
            self._nvml.close()
            self._nvml = UnavailableError("the meter is closed")


def _nvml(uuid: str) -> NvmlDevice | UnavailableError:
    try:
        return NvmlDevice(uuid)
    except UnavailableError as error:
        return error


def _device(index: int, uuid: str, nvml: NvmlDevice | UnavailableError) -> Device:
    found = torch.cuda.get_device_properties(index)
    driver = nvml.driver if isinstance(nvml, NvmlDevice) else "unknown"
    name, memory_gib = found.name, round(found.total_memory / 2**30)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    parts = (name, f"{memory_gib} GiB", f"driver {driver}", f"CUDA {torch.version.cuda}", f"cuDNN {cudnn}",
             f"torch {torch.__version__}")
    return Device(kind="cuda", name=name, identity=uuid, device_class=", ".join(parts),
                  details={"index": index, "host": host.cpu_name(), **host.details()})
