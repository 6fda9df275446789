"""The agent without ONNX Runtime: its Python version, its sensors, its networks, and the meter that
replays what it recorded.
"""

import ast
import contextlib
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from torch import nn

import nas.agent
from nas.agent import command, host, server
from nas.agent.errors import RefusedError, SensorError
from nas.agent.sensors import Sensors
from nas.agent.sessions import Sessions, start_worker
from nas.agent.store import NetworkStore
from nas.cli import main
from nas.core.errors import (
    CorruptFileError,
    DeviceLostError,
    InvalidValueError,
    UnavailableError,
    UnknownNameError,
)
from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.devices import book, client
from nas.measuring.devices.archive import write_agent
from nas.measuring.devices.client import Client
from nas.measuring.devices.connection import SSH_VARIABLE
from nas.measuring.devices.meter import RemoteMeter, RemoteNetwork, device_of
from nas.measuring.methods import build, energy, interleaved_latency, latency, peak_memory
from nas.measuring.metrics.measured import PEAK_MEMORY
from nas.measuring.runtimes import exported
from nas.testing.fake_meter import FakeMeter

SOURCES = sorted(Path(nas.agent.__file__).parent.glob("*.py"))
FACTS = {
    "protocol": 1,
    "boot": "first",
    "identity": "cpu-1",
    "name": "Board",
    "cores": 4,
    "usable_cores": 4,
    "power_mode": None,
    "state": None,
    "onnxruntime": "1.16.3",
    "providers": ["CPUExecutionProvider"],
    "opset": 19,
    "ir": 9,
    "energy": {"counter_problem": "no counter", "power_problem": "no rail"},
}
PLAN = MeasurementPlan(runtime="onnxruntime", max_time_s=0.5)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_agent_is_written_in_python_3_8(path):
    """JetPack 5 has no newer Python."""
    ast.parse(path.read_text(), feature_version=(3, 8))


