"""The process of one session: it holds the device's lock, loads networks and times them.

It reads one JSON command a line from its standard input and answers each with one line. It ends
with its input, so it never outlives the server.

Between two batches the device would cool, lower its clock and lose its caches. Therefore the last
network keeps running after a batch until the next command arrives, for at most `KEEP_WARM_S`. These
calls are counted, because they use energy too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from . import host
from .errors import NetworkError, SensorError
from .lock import exclusive
from .sensors import SYS, Sensors
from .sessions import start_worker

INPUTS = 8
"""Number of different inputs. They alternate, so that no cache serves the same image again."""
KEEP_WARM_S = 0.5
"""Longest time for which a network runs on after a batch."""
LOAD_INTERVAL_S = 0.005
"""Shortest time between two readings of the host's load, which take 0.2 ms."""
POWER_INTERVAL_S = 0.02
"""Shortest time between two readings of power. One takes about 1 ms on an I2C bus."""
STATE_INTERVAL_S = 0.2
"""Shortest time between two readings of the device's state."""
HIGHEST_OPSET, LOWEST_OPSET = 30, 7
"""Bounds of the search for the highest opset that ONNX Runtime reads."""
HIGHEST_IR, LOWEST_IR = 20, 3
"""Bounds of the search for the highest IR version that ONNX Runtime reads."""
CUDA_PROVIDERS = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})
"""Providers whose inputs and outputs stay on the GPU."""
CPU_PROVIDER, OPENVINO_PROVIDER = "CPUExecutionProvider", "OpenVINOExecutionProvider"
FREE_AXES = ("batch", "height", "width")
"""Names of the axes that the driver's exporter may leave free."""


