"""The meter of a device elsewhere: readings come from its agent, in batches.

Theory of operation. All methods of `nas.measuring.methods` work on this meter as on a local one,
since it replays what the agent recorded: `time_block` returns the next block of the current batch
and sets clock, host load and sensors to the moment at which that block ended. A batch is fetched if
the last one is used up, or if other calls are asked for. It covers the time that the method
announced (`expect`), at most `MAX_BATCH_S`, and one block otherwise. Blocks of a batch that the
method does not use are dropped. Thus the statistics decide when to stop, by the same code as for
local measurements, and no block waits for the network in between.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

from nas.agent.host import HostLoad
from nas.agent.worker import CUDA_PROVIDERS
from nas.core.errors import NasError, UnavailableError, next_command
from nas.core.measurement import Device, Measurement, MeasurementPlan, Precision
from nas.measuring.devices import book
from nas.measuring.devices.client import Client, Session
from nas.measuring.meters import REMOTE_RUNTIME, Meter, Run
from nas.measuring.meters.energy import RAIL
from nas.measuring.meters.lock import drivers_lock
from nas.measuring.meters.watch import DeviceState, Watch

MAX_BATCH_S = 0.5
"""Longest batch of blocks. It ends with the block that exceeds this time."""
MAX_BLOCKS = 10_000
"""Most blocks in a batch."""
LOWEST_OPSET = 18
"""Oldest version of ONNX's operators that our exporter writes."""


class RemoteNetwork:
    """A network that an agent has loaded. It runs when the meter times it."""

    def __init__(self, meter: "RemoteMeter", number: int, network: Any, conditions: Any) -> None:
        self.number, self.network, self.conditions = number, network, conditions
        self.resident_bytes = len(network.data)
        self._meter = meter

    def __call__(self) -> None:
        """Run one batch."""
        self._meter.time_block(self, 1)

    def with_runtime(self, figure: Measurement) -> Measurement:
        """Return the figure with the runtime of the device in its details. The device's class has
        the version already.
        """
        facts = {
            "name": REMOTE_RUNTIME,
            "package": "onnxruntime",
            "version": self._meter.facts["onnxruntime"],
            "provider": self.conditions["provider"],
            "precision": str(Precision.FP32),
            "threads": self.conditions["threads"],
            "streams": 1,
        }
        return replace(figure, details={**figure.details, "runtime": facts})