def test_the_agent_uses_nothing_that_python_3_8_lacks():
    """Vermin knows in which version each function and module of Python appeared."""
    pytest.importorskip("vermin")
    command = [str(Path(sys.executable).with_name("vermin")), "-t=3.8-", "--violations"]
    done = subprocess.run([*command, *SOURCES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_agent_is_one_file_that_runs_without_the_rest(tmp_path):
    """Python in isolated mode, with an empty folder as its only other source, finds no `nas`."""
    file = tmp_path / "agent.pyz"
    write_agent(file)
    command = [sys.executable, "-I", "-S", str(file), "serve", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert done.returncode == 2
    assert done.stderr.startswith("error: a port needs a token of at least 16 characters")


def rail(sys_folder, number, label, millivolts, milliamperes):
    """Add a channel to the INA3221 of a made-up sysfs tree."""
    folder = sys_folder / "class/hwmon/hwmon3"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text("ina3221\n")
    (folder / f"in{number}_label").write_text(f"{label}\n")
    (folder / f"in{number}_input").write_text(f"{millivolts}\n")
    (folder / f"curr{number}_input").write_text(f"{milliamperes}\n")


def test_the_input_rail_of_a_jetson_gives_its_power(tmp_path):
    """5 V at 1.2 A are 6 W; the rails behind the input do not count again."""
    rail(tmp_path, 1, "VDD_IN", 5000, 1200)
    rail(tmp_path, 2, "VDD_CPU_GPU_CV", 5000, 400)
    assert Sensors(tmp_path).power_w() == pytest.approx(6.0)
    assert Sensors(tmp_path).energy()["power"] == "ina3221 VDD_IN"


def test_a_module_without_an_input_rail_needs_their_names(tmp_path):
    """An AGX Orin has no VDD_IN; which of its rails feed others is not guessed."""
    rail(tmp_path, 1, "VDD_GPU_SOC", 5000, 1000)
    rail(tmp_path, 2, "VDD_CPU_CV", 5000, 500)
    with pytest.raises(SensorError, match="name those to add up with --rails"):
        Sensors(tmp_path).power_w()
    named = Sensors(tmp_path, ["VDD_GPU_SOC", "VDD_CPU_CV"])
    assert named.power_w() == pytest.approx(7.5)
    with pytest.raises(SensorError, match="no power rail 'VIN'; there are: VDD_CPU_CV, VDD_GPU"):
        Sensors(tmp_path, ["VIN"]).power_w()


def test_without_sensors_each_has_its_reason(tmp_path):
    sources = Sensors(tmp_path).energy()
    assert "no RAPL energy counter" in sources["counter_problem"]
    assert "no INA3221 power sensor" in sources["power_problem"]
    assert Sensors(tmp_path).state() is None


def test_a_rapl_counter_of_the_device_counts(tmp_path):
    zone = tmp_path / "class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    for name, value in (("name", "package-0"), ("max_energy_range_uj", 10**7), ("energy_uj", 5)):
        (zone / name).write_text(f"{value}\n")
    sensors = Sensors(tmp_path)
    assert sensors.energy() == {
        "counter": "rapl packages and dram",
        "power_problem": f"no INA3221 power sensor: none in {tmp_path}/class/hwmon",
    }
    (zone / "energy_uj").write_text("2500005\n")
    assert sensors.energy_j() == pytest.approx(2.5)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_slowdowns_in_force_are_named(tmp_path):
    """A cooling device at work, a rising counter and the flags of a Raspberry Pi's firmware."""
    write(tmp_path / "class/thermal/thermal_zone0/temp", 84_400)
    write(tmp_path / "class/thermal/cooling_device0/type", "thermal-cpufreq-0")
    write(tmp_path / "class/thermal/cooling_device0/cur_state", 0)
    write(tmp_path / "class/thermal/cooling_device1/type", "pwm-fan")
    write(tmp_path / "class/thermal/cooling_device1/cur_state", 3)
    counter = tmp_path / "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    write(counter, 7)
    flags = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    write(flags, "50000")
    sensors = Sensors(tmp_path)
    assert sensors.state() == {"temperature_c": 84, "slowed": []}
    write(tmp_path / "class/thermal/cooling_device0/cur_state", 2)
    write(counter, 8)
    write(flags, "50005")
    slowed = ["cooling by thermal-cpufreq-0", "thermal throttling", "under-voltage", "throttled"]
    assert sensors.state() == {"temperature_c": 84, "slowed": slowed}
    write(tmp_path / "class/thermal/cooling_device0/cur_state", 0)
    write(flags, "0")
    assert sensors.state() == {"temperature_c": 84, "slowed": []}


def put(store, data):
    digest = hashlib.sha256(data).hexdigest()
    store.put(digest, io.BytesIO(data), len(data))
    return digest


def test_networks_make_room_for_newer_ones(tmp_path):
    """Of three networks of 40 bytes, two fit into 100: the one that was used last stays."""
    store = NetworkStore(tmp_path, 100)
    first, second = put(store, b"a" * 40), put(store, b"b" * 40)
    for digest, time_s in ((first, 10), (second, 20)):
        os.utime(tmp_path / f"{digest}.onnx", (time_s, time_s))
    store.path(first)
    third = put(store, b"c" * 40)
    assert {path.name for path in tmp_path.iterdir()} == {f"{first}.onnx", f"{third}.onnx"}
    with pytest.raises(RefusedError, match="no network"):
        store.path(second)


@pytest.mark.parametrize(
    ("digest", "data", "length", "status"),
    [
        ("../../../etc/passwd", b"x", 1, 404),
        ("A" * 64, b"x", 1, 404),
        ("0" * 64, b"x", 1, 400),
        ("0" * 64, b"short", 9, 400),
        ("0" * 64, b"", 101, 413),
    ],
)
def test_a_wrong_network_leaves_nothing(tmp_path, digest, data, length, status):
    with pytest.raises(RefusedError) as refused:
        NetworkStore(tmp_path, 100).put(digest, io.BytesIO(data), length)
    assert refused.value.status == status
    assert list(tmp_path.iterdir()) == []


class RecordedSession:
    """A session with an agent whose networks take given times on a fake clock.

    `commands` are its steps. The agent's work is that of `nas.agent.worker`, without ONNX Runtime.
    """

    def __init__(self, seconds, *, waited=0.0, power_w=None, state=None):
        self.clock = FakeMeter(power_w=power_w, step_s=0.001)
        self.seconds, self.waited, self.state = dict(enumerate(seconds, 1)), waited, state
        self.commands = []

    def row(self, calls, start_s, readings):
        clock = self.clock
        joules = clock.energy_j() if readings and clock._power_w else None
        state = None if self.state is None else {"time_s": clock.now_s, **self.state}
        return [calls, start_s, clock.now_s, list(clock.host_load()), joules, None, state]

    def step(self, **command):
        self.commands.append(command)
        clock = self.clock
        if command["do"] == "look":
            return {"rows": [self.row(0, clock.now_s, command["readings"])], "host": {}}
        first_s, first_load, rows = clock.now_s, list(clock.host_load()), []
        while True:
            start_s = clock.now_s
            clock.work(command["calls"] * self.seconds[command["network"]])
            clock.waited_s += self.waited * (clock.now_s - start_s)
            rows.append(self.row(command["calls"], start_s, command["readings"]))
            enough = clock.now_s - first_s >= command["seconds"]
            if enough or len(rows) >= command["blocks"]:
                break
        return {"rows": rows, "first_s": first_s, "first_load": first_load, "calls_between": 0}


def remote(session, facts=FACTS, provider="CPUExecutionProvider"):
    """Return a meter on this session, and its networks."""
    meter = RemoteMeter.__new__(RemoteMeter)
    meter.facts, meter._session, meter.provider = facts, session, provider
    meter._entry = book.Entry(address="unix:/x", provider=provider)
    meter._client = type("Client", (), {"name": "board"})()
    meter.device = device_of("board", meter._entry, facts)
    meter.energy_method, meter.power_kinds = facts["energy"].get("counter", "none"), ()
    meter._forget()
    file = type("File", (), {"data": b""})()
    return meter, [RemoteNetwork(meter, number, file, {}) for number in session.seconds]


def test_a_remote_latency_is_the_local_one():
    """The same statistics on the same blocks: value, interval, status and number of blocks."""
    session = RecordedSession([0.003])
    meter, (network,) = remote(session)
    there = latency(network, meter, PLAN)
    local = FakeMeter()
    here = latency(local.network(0.003), local, PLAN)
    assert there.value == pytest.approx(0.003)
    assert there.samples == pytest.approx(here.samples)
    assert (there.status, there.ci_low, there.ci_high) == (
        here.status,
        pytest.approx(here.ci_low),
        pytest.approx(here.ci_high),
    )


def test_blocks_are_timed_in_batches():
    """Half a second of blocks of 21 ms is one request, and no batch is longer."""
    session = RecordedSession([0.003])
    meter, (network,) = remote(session)
    meter.expect(network, 7, 2.0)
    blocks = [meter.time_block(network, 7) for _ in range(24)]
    assert blocks == pytest.approx([0.021] * 24)
    assert len(session.commands) == 1
    meter.time_block(network, 7)
    assert [each["seconds"] for each in session.commands] == [0.5, 0.5]


def test_waiting_on_the_device_is_contention():
    """Threads of the agent that wait 30 % of the time give no value, as they do here."""
    meter, (network,) = remote(RecordedSession([0.003], waited=0.3))
    figure = latency(network, meter, PLAN)
    assert (figure.value, figure.status) == (None, Status.CONTENDED)


def test_a_device_that_slows_itself_down_is_throttled(monkeypatch):
    monkeypatch.setattr("nas.measuring.devices.meter.time.sleep", lambda _: None)
    hot = {"temperature_c": 85, "slowed": ["cooling by thermal-cpufreq-0"]}
    meter, (network,) = remote(RecordedSession([0.003], state=hot))
    figure = latency(network, meter, PLAN)
    assert (figure.value, figure.status) == (None, Status.THROTTLED)
    assert "cooling by thermal-cpufreq-0" in figure.reason
    assert "85 °C" in figure.reason


def test_networks_are_interleaved_on_the_device():
    """Two networks of 2 and 3 ms, each with its own figure."""
    session = RecordedSession([0.002, 0.003])
    meter, networks = remote(session)
    figures = interleaved_latency(dict(zip("ab", networks, strict=True)), meter, PLAN, seed=1)
    assert figures["a"].value == pytest.approx(0.002)
    assert figures["b"].value == pytest.approx(0.003)
    assert {each["network"] for each in session.commands} == {1, 2}


def test_joules_of_a_counter_there():
    """10 W for 3 ms are 30 mJ a frame."""
    facts = {**FACTS, "energy": {"counter": "rapl packages and dram", "power_problem": "no rail"}}
    meter, (network,) = remote(RecordedSession([0.003], power_w=10.0), facts)
    figure = energy(network, meter, PLAN)
    assert figure.status is Status.OK, figure.reason
    assert figure.value == pytest.approx(0.03, rel=0.01)
    assert figure.method == "rapl packages and dram, windows from step to step"


class Rail(RecordedSession):
    """A board of 5 W whose power sensor is read at the end of each batch. It fails from `dies_s`
    on.
    """

    def __init__(self, dies_s):
        super().__init__([0.003])
        self._dies_s = dies_s

    def step(self, **command):
        answer = super().step(**command)
        if command["readings"] and self.clock.now_s < self._dies_s:
            answer["rows"][-1][5] = 5.0
        return answer


@pytest.mark.parametrize(
    ("dies_s", "status"), [(float("inf"), Status.OK), (4.0, Status.UNAVAILABLE)]
)
def test_a_power_sensor_that_dies_leaves_no_joules(dies_s, status):
    """Its last watts do not count any longer. While it works, 5 W for 3 ms are 15 mJ a frame."""
    facts = {**FACTS, "energy": {"counter_problem": "no counter", "power": "ina3221 VDD_IN"}}
    meter, (network,) = remote(Rail(dies_s), facts)
    meter.power_kinds = ("rail",)
    figure = energy(network, meter, PLAN)
    assert figure.status is status, figure.reason
    assert figure.value == (pytest.approx(0.015, rel=0.01) if status is Status.OK else None)
    if status is not Status.OK:
        assert "board: the sensor could not be read while the device measured" in figure.reason


def test_looks_of_an_earlier_session_do_not_count(monkeypatch):
    """The board was hot. It booted and cooled, and its clock began again."""
    monkeypatch.setattr("nas.measuring.devices.meter.time.sleep", lambda _: None)
    hot = RecordedSession(
        [0.003], state={"temperature_c": 85, "slowed": ["cooling by thermal-cpufreq-0"]}
    )
    hot.clock.now_s = 1000.0
    meter, (network,) = remote(hot)
    latency(network, meter, PLAN)
    cool = RecordedSession([0.003], state={"temperature_c": 40, "slowed": []})
    meter._client = SimpleNamespace(
        name="board", device=lambda: FACTS, session=lambda: contextlib.nullcontext(cool)
    )
    meter._forget()  # as at the end of a session
    with meter.exclusive():
        figure = latency(network, meter, PLAN)
    assert figure.status is Status.OK, figure.reason
    assert figure.details["watch"]["slowed"] == {}
    assert figure.details["watch"]["looks"] > 1


def test_calls_between_two_batches_use_energy_too():
    session = RecordedSession([0.003], power_w=10.0)
    meter, (network,) = remote(session)
    answer = session.step(do="time", network=1, calls=2, seconds=0, blocks=1, readings=True)
    session.step = lambda **_: {**answer, "calls_between": 40}
    meter._key = (1, 2, True)
    assert meter.keep_busy(network, 2) == 42


def test_energy_without_a_sensor_has_the_devices_reason():
    meter, (network,) = remote(RecordedSession([0.003]))
    figure = energy(network, meter, PLAN)
    assert figure.status is Status.UNAVAILABLE
    assert figure.reason == "board: no counter; no rail"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"runtime": "eager"},
            "runs networks on ONNX Runtime: take runtime onnxruntime, not eager",
        ),
        ({"precision": "fp16"}, "runs networks in fp32, not fp16"),
        ({"threads": 5}, "has 4 cores, so threads must be at most 4, not 5"),
        ({}, None),
    ],
)
def test_a_plan_that_the_device_cannot_follow(changes, problem):
    meter, _ = remote(RecordedSession([]))
    expected = problem and f"board {problem}"
    assert meter.plan_problem(replace(PLAN, **changes)) == expected