def main() -> None:
    """Answer commands until the input ends. The first line has the settings."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print must not mix with the answers
    settings = json.loads(sys.stdin.readline())
    if settings.get("facts"):
        _send(answers, runtime_facts())
        return
    if "memory" in settings:
        host.end_with_parent(settings["parent"])
        _send(answers, peak_memory(settings["memory"]))
        return
    sensors = Sensors(Path(settings.get("sys") or SYS), settings.get("rails") or ())
    try:
        with exclusive(settings["identity"]):
            _send(answers, {"open": True})
            Worker(sensors).serve(answers)
    except OSError as error:
        _send(answers, {"error": f"the lock folder cannot be used: {error.strerror}"})


def _send(file: Any, values: dict[str, Any]) -> None:
    file.write(json.dumps(values) + "\n")
    file.flush()


class Runner:
    """A loaded network. Each call runs one batch on the next input.

    `inputs` are what the bindings read from; a binding does not keep its input alive.
    """

    def __init__(self, session: Any, bindings: list[Any], inputs: list[Any]) -> None:
        self._session, self._bindings, self._inputs = session, bindings, inputs
        self._order = itertools.cycle(range(len(bindings)))

    def __call__(self) -> None:
        """Run one batch."""
        self._session.run_with_iobinding(self._bindings[next(self._order)])


class Worker:
    """Loads networks and times them. The caller holds the device's lock."""

    def __init__(self, sensors: Sensors) -> None:
        self._sensors = sensors
        self._runners: dict[int, Runner] = {}
        self._loaded = 0
        self._state: dict[str, Any] | None = None
        self._times = {"load": 0.0, "power": 0.0, "state": 0.0}
        self._warm: Callable[[], object] | None = None
        self._calls_between = 0

    def serve(self, answers: Any) -> None:
        """Answer commands until the input ends."""
        while self._keep_warm():
            line = sys.stdin.readline()
            if not line:
                return
            try:
                answer = self.answer(json.loads(line))
            except NetworkError as error:
                answer = {"error": str(error)}
            _send(answers, answer)

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one command. Raises `NetworkError`."""
        action = command["do"]
        if action != "time":
            self._warm, self._calls_between = None, 0
        if action == "load":
            return self._load(command)
        if action == "memory":
            return self._memory(command)
        if action == "unload":
            self._runners.pop(command["network"], None)
            return {}
        if action == "time":
            return self._time(command)
        self._look()
        now_s = time.perf_counter()
        row = self._row(0, now_s, now_s, readings=command["readings"], complete=True)
        return {"rows": [row], "host": host.details()}

    def _load(self, command: dict[str, Any]) -> dict[str, Any]:
        self._loaded += 1
        self._runners[self._loaded] = load(command)
        return {"network": self._loaded}

    def _memory(self, command: dict[str, Any]) -> dict[str, Any]:
        """Measure a network's memory in a process of its own, which no other network has used."""
        process = start_worker({"memory": command, "parent": os.getpid()})
        output, _ = process.communicate()
        if process.returncode or not output:
            raise NetworkError(f"the process that measures memory ended with {process.returncode}")
        answer: dict[str, Any] = json.loads(output)
        return answer

    def _time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Time blocks of calls until there are enough or the time is over; at least one."""
        run = self._runners.get(command["network"])
        if run is None:
            raise NetworkError(f"no network {command['network']} is loaded")
        calls, readings = command["calls"], command["readings"]
        end_s = time.perf_counter() + command["seconds"]
        self._look()
        rows: list[list[Any]] = []
        first_load = host.host_load()
        first_s, last = time.perf_counter(), False
        while not last:
            start_s = time.perf_counter()
            for _ in range(calls):
                run()
            row_end_s = time.perf_counter()
            last = row_end_s >= end_s or len(rows) + 1 >= command["blocks"]
            rows.append(self._row(calls, start_s, row_end_s, readings=readings, complete=last))
            self._look()
        between, self._calls_between = self._calls_between, 0
        self._warm = run
        return {
            "rows": rows,
            "first_s": first_s,
            "first_load": first_load,
            "calls_between": between,
        }

    def _row(
        self, calls: int, start_s: float, end_s: float, *, readings: bool, complete: bool
    ) -> list[Any]:
        """Return calls, start, end, load, joules, watts and state of a block that just ended.

        Readings that take long are left out if there was one shortly before, unless the row must be
        `complete`.
        """
        load = joules = watts = None
        if self._due("load", LOAD_INTERVAL_S, end_s) or complete:
            load = host.host_load()
        if readings:
            with contextlib.suppress(SensorError):
                joules = self._sensors.energy_j()
            if self._due("power", POWER_INTERVAL_S, end_s) or complete:
                with contextlib.suppress(SensorError):
                    watts = self._sensors.power_w()
        return [calls, start_s, end_s, load, joules, watts, self._state]

    def _look(self) -> None:
        """Read the device's state, unless the last reading is recent."""
        now_s = time.perf_counter()
        if self._due("state", STATE_INTERVAL_S, now_s):
            state = self._sensors.state()
            self._state = None if state is None else {"time_s": now_s, **state}

    def _due(self, what: str, interval_s: float, now_s: float) -> bool:
        if now_s < self._times[what] + interval_s:
            return False
        self._times[what] = now_s
        return True

    def _keep_warm(self) -> bool:
        """Run the last network until a command arrives. Return True."""
        end_s = time.perf_counter() + KEEP_WARM_S
        while self._warm and time.perf_counter() < end_s:
            if select.select([sys.stdin], [], [], 0)[0]:
                return True
            self._warm()
            self._calls_between += 1
        return True