class RemoteMeter(Meter):
    """The meter of the device with this name in the device book.

    Raises `DeviceLostError` if it does not answer, and `UnavailableError` if another device than
    the one that was added answers, or if it lacks the execution provider.
    """

    torch_device = "cpu"
    clock = "perf_counter of the device"
    memory_method = (
        "all that its process grows by at its peak while it loads and runs the network on ONNX "
        "Runtime"
    )
    only_runtime: str | None = REMOTE_RUNTIME

    def __init__(self, name: str, entry: book.Entry | None = None) -> None:
        self._entry = entry or book.find_entry(name)
        self._client = Client(name, self._entry)
        try:
            self.facts = self._client.device()
            self.device = device_of(name, self._entry, self.facts)
        except NasError:
            self._client.close()
            raise
        energy = self.facts["energy"]
        self.energy_method = energy.get("counter", "none")
        self.power_kinds = (RAIL,) if "power" in energy else ()
        self.provider = self._entry.provider
        self._session: Session | None = None
        self._forget()

    def _forget(self) -> None:
        """Forget the current batch and position, and what the watch saw: the device's clock begins
        again when it boots.
        """
        self.watch = Watch(self)
        self._rows: deque[list[Any]] = deque()
        self._key: tuple[int, int, bool] | None = None
        self._expected: tuple[int, int, float] | None = None
        self._calls_between = 0
        self._now_s = 0.0
        self._load: HostLoad | None = None
        self._joules: float | None = None
        self._watts: float | None = None
        self._state: dict[str, Any] | None = None

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the device in a session. Processes of this machine wait for each other here, and
        the agent holds the lock of the device itself.
        """
        with drivers_lock(self.device.identity).exclusive(), self._client.session() as own:
            self._require_same_device()
            self._session = own
            try:
                self._look_at(readings=False)
                yield
            finally:
                self._session = None
                self._forget()

    def plan_problem(self, plan: MeasurementPlan) -> str | None:
        """Return what the device cannot do of the plan, None if it can do all."""
        if plan.runtime != REMOTE_RUNTIME:
            return (
                f"{self._client.name} runs networks on ONNX Runtime: take runtime "
                f"{REMOTE_RUNTIME}, not {plan.runtime}"
            )
        if plan.precision is not Precision.FP32:
            return f"{self._client.name} runs networks in fp32, not {plan.precision}"
        if plan.threads > self.usable_cores():
            return (
                f"{self._client.name} has {self.usable_cores()} cores, so threads must be at most "
                f"{self.usable_cores()}, not {plan.threads}"
            )
        return None

    @property
    def memory_runtime(self) -> str | None:
        """ONNX Runtime on a processor. On a GPU it does not report its memory."""
        return None if self.provider in CUDA_PROVIDERS else self.only_runtime

    def built_elsewhere(self, network: Any, plan: MeasurementPlan) -> Any:
        """Return the network as an ONNX file that the device reads; a file stays as it is.

        Raises `UnavailableError` if its ONNX Runtime is too old.
        """
        from nas.measuring.runtimes import OnnxFile
        from nas.measuring.runtimes.exported import exported
        from nas.model.onnx_file import OPSET

        if isinstance(network, OnnxFile):
            return network
        opset, ir_version = self.facts["opset"], self.facts["ir"]
        if opset is None or opset < LOWEST_OPSET:
            raise UnavailableError(
                f"{self._client.name} reads ONNX opset {opset}; {LOWEST_OPSET} is needed: install "
                "ONNX Runtime 1.14 or newer there"
            )
        return exported(network, plan.image_size, opset=min(OPSET, opset), max_ir=ir_version)

    @contextlib.contextmanager
    def prepared_elsewhere(self, built: Any, plan: MeasurementPlan) -> Iterator[RemoteNetwork]:
        """Load an ONNX file on the device in the `with` block.

        Raises `TrialFailedError` for a network that fails there.
        """
        conditions = {
            "batch": plan.batch_size,
            "size": plan.image_size,
            "threads": plan.threads,
            "provider": self.provider,
        }
        answer = self._open_session.load("load", built.data, **conditions)
        yield RemoteNetwork(self, answer["network"], built, conditions)
        self._open_session.step(do="unload", network=answer["network"])

    def host_details(self) -> dict[str, Any]:
        """Return the conditions of the device, which must be held."""
        details: dict[str, Any] = self._look_at(readings=False)["host"]
        return details

    def usable_cores(self) -> int:
        """Return the number of cores that the agent may use."""
        return int(self.facts["usable_cores"])

    def expect(self, run: Run, calls: int, seconds: float) -> None:
        """Time a batch of blocks of these calls, and set the clock to its begin."""
        number = self._number(run)
        self._expected = (number, calls, seconds)
        self._fetch(number, calls, min(seconds, MAX_BATCH_S), readings=False)

    def time_block(self, run: Run, calls: int) -> float:
        """Return the seconds of the next block of these calls."""
        row = self._next(self._number(run), calls, readings=False)
        self.watch.look()
        return float(row[2] - row[1])

    def keep_busy(self, run: Run, calls: int) -> int:
        """Keep the device busy with these calls, and return how many there were with those between
        two batches.
        """
        self._next(self._number(run), calls, readings=True)
        self.watch.look()
        between, self._calls_between = self._calls_between, 0
        return calls + between

    def time_s(self) -> float:
        """Return the device's clock at the moment of the last reading."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass, and look at the device again."""
        time.sleep(seconds)
        if self._session is not None:
            self._look_at(readings=self._joules is not None or self._watts is not None)

    def energy_j(self) -> float:
        """Return joules since the session's first reading. Raises `UnavailableError`."""
        if self._joules is None and self._session is not None and "counter" in self.facts["energy"]:
            self._look_at(readings=True)
        if self._joules is None:
            self._no_energy("counter_problem")
        return self._joules

    def power_w(self, kind: str) -> float:
        """Return the watts of the device's input. Raises `UnavailableError`."""
        if self._watts is None and self._session is not None and "power" in self.facts["energy"]:
            self._look_at(readings=True)
        if self._watts is None:
            self._no_energy("power_problem")
        return self._watts

    def energy_unavailable_reason(self) -> str | None:
        """Return why the device's energy cannot be read, None if it can."""
        energy = self.facts["energy"]
        if "counter" in energy or "power" in energy:
            return None
        return f"{self._client.name}: {energy['counter_problem']}; {energy['power_problem']}"

    def device_state(self) -> DeviceState | None:
        """Return the device's last state, None if it reports none."""
        if self._state is None:
            return None
        slowed = self._state["slowed"]
        return DeviceState(
            time_s=self._state["time_s"],
            temperature_c=self._state["temperature_c"],
            slowed=None if slowed is None else tuple(slowed),
        )

    def host_load(self) -> HostLoad | None:
        """Return what else ran on the device at the moment of the last reading."""
        return self._load

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Return the bytes that a new process on the device needs for the network.

        Raises `UnavailableError` if its kernel does not report it.
        """
        if not isinstance(run, RemoteNetwork):
            raise TypeError("the network was not prepared on this device")
        answer = self._open_session.load("memory", run.network.data, **run.conditions)
        if answer["peak_bytes"] is None:
            raise UnavailableError(f"the kernel of {self._client.name} does not report peak memory")
        return int(answer["peak_bytes"]) - run.resident_bytes

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _no_energy(self, problem: str) -> NoReturn:
        energy = self.facts["energy"]
        reason = energy.get(problem, "the sensor could not be read while the device measured")
        raise UnavailableError(f"{self._client.name}: {reason}")

    def _require_same_device(self) -> None:
        """Raise `UnavailableError` if the device has changed since this meter was made."""
        name, old = self._client.name, self.device.device_class
        new = device_of(name, self._entry, self._client.device()).device_class
        if new != old:
            raise UnavailableError(
                f"{name} is {new!r} and was {old!r}: figures of the two must not be mixed"
            )

    @property
    def _open_session(self) -> Session:
        if self._session is None:
            raise UnavailableError(f"{self._client.name} is not held for a measurement")
        return self._session

    def _number(self, run: Run) -> int:
        if not isinstance(run, RemoteNetwork):
            raise TypeError("the network was not prepared on this device")
        return run.number

    def _next(self, number: int, calls: int, *, readings: bool) -> list[Any]:
        """Return the next block of these calls, and set the position to its end."""
        key = (number, calls, readings)
        if key != self._key or not self._rows:
            seconds = 0.0
            if readings and key == self._key:
                seconds = MAX_BATCH_S / 2
            elif self._expected is not None and self._expected[:2] == key[:2]:
                seconds = min(self._expected[2], MAX_BATCH_S)
            self._fetch(number, calls, seconds, readings=readings)
        row = self._rows.popleft()
        self._move_to(row, readings=readings)
        return row

    def _fetch(self, number: int, calls: int, seconds: float, *, readings: bool) -> None:
        """Fetch a batch of blocks, and set the position to its begin."""
        answer = self._open_session.step(
            do="time",
            network=number,
            calls=calls,
            seconds=seconds,
            blocks=MAX_BLOCKS if seconds else 1,
            readings=readings,
        )
        same_network = self._key is not None and self._key[0] == number
        self._calls_between = answer["calls_between"] if same_network else 0
        self._key, self._rows = (number, calls, readings), deque(answer["rows"])
        self._now_s, load = answer["first_s"], answer["first_load"]
        self._load = HostLoad(*load) if load else None

    def _look_at(self, *, readings: bool) -> dict[str, Any]:
        """Read the device's sensors now. The current batch is dropped."""
        answer = self._open_session.step(do="look", readings=readings)
        self._rows.clear()
        self._move_to(answer["rows"][0], readings=readings)
        return answer

    def _move_to(self, row: list[Any], *, readings: bool) -> None:
        """Set the position to the end of this row. The last row of a batch has all `readings`, so
        one that is missing there could not be taken.
        """
        _, _, self._now_s, load, joules, watts, state = row
        complete = readings and not self._rows
        self._load = HostLoad(*load) if load else self._load
        self._joules = self._joules if joules is None and not complete else joules
        self._watts = self._watts if watts is None and not complete else watts
        self._state = state or self._state


