"""The processor of this machine: host clock, RAPL energy if readable, bytes of live tensors."""

import os
from collections.abc import Callable
from pathlib import Path

import torch

from nas.agent import host
from nas.agent.errors import SensorError
from nas.agent.host import HostLoad
from nas.agent.rapl import POWERCAP, Rapl
from nas.core.errors import UnavailableError
from nas.core.measurement import Device, minor_version
from nas.measuring.meters import Meter
from nas.measuring.meters.live_tensors import peak_live_bytes


class CpuMeter(Meter):
    """The meter of the processor. `powercap` is the folder of the RAPL counters.

    The device class is processor model, cores and torch version; the number of threads is part of
    the plan.
    """

    torch_device = "cpu"
    clock = "perf_counter"
    energy_method = "rapl packages and dram"
    memory_method = "live tensors, without scratch memory of kernels"

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.device = _device()
        self._rapl = Rapl(powercap, host.hypervisor())

    def energy_j(self) -> float:
        """Return joules since the first reading. Raises `UnavailableError` with the reason."""
        try:
            return self._rapl.energy_j()
        except SensorError as error:
            raise UnavailableError(str(error)) from error

    def host_load(self) -> HostLoad | None:
        """Return what else runs on these cores."""
        return host.host_load()

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Return the most bytes of tensors made by `run` that are alive at once."""
        return peak_live_bytes(run)


def _device() -> Device:
    identity, source = host.machine_identity()
    name, cores = host.cpu_name(), os.cpu_count()
    return Device(
        kind="cpu",
        name=name,
        identity=f"cpu-{identity}",
        device_class=f"{name}, {cores} cores, torch {minor_version(torch.__version__)}",
        details={
            "identity_source": source,
            "cores": cores,
            "torch": torch.__version__,
            **host.details(),
        },
    )