def load(command: dict[str, Any]) -> Runner:
    """Load an ONNX file with its inputs, and run it once. Raises `NetworkError` in one line."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = command["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised as exceptions anyway
    provider, shape = command["provider"], (command["batch"], 3, command["size"], command["size"])
    if provider != CPU_PROVIDER:
        refuse_fallback(options, shape)
    providers = [(provider, _settings(provider, command["threads"]))]
    try:
        session = onnxruntime.InferenceSession(command["path"], options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no narrower common base
        raise NetworkError(f"ONNX Runtime cannot load it: {_first_line(error)}") from error
    if provider not in session.get_providers():  # it fell back, with a line in its log
        raise NetworkError(f"ONNX Runtime cannot use its {provider} here")
    name = image_input(session, shape)
    place = "cuda" if provider in CUDA_PROVIDERS else "cpu"
    generator = np.random.RandomState(0)
    bindings, inputs = [], []
    try:
        for _ in range(INPUTS):
            images = generator.standard_normal(shape).astype(np.float32)
            binding = session.io_binding()
            value = onnxruntime.OrtValue.ortvalue_from_numpy(images, place, 0)
            binding.bind_ortvalue_input(name, value)
            inputs.append((value, images))
            for output in session.get_outputs():
                binding.bind_output(output.name, place, 0)
            bindings.append(binding)
        session.run_with_iobinding(bindings[0])
        outputs = bindings[0].copy_outputs_to_cpu()
    except Exception as error:
        raise NetworkError(f"it fails on a batch of {shape}: {_first_line(error)}") from error
    if not all(np.isfinite(output).all() for output in outputs):
        raise NetworkError(f"it returns numbers that are not finite on a batch of {shape}")
    return Runner(session, bindings, inputs)


def refuse_fallback(options: Any, shape: Sequence[int]) -> None:
    """Make a session refuse operations that its provider lacks: they would run on the CPU, and the
    figure would be of both. Every axis has the length in `shape`, (B, 3, H, W), since ONNX Runtime
    computes free lengths on the CPU.
    """
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    for axis, length in zip(FREE_AXES, (shape[0], *shape[2:])):
        options.add_free_dimension_override_by_name(axis, length)


def _settings(provider: str, threads: int) -> dict[str, str]:
    """Return the settings of an execution provider of ONNX Runtime.

    OpenVINO has a pool of threads of its own. On processors with bfloat16 it computes float32
    networks in that format, unless its precision is set.
    """
    if provider != OPENVINO_PROVIDER:
        return {}
    return {
        "device_type": "CPU",
        "precision": "FP32",
        "num_of_threads": str(threads),
        "num_streams": "1",
    }


def peak_memory(command: dict[str, Any]) -> dict[str, Any]:
    """Return the bytes by which the peak of this process's resident memory grows while it loads a
    network and runs it; None if the kernel does not report it.

    ONNX Runtime is imported before, so that it does not count.
    """
    import numpy as np
    import onnxruntime

    del np, onnxruntime
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins again
        before = _memory("VmRSS")
        run = load(command)
        for _ in range(INPUTS):
            run()
        after = _memory("VmHWM")
    except OSError:
        return {"peak_bytes": None}
    except NetworkError as error:
        return {"error": str(error)}
    return {"peak_bytes": None if before is None or after is None else after - before}


def image_input(session: Any, shape: tuple[int, ...], network: str = "it") -> str:
    """Return the name of the only input. Raises `NetworkError` if it takes no such images."""
    inputs = session.get_inputs()
    if len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 4:
        axes = zip(inputs[0].shape, shape)
        if all(fixed == given for fixed, given in axes if isinstance(fixed, int)):
            return str(inputs[0].name)
    takes = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
    raise NetworkError(f"{network} takes {takes}, not float images {list(shape)}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _memory(key: str) -> int | None:
    """Return a figure of /proc/self/status in bytes, None if the kernel does not report it."""
    status = host.read_stripped(Path("/proc/self/status")) or ""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None


def runtime_facts() -> dict[str, Any]:
    """Return version and providers of ONNX Runtime, and the highest opset and IR that it reads."""
    try:
        import onnxruntime
    except ImportError as error:
        return {"error": f"ONNX Runtime cannot be imported: {_first_line(error)}"}

    def reads(opset: int, version: int) -> bool:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(
                identity_model(opset, version), options, providers=["CPUExecutionProvider"]
            )
        except Exception:  # noqa: BLE001 - onnxruntime's errors have no narrower common base
            return False
        return True

    opsets = range(HIGHEST_OPSET, LOWEST_OPSET, -1)
    versions = range(HIGHEST_IR, LOWEST_IR, -1)
    return {
        "onnxruntime": onnxruntime.__version__,
        "providers": list(onnxruntime.get_available_providers()),
        "opset": next((opset for opset in opsets if reads(opset, LOWEST_IR)), None),
        "ir": next((version for version in versions if reads(LOWEST_OPSET, version)), None),
    }


def identity_model(opset: int, ir_version: int) -> bytes:
    """Return an ONNX file of one Identity from x (1) to y (1), as protocol buffers encode it."""
    shape = _field(1, _number(1, 1))  # one axis of length 1
    kind = _field(1, _number(1, 1) + _field(2, shape))  # a tensor of floats
    node = _field(1, b"x") + _field(2, b"y") + _field(4, b"Identity")
    graph = (
        _field(1, node)
        + _field(2, b"g")
        + _field(11, _field(1, b"x") + _field(2, kind))
        + _field(12, _field(1, b"y") + _field(2, kind))
    )
    return _number(1, ir_version) + _field(7, graph) + _field(8, _number(2, opset))


def _field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes. They must be fewer than 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def _number(number: int, value: int) -> bytes:
    """Encode a field of a number below 128."""
    return bytes([number << 3, value])