def test_another_device_at_the_address_is_refused():
    entry = book.Entry(address="unix:/x", identity="cpu-2")
    with pytest.raises(UnavailableError, match="another device answers at unix:/x than"):
        device_of("board", entry, FACTS)
    entry = book.Entry(address="unix:/x", provider="OpenVINOExecutionProvider")
    with pytest.raises(UnavailableError, match="has no OpenVINOExecutionProvider; it has: CPU"):
        device_of("board", entry, FACTS)


CUDA = "CUDAExecutionProvider"


def test_the_class_of_a_device_has_provider_and_power_mode():
    device = device_of("board", book.Entry(address="unix:/x"), {**FACTS, "power_mode": "pmode:2"})
    assert device.device_class == (
        "Board, 4 cores, agent, onnxruntime 1.16.3 CPUExecutionProvider, power mode pmode:2"
    )


def test_the_class_of_a_device_names_the_gpu_that_it_runs_on(tmp_path):
    """The driver names it. A Jetson's does not, but there the board's name tells the GPU."""
    write(tmp_path / "driver/nvidia/gpus/0000:01:00.0/information", "Model: \t RTX A2000\nIRQ: 9")
    facts = {**FACTS, "providers": [CUDA], "gpus": host.gpu_names(tmp_path)}
    entry = book.Entry(address="unix:/x", provider=CUDA)
    of_gpu = f"4 cores, agent, onnxruntime 1.16.3 {CUDA}"
    assert device_of("board", entry, facts).device_class == f"Board, RTX A2000, {of_gpu}"
    jetson = {**facts, "gpus": host.gpu_names(tmp_path / "driver")}
    assert device_of("board", entry, jetson).device_class == f"Board, {of_gpu}"
    on_cpu = device_of("board", book.Entry(address="unix:/x"), {**FACTS, "gpus": ["RTX A2000"]})
    assert "RTX" not in on_cpu.device_class