def device_of(name: str, entry: book.Entry, facts: dict[str, Any]) -> Device:
    """Return the device that an agent describes. Its class has what latency depends on.

    Raises `UnavailableError` if it is another one than was added, or lacks the provider.
    """
    if entry.identity and entry.identity != facts["identity"]:
        raise UnavailableError(
            f"another device answers at {entry.address} than the one that was added as {name}; if "
            f"that is right: {next_command('device', 'remove', name)}, and add it again"
        )
    if entry.provider not in facts["providers"]:
        raise UnavailableError(
            f"the ONNX Runtime of {name} has no {entry.provider}; it has: "
            f"{', '.join(facts['providers'])}"
        )
    mode = f", power mode {facts['power_mode']}" if facts["power_mode"] else ""
    gpus = facts.get("gpus", ()) if entry.provider in CUDA_PROVIDERS else ()
    hidden = {"protocol", "boot", "state", "identity", "busy"}
    return Device(
        kind="cpu",
        name=facts["name"],
        identity=facts["identity"],
        device_class=", ".join([facts["name"], *gpus, f"{facts['cores']} cores"])
        + f", agent, onnxruntime {facts['onnxruntime']} {entry.provider}{mode}",
        details={
            "device": name,
            **{key: value for key, value in facts.items() if key not in hidden},
        },
    )
