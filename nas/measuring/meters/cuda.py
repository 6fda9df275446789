"""One NVIDIA GPU: host clock around synchronised work, NVML's energy counter, torch's caching
allocator.

The device is identified by its UUID, a MIG partition by that of its GPU, since partitions share
power and clocks. Without NVML everything works except energy, slowdowns and other processes, and
the device class shows it.
"""

from collections.abc import Callable

import torch

from nas.agent import host
from nas.agent.host import HostLoad
from nas.core.errors import UnavailableError
from nas.core.measurement import Device, minor_version
from nas.measuring.meters import Meter
from nas.measuring.meters.nvml import NvmlDevice
from nas.measuring.meters.watch import DeviceState


class CudaMeter(Meter):
    """The meter of CUDA device `index`, by default torch's current one.

    The device class has the driver's branch; its patch level differs between machines of one kind
    and is in the details. Raises `UnavailableError` without a CUDA device.
    """

    clock = "perf_counter around torch.cuda.synchronize"
    energy_method = NvmlDevice.energy_method
    power_kinds = NvmlDevice.power_kinds
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

    def vacate(self) -> None:
        """Wait for all streams, and return what the caching allocator holds without using it."""
        self.synchronize()
        torch.cuda.empty_cache()

    def energy_j(self) -> float:
        """Return joules of the board since the driver was loaded.

        Raises `UnavailableError` with the reason.
        """
        return self._driver().energy_j()

    def power_w(self, kind: str) -> float:
        """Return watts of the board: "instant", or "average" over a second.

        Raises `UnavailableError` with the reason.
        """
        return self._driver().power_w(kind)

    def max_power_w(self) -> float | None:
        """Return the board's enforced power limit in watts."""
        return self._nvml.max_power_w() if isinstance(self._nvml, NvmlDevice) else None

    def device_state(self) -> DeviceState | None:
        """Return what the driver reports of clocks, slowdowns and other processes."""
        return self._nvml.device_state() if isinstance(self._nvml, NvmlDevice) else None

    def busy_percent(self) -> int | None:
        """Return how busy the GPU was over the driver's last sampling period."""
        return self._nvml.busy_percent() if isinstance(self._nvml, NvmlDevice) else None

    def host_load(self) -> HostLoad | None:
        """Return what else runs on the host's cores, which limit small networks because they launch
        the GPU's work.
        """
        return host.host_load()

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Return the most bytes that the caching allocator has handed out at once during `run`,
        beyond those before it.
        """
        self.synchronize()
        before = torch.cuda.memory_allocated(self._index)
        torch.cuda.reset_peak_memory_stats(self._index)
        result = run()
        self.synchronize()
        del result
        return torch.cuda.max_memory_allocated(self._index) - before

    def _driver(self) -> NvmlDevice:
        if isinstance(self._nvml, UnavailableError):
            raise UnavailableError(str(self._nvml))
        return self._nvml

    def close(self) -> None:
        """Release NVML's handle."""
        if isinstance(self._nvml, NvmlDevice):
            self._nvml.close()
            self._nvml = UnavailableError("the meter is closed")


def _nvml(uuid: str) -> NvmlDevice | UnavailableError:
    try:
        return NvmlDevice(uuid)
    except UnavailableError as error:
        return error


def driver_branch(version: str) -> str:
    """Return the branch of a driver's version: "580" of "580.159.03"."""
    return version.partition(".")[0]


def _device(index: int, uuid: str, nvml: NvmlDevice | UnavailableError) -> Device:
    properties = torch.cuda.get_device_properties(index)
    driver, limit_w = "unknown", None
    if isinstance(nvml, NvmlDevice):
        uuid, driver, limit_w = nvml.uuid, nvml.driver, nvml.max_power_w()
    name, memory_gib = properties.name, round(properties.total_memory / 2**30)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    limit = f"{limit_w:.0f} W" if limit_w else "unknown power limit"
    parts = (
        name,
        f"{memory_gib} GiB",
        limit,
        f"driver {driver_branch(driver)}",
        f"CUDA {torch.version.cuda}",
        f"cuDNN {cudnn}",
        f"torch {minor_version(torch.__version__)}",
    )
    return Device(
        kind="cuda",
        name=name,
        identity=uuid,
        device_class=", ".join(parts),
        details={
            "index": index,
            "driver": driver,
            "torch": torch.__version__,
            "host": host.cpu_name(),
            **host.details(),
        },
    )