def test_peak_memory_on_a_gpu_elsewhere_is_unavailable():
    """The growth of the agent's process would be the memory of the host."""
    meter, _ = remote(RecordedSession([]), {**FACTS, "providers": [CUDA]}, CUDA)
    figure = peak_memory(lambda: None, meter, PLAN)
    assert (figure.status, figure.value) == (Status.UNAVAILABLE, None)
    assert figure.reason == "Board does not report what one pass holds there"
    assert PEAK_MEMORY.obstacle(meter, PLAN) == (
        "it cannot be measured on Board; drop the objective"
    )


def test_networks_run_in_fp32_on_a_gpu(monkeypatch):
    """NVIDIA's libraries multiply in TF32 unless this variable is 0."""
    settings = {}
    monkeypatch.setattr("nas.agent.sessions._write", lambda *_: None)
    monkeypatch.setattr(
        "nas.agent.sessions.subprocess.Popen", lambda *_, **options: settings.update(options)
    )
    start_worker({})
    assert settings["env"]["NVIDIA_TF32_OVERRIDE"] == "0"
    assert settings["env"]["PATH"] == os.environ["PATH"]


def test_a_network_is_exported_before_the_device_is_held(monkeypatch):
    """An equal one is exported once, for the versions that the device reads."""
    exports = []

    def export(_, image_size, **versions):
        exports.append((image_size, versions))
        return b"file"

    monkeypatch.setattr(exported, "to_onnx", export)
    monkeypatch.setattr(exported, "_FILES", exported._Cache(10**6))
    meter, _ = remote(RecordedSession([]))
    meter._session = None
    network = nn.Conv2d(3, 4, 3)
    files = [build(network, PLAN, meter).result.data for _ in range(2)]
    assert files == [b"file", b"file"]
    assert exports == [(32, {"opset": 19, "max_ir": 9})]


