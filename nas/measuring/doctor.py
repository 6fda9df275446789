"""What this machine can measure, and why not the rest. Asks and reads; changes nothing."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from nas.core.errors import NasError, UnavailableError
from nas.measuring.meters import Meter, find_meter, host
from nas.measuring.meters.energy import POLL_S, find_steps
from nas.measuring.meters.lock import DeviceLock, lock_folder
from nas.measuring.meters.nvml import NvmlDevice, gpu_uuids
from nas.measuring.meters.watch import DeviceState


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Whether something can be had here, and what was found or why not."""

    what: str
    available: bool
    detail: str


def findings() -> Iterator[Finding]:
    """One by one: host, lock, processor, GPUs, runtimes."""
    yield _host()
    yield _load()
    yield _lock()
    with find_meter("cpu") as meter:
        yield from _meter("CPU", meter)
    yield from _gpus()
    yield from _runtimes()


def _host() -> Finding:
    cores, hypervisor = host.affinity(), host.hypervisor()
    inside = (
        f"virtual machine ({hypervisor}): clocks and neighbours of the host are out of sight"
        if hypervisor
        else "bare metal"
    )
    return Finding(
        what="host",
        available=True,
        detail=f"{host.cpu_name()}, {len(cores)} of {os.cpu_count()} cores, {inside}",
    )


def _load() -> Finding:
    load = os.getloadavg()[0]
    quiet = load < max(len(host.affinity()) / 2, 0.5)
    return Finding(
        what="quiet",
        available=quiet,
        detail=f"load average {load:.2f} over the last minute"
        + ("" if quiet else "; others are busy here, figures will be noisy or contended"),
    )


def _lock() -> Finding:
    try:
        with DeviceLock("doctor").training():
            return Finding(
                what="device lock", available=True, detail=f"{lock_folder()} can be used"
            )
    except NasError as error:
        return Finding(what="device lock", available=False, detail=str(error))


def _meter(name: str, meter: Meter) -> Iterator[Finding]:
    yield Finding(
        what=f"{name} latency", available=True, detail=f"{meter.device.name}, {meter.clock}"
    )
    load = meter.host_load()
    yield Finding(
        what=f"{name} neighbours",
        available=load is not None,
        detail="waiting for cores and other processes' time are seen"
        if load is not None
        else "this system does not tell how busy others are; contention goes unnoticed",
    )
    reason = meter.energy_unavailable_reason()
    yield Finding(
        what=f"{name} energy", available=reason is None, detail=reason or _best_sensor(meter)
    )
    yield Finding(what=f"{name} peak memory", available=True, detail=meter.memory_method)


def _best_sensor(meter: Meter) -> str:
    """What joules would come from; the first load may find it wanting."""
    try:
        meter.energy_j()
    except UnavailableError as error:
        return f"by power sensors, since there is no counter: {error}"
    return meter.energy_method


def _gpus() -> Iterator[Finding]:
    try:
        uuids = gpu_uuids()
        yield Finding(
            what="NVML", available=bool(uuids), detail=f"GPUs: {', '.join(uuids) or 'none'}"
        )
        for number, uuid in enumerate(uuids):
            with contextlib.closing(NvmlDevice(uuid)) as board:
                yield from board_findings(f"GPU {number}", board)
    except NasError as error:
        yield Finding(what="NVML", available=False, detail=str(error))
    try:
        with find_meter("cuda") as meter:
            yield Finding(what="GPU class", available=True, detail=meter.device.device_class)
            yield from _meter("GPU", meter)
    except NasError as error:
        yield Finding(what="GPU", available=False, detail=str(error))


def board_findings(name: str, board: NvmlDevice) -> Iterator[Finding]:
    """What the driver tells of one GPU; the counter's rhythm takes a second to find."""
    partitioned = board.partitioned()
    yield Finding(
        what=f"{name} whole",
        available=not partitioned,
        detail="split by MIG: its sensors cover all "
        "partitions, so there are no joules; the administrator can turn MIG off"
        if partitioned
        else "not split by MIG",
    )
    yield _counter(name, board)
    for kind in board.power_kinds:
        yield _power(name, board, kind)
    state = board.device_state()
    yield _slowdown(name, state)
    yield _others(name, board, state)


def _counter(name: str, board: NvmlDevice) -> Finding:
    what = f"{name} energy counter"
    try:
        steps = find_steps(board, lambda: board.sleep(POLL_S))
    except UnavailableError as error:
        return Finding(what=what, available=False, detail=str(error))
    return Finding(
        what=what,
        available=True,
        detail=f"steps each {steps.period_s * 1e3:.1f} ms, give or take "
        f"{steps.spread:.0%} (seen idle, in readings each {steps.poll_s * 1e3:.1f} ms)",
    )


def _power(name: str, board: NvmlDevice, kind: str) -> Finding:
    try:
        now, limit_w = f"{board.power_w(kind):.0f} W now", board.max_power_w()
    except UnavailableError as error:
        return Finding(what=f"{name} {kind} power", available=False, detail=str(error))
    return Finding(
        what=f"{name} {kind} power",
        available=True,
        detail=f"{now}, at most {limit_w:.0f} W" if limit_w else f"{now}, the limit is not told",
    )


def _slowdown(name: str, state: DeviceState) -> Finding:
    what = f"{name} full speed"
    if state.slowed is None:
        return Finding(
            what=what,
            available=False,
            detail="the driver does not tell whether the GPU slows itself down; "
            "throttling goes unnoticed but for its clock",
        )
    return Finding(
        what=what,
        available=not state.slowed,
        detail=f"{', '.join(state.slowed) or 'no slowdown'} now, "
        f"{state.sm_clock_mhz} MHz, {state.temperature_c} °C{', at its power limit' * state.power_capped}",
    )


def _others(name: str, board: NvmlDevice, state: DeviceState) -> Finding:
    """This program has no context on the GPU yet, so all processes there are others."""
    what, busy = f"{name} to itself", board.busy_percent()
    load = "how busy it is is not told" if busy is None else f"{busy} % busy"
    if state.programs is None:
        return Finding(what=what, available=not busy, detail=f"the driver hides processes; {load}")
    there = ", ".join(
        f"{program} ({host.program_name(program) or 'of another container or user'})"
        for program in sorted(state.programs)
    )
    return Finding(
        what=what,
        available=not (there or busy),
        detail=f"other processes: {there or 'none'}; {load}",
    )


def _runtimes() -> Iterator[Finding]:
    yield Finding(what="runtime eager", available=True, detail="PyTorch")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    yield Finding(
        what="runtime compile",
        available=compiler is not None,
        detail=compiler or "torch.compile on a CPU needs a C++ compiler: install g++",
    )
    packages = [
        name
        for name in ("onnx", "onnxscript", "onnxruntime")
        if importlib.util.find_spec(name) is None
    ]
    yield Finding(
        what="runtime onnxruntime",
        available=not packages,
        detail=f"not installed: {', '.join(packages)}; pip install 'osa-nas[export]'"
        if packages
        else "CPU" + (", CUDA" if _onnx_cuda() else ""),
    )


def _onnx_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
