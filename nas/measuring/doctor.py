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


@dataclass(frozen=True)
class Finding:
    """A part that is available here, with its details, or the reason why it is not."""

    what: str
    detail: str
    available: bool = True


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
            "host",
            f"{facts['name']}, {facts['usable_cores']} of {facts['cores']} cores, "
            f"{facts['machine']}, Linux {facts['kernel']}, governor {facts['governor']}{inside}",
        )
        yield Finding(
            "runtime",
            f"ONNX Runtime {facts['onnxruntime']}, Python {facts['python']}, up to opset "
            f"{facts['opset']} and IR {facts['ir']}; networks run on {meter.provider}, of "
            f"{', '.join(facts['providers'])}",
        )
        yield Finding(
            "neighbours",
            "waiting for cores and other processes' time are visible"
            if facts["neighbours"]
            else "the system does not report how busy other processes are",
            available=facts["neighbours"],
        )
        reason = meter.energy_unavailable_reason()
        energy = facts["energy"]
        sources = [energy[key] for key in ("counter", "power") if key in energy]
        yield Finding("energy", reason or ", ".join(sources), available=reason is None)
        state = facts["state"]
        slowed = None if state is None else state["slowed"]
        yield Finding(
            "full speed",
            "the device does not report whether it slows itself down"
            if slowed is None
            else ", ".join(slowed) or f"no slowdown now, {state['temperature_c']} °C",
            available=slowed == [],
        )
        if facts.get("busy"):
            yield Finding("device lock", facts["busy"], available=False)
            return
        with meter.exclusive():
            yield Finding("device lock", "the device is free")


def _host() -> Finding:
    cores, hypervisor = host.affinity(), host.hypervisor()
    inside = "bare metal"
    if hypervisor:
        inside = (
            f"virtual machine ({hypervisor}): clocks and neighbours of the host are not visible"
        )
    return Finding("host", f"{host.cpu_name()}, {len(cores)} of {os.cpu_count()} cores, {inside}")


def _load() -> Finding:
    load = os.getloadavg()[0]
    quiet = load < max(len(host.affinity()) / 2, 0.5)
    warning = "" if quiet else "; other processes are busy, figures will be noisy or contended"
    return Finding(
        "quiet", f"load average {load:.2f} over the last minute{warning}", available=quiet
    )


def _lock() -> Finding:
    try:
        with DeviceLock("doctor").training():
            return Finding("device lock", f"{lock_folder()} can be used")
    except NasError as error:
        return Finding("device lock", str(error), available=False)


def _meter(name: str, meter: Meter) -> Iterator[Finding]:
    yield Finding(f"{name} latency", f"{meter.device.name}, {meter.clock}")
    load = meter.host_load()
    yield Finding(
        f"{name} neighbours",
        "waiting for cores and other processes' time are visible"
        if load is not None
        else "this system does not report how busy other processes are; contention is not noticed",
        available=load is not None,
    )
    reason = meter.energy_unavailable_reason()
    yield Finding(f"{name} energy", reason or _best_sensor(meter), available=reason is None)
    yield Finding(f"{name} peak memory", meter.memory_method)


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
        yield Finding("NVML", f"GPUs: {', '.join(uuids) or 'none'}", available=bool(uuids))
        for number, uuid in enumerate(uuids):
            with contextlib.closing(NvmlDevice(uuid)) as board:
                yield from board_findings(f"GPU {number}", board)
    except NasError as error:
        yield Finding("NVML", str(error), available=False)
    try:
        with find_meter("cuda") as meter:
            yield Finding("GPU class", meter.device.device_class)
            yield from _meter("GPU", meter)
    except NasError as error:
        yield Finding("GPU", str(error), available=False)


def board_findings(name: str, board: NvmlDevice) -> Iterator[Finding]:
    """Yield what the driver reports of one GPU. The counter's rhythm takes a second to find."""
    partitioned = board.partitioned
    yield Finding(
        f"{name} whole",
        "split by MIG: its sensors cover all partitions, so energy cannot be measured; the "
        "administrator can turn MIG off"
        if partitioned
        else "not split by MIG",
        available=not partitioned,
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
        return Finding(what, str(error), available=False)
    return Finding(
        what,
        f"steps every {steps.period_s * 1e3:.1f} ms, up to {steps.spread:.0%} off "
        f"(seen idle, in readings every {steps.poll_s * 1e3:.1f} ms)",
    )


def _power(name: str, board: NvmlDevice, kind: str) -> Finding:
    try:
        now, limit_w = f"{board.power_w(kind):.0f} W now", board.max_power_w()
    except UnavailableError as error:
        return Finding(f"{name} {kind} power", str(error), available=False)
    limit = f"at most {limit_w:.0f} W" if limit_w else "limit not reported"
    return Finding(f"{name} {kind} power", f"{now}, {limit}")


def _slowdown(name: str, state: DeviceState) -> Finding:
    what = f"{name} full speed"
    if state.slowed is None:
        return Finding(
            what,
            "the driver does not report whether the GPU slows itself down; "
            "throttling is noticed only by its clock",
            available=False,
        )
    slowdowns = ", ".join(state.slowed) or "no slowdown"
    limit = ", at its power limit" if state.power_capped else ""
    return Finding(
        what,
        f"{slowdowns} now, {state.sm_clock_mhz} MHz, {state.temperature_c} °C{limit}",
        available=not state.slowed,
    )


def _others(name: str, board: NvmlDevice, state: DeviceState) -> Finding:
    """Report the processes on the GPU. This program has no context there yet, so all of them are
    others.
    """
    what, busy = f"{name} to itself", board.busy_percent()
    load = "utilisation not reported" if busy is None else f"{busy} % busy"
    if state.programs is None:
        return Finding(what, f"the driver hides processes; {load}", available=not busy)
    programs = ", ".join(
        f"{program} ({host.program_name(program) or 'of another container or user'})"
        for program in sorted(state.programs)
    )
    return Finding(
        what, f"other processes: {programs or 'none'}; {load}", available=not (programs or busy)
    )


def runtime_findings(meter: Meter) -> Iterator[Finding]:
    """Yield for each registered runtime whether it runs a small network on this device."""
    for name in plugins.names("nas.runtimes"):
        what = f"runtime {name}"
        try:
            yield Finding(what, _tried(name, meter))
        except Exception as error:  # noqa: BLE001 - runtimes come from others and may raise anything
            yield Finding(what, one_line(error), available=False)


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