@pytest.fixture
def empty_book(tmp_path, monkeypatch):
    monkeypatch.setenv(book.BOOK_VARIABLE, str(tmp_path / "settings/devices.json"))


@pytest.mark.usefixtures("empty_book")
def test_a_device_is_added_once_and_removed():
    entry = book.Entry(address="ssh://pi@raspberry:2222", token_file="/token")  # noqa: S106 - a path
    book.add("pi5", entry)
    assert book.entries() == {"pi5": entry}
    with pytest.raises(InvalidValueError, match="there is a device 'pi5'; remove it first"):
        book.add("pi5", entry)
    book.remove("pi5")
    with pytest.raises(UnknownNameError, match="no 'pi5' in the device book; there are: none"):
        book.remove("pi5")


@pytest.mark.usefixtures("empty_book")
def test_training_is_not_timed_for_a_device_elsewhere():
    """Trainings run on this machine, so their speed is not that of the device."""
    book.add("pi5", book.Entry(address="unix:/x"))
    done = CliRunner().invoke(main, ["bench", "training", "--device", "pi5"])
    assert done.exit_code == 2
    assert done.stderr == ("error: networks are trained on this machine: cpu or cuda, not pi5\n")


@pytest.mark.usefixtures("empty_book")
@pytest.mark.parametrize(
    ("name", "problem"), [("cpu", "of this machine"), ("A b", "small letters")]
)
def test_a_name_that_a_device_cannot_have(name, problem):
    with pytest.raises(InvalidValueError, match=problem):
        book.add(name, book.Entry(address="unix:/x"))


