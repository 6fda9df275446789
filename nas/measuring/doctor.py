"""Find out what this machine can measure, and why not the rest. Nothing is changed."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nas.agent import host
from nas.agent.lock import lock_folder
from nas.core import plugins
from nas.core.errors import NasError, UnavailableError
from nas.core.measurement import MeasurementPlan
from nas.measuring.devices import book
from nas.measuring.devices.meter import RemoteMeter
from nas.measuring.meters import Meter, find_meter
from nas.measuring.meters.energy import POLL_S, find_steps
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.meters.nvml import NvmlDevice, gpu_uuids
from nas.measuring.meters.watch import DeviceState
from nas.measuring.methods import plan_problem, prepare
from nas.measuring.runtimes import OnnxFile, find_runtime, one_line
from nas.model.onnx_file import OPSET

IR_VERSION = 10
"""The version of ONNX's files to which these operators belong."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A part that is available here, with its details, or the reason why it is not."""

    what: str
    available: bool
    detail: str


def findings() -> Iterator[Finding]:
    """Yield the findings one by one: host, lock, processor, GPUs, runtimes."""
    yield _host()
    yield _load()
    yield _lock()
    with find_meter("cpu") as meter:
        yield from _meter("CPU", meter)
    yield from _gpus()
    with find_meter() as meter:
        yield from runtime_findings(meter)


def remote_findings(name: str) -> Iterator[Finding]:
    """Yield what the device of this name in the device book can measure.

    Raises `UnknownNameError` and `DeviceLostError`.
    """
    book.find_entry(name)
    with RemoteMeter(name) as meter:
        facts = meter.facts
        hypervisor = facts["hypervisor"]
        inside = f", virtual machine ({hypervisor})" if hypervisor else ""
        yield Finding(
            what="host",
            available=True,
            detail=f"{facts['name']}, {facts['usable_cores']} of {facts['cores']} cores, "
            f"{facts['machine']}, Linux {facts['kernel']}, governor {facts['governor']}{inside}",
        )
        yield Finding(
            what="runtime",
            available=True,
            detail=f"ONNX Runtime {facts['onnxruntime']}, Python {facts['python']}, up to opset "
            f"{facts['opset']} and IR {facts['ir']}; networks run on {meter.provider}, of "
            f"{', '.join(facts['providers'])}",
        )
        yield Finding(
            what="neighbours",
            available=facts["neighbours"],
            detail="waiting for cores and other processes' time are visible"
            if facts["neighbours"]
            else "the system does not report how busy other processes are",
        )
        reason = meter.energy_unavailable_reason()
        energy = facts["energy"]
        sources = [energy[key] for key in ("counter", "power") if key in energy]
        yield Finding(what="energy", available=reason is None, detail=reason or ", ".join(sources))
        state = facts["state"]
        slowed = None if state is None else state["slowed"]
        yield Finding(
            what="full speed",
            available=slowed == [],
            detail="the device does not report whether it slows itself down"
            if slowed is None
            else ", ".join(slowed) or f"no slowdown now, {state['temperature_c']} °C",
        )
        if facts.get("busy"):
            yield Finding(what="device lock", available=False, detail=facts["busy"])
            return
        with meter.exclusive():
            yield Finding(what="device lock", available=True, detail="the device is free")


def _host() -> Finding:
    cores, hypervisor = host.affinity(), host.hypervisor()
    inside = "bare metal"
    if hypervisor:
        inside = (
            f"virtual machine ({hypervisor}): clocks and neighbours of the host are not visible"
        )
    return Finding(
        what="host",
        available=True,
        detail=f"{host.cpu_name()}, {len(cores)} of {os.cpu_count()} cores, {inside}",
    )


def _load() -> Finding:
    load = os.getloadavg()[0]
    quiet = load < max(len(host.affinity()) / 2, 0.5)
    warning = "" if quiet else "; other processes are busy, figures will be noisy or contended"
    return Finding(
        what="quiet",
        available=quiet,
        detail=f"load average {load:.2f} over the last minute{warning}",
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
        detail="waiting for cores and other processes' time are visible"
        if load is not None
        else "this system does not report how busy other processes are; contention is not noticed",
    )
    reason = meter.energy_unavailable_reason()
    yield Finding(
        what=f"{name} energy", available=reason is None, detail=reason or _best_sensor(meter)
    )
    yield Finding(what=f"{name} peak memory", available=True, detail=meter.memory_method)