@pytest.mark.parametrize(
    "address",
    [
        "http://192.168.0.7:8731",
        "http://127.0.0.1",
        "unix:agent.sock",
        "ftp://x",
        "ssh://-oProxy=x",
        "ssh://pi@raspberrypi:home/pi/agent.sock",
        "ssh://board:99999",
        "ssh://pi@[fe80::1",
    ],
)
def test_an_address_that_no_agent_has(address):
    with pytest.raises(InvalidValueError, match="address"):
        book.Entry(address=address)


@pytest.mark.usefixtures("empty_book")
def test_a_damaged_book_is_one_clear_line():
    book.add("pi5", book.Entry(address="unix:/x"))
    book.book_file().write_text('{"pi5": 3}')
    with pytest.raises(CorruptFileError, match=r"devices\.json cannot be read"):
        book.entries()


def test_a_step_that_takes_too_long_fails_and_is_not_lost(monkeypatch, tmp_path):
    """A driver repeats lost measurements, and would repeat this one for ever."""
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path))
    running = Sessions({"identity": "cpu-of-this-test"})
    session = running.open("0123456789")
    assert session.wait(0, 60) == {"open": True}
    monkeypatch.setattr("nas.agent.sessions.STEP_LIMIT_S", -1.0)
    monkeypatch.setattr("nas.agent.sessions._write", lambda *_: None)  # the process never hears it
    session.begin(1, {"do": "look", "readings": False})
    assert running.expire() == "a step took more than -1 s"
    assert session.wait(1, 60) == {"error": "a step took more than -1 s", "lost": False}


@pytest.fixture
def agent(tmp_path):
    """The agent of a made-up device, without a server."""
    return server.Agent(
        tmp_path / "cache", token=None, max_bytes=100, sys_folder=tmp_path / "sys", log=print
    )


def test_the_facts_of_a_device_are_those_of_now(agent, tmp_path, monkeypatch):
    """The device becomes hot, and ONNX Runtime is installed again. Its facts, which take a second,
    are found again only then.
    """
    package = tmp_path / "site/onnxruntime/__init__.py"
    write(package, "1.16.3")
    found = []

    def find(_):
        found.append(package.read_text().strip())
        return {"onnxruntime": found[-1], "providers": []}

    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(server, "_runtime_facts", find)
    cooling = tmp_path / "sys/class/thermal/cooling_device0"
    write(cooling / "type", "thermal-cpufreq-0")
    write(cooling / "cur_state", 0)
    assert agent.device()["state"]["slowed"] == []
    write(cooling / "cur_state", 2)
    assert agent.device()["state"]["slowed"] == ["cooling by thermal-cpufreq-0"]
    assert found == ["1.16.3"]
    package.unlink()
    write(package, "1.17.0")
    assert agent.device()["onnxruntime"] == agent.runtime()["onnxruntime"] == "1.17.0"
    assert found == ["1.16.3", "1.17.0"]


def test_an_agent_leaves_the_socket_of_another_alone(agent, tmp_path, capsys):
    """The second agent ends with one line, and the first one still listens."""
    path = tmp_path / "agent.sock"
    with server.UnixServer(str(path), agent):
        assert command.main(["serve", "--socket", str(path), "--folder", str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"error: another agent listens on {path}\n"
        with socket.socket(socket.AF_UNIX) as driver:
            driver.connect(str(path))
    assert not path.exists()


def test_a_socket_that_nobody_listens_on_is_replaced(agent, tmp_path):
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with server.UnixServer(str(path), agent):
        assert path.is_socket()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_kept(tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text("name: precious")
    assert command.main(["serve", "--socket", str(path), "--folder", str(tmp_path)]) == 2
    line = f"error: {path} exists and is no socket; name another path\n"
    assert capsys.readouterr().err == line
    assert path.read_text() == "name: precious"


PROGRESS, DONE = b'{"event": "progress"}\n', b'{"event": "done", "rows": []}\n'


class Line:
    """A connection to an agent on a clock of its own. Each request takes the seconds and has the
    lines of its turn; a request without lines is a silent cut. The last turn repeats.
    """

    def __init__(self, monkeypatch, *turns, status=200):
        self.now_s, self.status, self._turns, self._lines = 0.0, status, list(turns), []
        self.requests = 0
        fake = SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.sleep)
        monkeypatch.setattr(client, "time", fake)
        self.client = client.Client("board", book.Entry(address="unix:/x"))
        self.client._route.connection = lambda: self

    def sleep(self, seconds):
        self.now_s += seconds

    def request(self, *_):
        self.requests += 1

    def getresponse(self):
        seconds, *self._lines = self._turns.pop(0) if len(self._turns) > 1 else self._turns[0]
        self.now_s += seconds
        if not self._lines:
            raise TimeoutError("timed out")
        file = io.BytesIO(b"".join(self._lines))
        response = contextlib.closing(file)
        file.status, file.reason, file.will_close = self.status, "refused", False
        return response

    def close(self):
        """Do nothing."""


@pytest.mark.parametrize(
    "turns",
    [
        [(12.0, PROGRESS), (0.0, DONE)],
        [(30.0,), (0.0, DONE)],
        [(12.0, PROGRESS), (12.0, PROGRESS), (0.0,), (0.0,), (12.0, PROGRESS), (0.0, DONE)],
    ],
    ids=["in a long step", "in silence", "several times"],
)
def test_a_step_that_is_cut_late_is_repeated(monkeypatch, turns):
    """The time for repetitions begins at the cut, and again at a cut after the agent answered."""
    line = Line(monkeypatch, *turns)
    assert line.client.step("/v1/sessions/12345678/steps/1", {})["rows"] == []
    assert line.requests == len(turns)


@pytest.mark.parametrize(
    ("turn", "status"),
    [((30.0,), 200), ((0.0,), 200), ((1.0, b'{"error": "no ONNX Runtime"}\n'), 503)],
    ids=["silent", "refused", "overloaded"],
)
def test_an_agent_that_stays_away_is_lost(monkeypatch, turn, status):
    line = Line(monkeypatch, turn, status=status)
    with pytest.raises(DeviceLostError, match="board does not answer"):
        line.client.device()
    assert line.now_s <= 2 * turn[0] + client.RETRY_S + 1


def test_an_agent_whose_runtime_is_broken_is_not_waited_for(monkeypatch):
    """It answers, and says what is missing."""
    line = Line(monkeypatch, (0.0, b'{"error": "no ONNX Runtime"}\n'), status=501)
    with pytest.raises(UnavailableError, match="board: no ONNX Runtime"):
        line.client.device()
    assert (line.requests, line.now_s) == (1, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_ssh_ends_with_a_killed_driver(tmp_path):
    """Here `ssh` is a program that holds a pipe, and writes to it unless it is ended."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        "#!/bin/sh\n"
        "exec 9> pipe\n"
        'while [ "$1" != -L ]; do shift; done\n'
        ': > "${2%%:*}"\n'
        "sleep 10 9>&-\n"
        "echo late >&9\n"
    )
    ssh.chmod(0o755)
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    program = (
        "import os, signal\n"
        "from nas.measuring.devices.book import Entry\n"
        "from nas.measuring.devices.connection import Route\n"
        "Route(Entry(address='ssh://board/agent.sock')).connection()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, SSH_VARIABLE: str(ssh), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    killed = subprocess.run(command, cwd=tmp_path, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    os.set_blocking(pipe, True)
    assert os.read(pipe, 9) == b""
    os.close(pipe)


@pytest.mark.parametrize(
    "answer", [b"<html></html>\n", b"\xff\n", b"[]\n", b"<html></html>", b'{"status": "ok"}', b""]
)
def test_another_web_server_at_the_address_is_one_clear_line(answer, tmp_path):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            """Print nothing."""

    (tmp_path / "token").write_text("secret-of-this-test")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}"
        entry = book.Entry(address=address, token_file=str(tmp_path / "token"))
        with Client("board", entry) as client:
            with pytest.raises(UnavailableError, match=r"^board: another program than the agent"):
                client.device()
            client.touch("session")  # as the thread that shows that the driver lives
        server.shutdown()


def test_the_agent_imports_nothing_of_the_rest():
    """On the device its package has another name, so its modules name each other relatively."""
    for path in Path(nas.agent.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        names += [
            each.name for node in nodes if isinstance(node, ast.Import) for each in node.names
        ]
        assert [name for name in names if name.partition(".")[0] == "nas"] == [], path