def _best_sensor(meter: Meter) -> str:
    """Return the best method of energy. The first load may still show that it cannot be trusted."""
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
    """Yield what the driver reports of one GPU. The counter's rhythm takes a second to find."""
    partitioned = board.partitioned
    yield Finding(
        what=f"{name} whole",
        available=not partitioned,
        detail="split by MIG: its sensors cover all partitions, so energy cannot be measured; the "
        "administrator can turn MIG off"
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
        detail=f"steps every {steps.period_s * 1e3:.1f} ms, up to {steps.spread:.0%} off "
        f"(seen idle, in readings every {steps.poll_s * 1e3:.1f} ms)",
    )


def _power(name: str, board: NvmlDevice, kind: str) -> Finding:
    try:
        now, limit_w = f"{board.power_w(kind):.0f} W now", board.max_power_w()
    except UnavailableError as error:
        return Finding(what=f"{name} {kind} power", available=False, detail=str(error))
    limit = f"at most {limit_w:.0f} W" if limit_w else "limit not reported"
    return Finding(what=f"{name} {kind} power", available=True, detail=f"{now}, {limit}")


def _slowdown(name: str, state: DeviceState) -> Finding:
    what = f"{name} full speed"
    if state.slowed is None:
        return Finding(
            what=what,
            available=False,
            detail="the driver does not report whether the GPU slows itself down; "
            "throttling is noticed only by its clock",
        )
    slowdowns = ", ".join(state.slowed) or "no slowdown"
    limit = ", at its power limit" if state.power_capped else ""
    return Finding(
        what=what,
        available=not state.slowed,
        detail=f"{slowdowns} now, {state.sm_clock_mhz} MHz, {state.temperature_c} °C{limit}",
    )


def _others(name: str, board: NvmlDevice, state: DeviceState) -> Finding:
    """Report the processes on the GPU. This program has no context there yet, so all of them are
    others.
    """
    what, busy = f"{name} to itself", board.busy_percent()
    load = "utilisation not reported" if busy is None else f"{busy} % busy"
    if state.programs is None:
        return Finding(what=what, available=not busy, detail=f"the driver hides processes; {load}")
    programs = ", ".join(
        f"{program} ({host.program_name(program) or 'of another container or user'})"
        for program in sorted(state.programs)
    )
    return Finding(
        what=what,
        available=not (programs or busy),
        detail=f"other processes: {programs or 'none'}; {load}",
    )


def runtime_findings(meter: Meter) -> Iterator[Finding]:
    """Yield for each registered runtime whether it runs a small network on this device."""
    for name in plugins.names("nas.runtimes"):
        what = f"runtime {name}"
        try:
            yield Finding(what=what, available=True, detail=_tried(name, meter))
        except Exception as error:  # noqa: BLE001 - runtimes come from others and may raise anything
            yield Finding(what=what, available=False, detail=one_line(error))


def _tried(name: str, meter: Meter) -> str:
    """Run a small network, and return what executed it."""
    plan = MeasurementPlan(runtime=name, image_size=8)
    if problem := plan_problem(meter, plan):
        raise UnavailableError(problem)
    runtime = find_runtime(name)
    network = _small_file() if runtime.reads_onnx else nn.Conv2d(3, 4, 3).eval()
    with prepare(network, plan, meter) as run:
        return f"{runtime.package} {runtime.version} ran a network in {run.loaded.precision}"


def _small_file() -> OnnxFile:
    """Return a network as an ONNX file, without torch's exporter, which takes seconds to start."""
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3, 8, 8])
    nodes = [helper.make_node("Relu", ["images"], ["output"])]
    model = helper.make_model(
        helper.make_graph(nodes, "small", [images], [output]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return OnnxFile(data=model.SerializeToString(), name="a small network")
