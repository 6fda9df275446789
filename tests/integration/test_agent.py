"""Measuring elsewhere, as it is used: an agent in an environment without torch, over a Unix socket,
the loopback interface and ssh; cut at any moment, and asked nonsense.
"""

import contextlib
import getpass
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from output_schemas import differences
from torch import nn

from nas.core.errors import DeviceLostError, InvalidValueError, TrialFailedError
from nas.core.measurement import MeasurementPlan, Status, same_class
from nas.measuring.devices import book, client, connection
from nas.measuring.devices.book import Entry
from nas.measuring.devices.client import Client
from nas.measuring.devices.meter import RemoteMeter
from nas.measuring.methods import latency, peak_memory, prepare
from nas.measuring.runtimes import OnnxFile
from nas.model.onnx_file import to_onnx

SIZE = 16
PLAN = MeasurementPlan(
    image_size=SIZE, runtime="onnxruntime", warmup_s=0.02, min_time_s=0.02, max_time_s=0.1
)
USABLE = (Status.OK, Status.NOISY, Status.CONTENDED)
"""Statuses that depend on what else the machine does."""


@pytest.fixture(scope="module")
def network():
    """A small network as a file."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return OnnxFile(data=to_onnx(model.eval(), SIZE), name="small")


@pytest.fixture(scope="module")
def unix(agents, tmp_path_factory):
    """An agent on a Unix socket for the whole module."""
    with agents.unix(tmp_path_factory.mktemp("unix")) as (entry, process):
        yield entry, process


@pytest.fixture(scope="module")
def tcp(agents, tmp_path_factory):
    """An agent on a port, with a token, for the whole module."""
    with agents.tcp(tmp_path_factory.mktemp("tcp")) as (entry, process):
        yield entry, process


@pytest.fixture
def impatient(monkeypatch):
    """Cuts are reported within a second."""
    monkeypatch.setattr(client, "RETRY_S", 1.0)


@pytest.fixture
def connect():
    """Return a client of an agent; all are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda entry: stack.enter_context(Client("board", entry))


def measured(meter, network, plan=PLAN):
    """Return the latency of a network on the device, and the seconds of all blocks."""
    with meter.exclusive(), prepare(network, plan, meter) as run:
        figure = latency(run, meter, plan)
    return figure, [*figure.samples, *figure.details.get("all_blocks", ())]


@pytest.mark.parametrize("place", ["unix", "tcp"])
def test_a_network_is_measured_on_the_device(place, request, network):
    """The figure has the device's class, and its blocks are times of that network."""
    entry, _ = request.getfixturevalue(place)
    with RemoteMeter("board", entry) as meter:
        figure, blocks = measured(meter, network)
        assert figure.status in USABLE
        assert figure.device.device_class.endswith("onnxruntime " + _version())
        assert figure.device.details["device"] == "board"
        assert blocks
        assert all(0 < seconds < 1 for seconds in blocks)


def _version():
    import onnxruntime

    return f"{onnxruntime.__version__} CPUExecutionProvider"


def test_the_device_runs_without_torch(agents):
    command = [str(agents.python), "-c", "import torch"]
    assert (
        "No module named 'torch'"
        in subprocess.run(command, capture_output=True, text=True, check=False, cwd="/").stderr
    )


def test_peak_memory_covers_the_weights(unix):
    """8 MB of weights need at least 8 MB on the device, and a small network less."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 2730)).eval()
    wide = OnnxFile(data=to_onnx(model, SIZE), name="wide")
    with RemoteMeter("board", unix[0]) as meter, meter.exclusive():
        with prepare(wide, PLAN, meter) as run:
            figure = peak_memory(run, meter, PLAN)
    assert figure.status is Status.OK, figure.reason
    assert 8e6 < figure.value < 100e6


def test_a_network_that_is_no_network_fails_its_trial(unix):
    with RemoteMeter("board", unix[0]) as meter, meter.exclusive():
        with pytest.raises(TrialFailedError, match="board: ONNX Runtime cannot load it"):
            with prepare(OnnxFile(data=b"no network", name="x"), PLAN, meter):
                pass
        with pytest.raises(InvalidValueError, match="take runtime onnxruntime, not eager"):
            with prepare(nn.Conv2d(3, 3, 1), MeasurementPlan(image_size=SIZE), meter):
                pass


def test_a_network_with_numbers_that_are_not_finite_fails_its_trial(unix):
    class Infinite(nn.Module):
        def forward(self, images):
            return images.flatten(1) * torch.tensor(float("inf"))

    file = OnnxFile(data=to_onnx(Infinite().eval(), SIZE), name="x")
    with RemoteMeter("board", unix[0]) as meter, meter.exclusive():
        with pytest.raises(TrialFailedError, match="numbers that are not finite"):
            with prepare(file, PLAN, meter):
                pass


def test_one_driver_at_a_time(connect, unix, monkeypatch):
    """A second session is refused as busy, and begins when the first one has ended. After the
    longest wait its error lets a search ask again.
    """
    first, second = connect(unix[0]), connect(unix[0])
    waiting = threading.Event()
    assert first.device()["busy"] == ""
    with first.session():
        assert second.device()["busy"].startswith("another driver has measured for ")
        with pytest.raises(client._Refused, match="busy: another driver has measured for"):
            second._request("POST", f"/v1/sessions/{uuid.uuid4()}", b"{}")
        with monkeypatch.context() as patch:
            patch.setattr(client, "BUSY_S", -1.0)
            with pytest.raises(DeviceLostError, match="is busy: another driver"), second.session():
                pass

        def wait():
            with second.session():
                waiting.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not waiting.wait(0.3)
    thread.join(20)
    assert waiting.is_set()


def test_a_repeated_step_measures_nothing_twice(connect, unix, network):
    """The same session and the same step give the same blocks; a step out of order is refused."""
    driver = connect(unix[0])
    with driver.session() as session:
        assert "error" not in driver._request("POST", f"/v1/sessions/{session.name}", b"{}")
        session.load("load", network.data, batch=1, size=SIZE, threads=1, provider=_provider())
        time_it = {"do": "time", "network": 1, "calls": 3, "blocks": 5, "seconds": 1}
        first = session.step(**time_it)
        again = driver.step(f"/v1/sessions/{session.name}/steps/{session._step}", time_it)
        assert first == again
        with pytest.raises(DeviceLostError, match="step 9 does not follow step 2"):
            driver.step(f"/v1/sessions/{session.name}/steps/9", time_it)
    with pytest.raises(DeviceLostError, match="no session"):
        session.step(**time_it)


def _provider():
    return "CPUExecutionProvider"


def test_the_lock_of_the_device_is_held(unix):
    """A trainer on the device notices the session as it notices a local measurement."""
    from nas.measuring.meters.lock import DeviceLock, Use

    with RemoteMeter("board", unix[0]) as meter:
        with meter.exclusive():
            assert DeviceLock(meter.device.identity).holders().use is Use.MEASURING
        assert DeviceLock(meter.device.identity).holders().use is Use.FREE


@pytest.mark.long
def test_a_driver_that_is_gone_frees_the_device(connect, agents, tmp_path):
    """15 s after its last sign of life; the log says so."""
    with agents.unix(tmp_path) as (entry, process):
        driver = connect(entry)
        driver._request("POST", f"/v1/sessions/{uuid.uuid4()}", b"{}")
        began_s = time.monotonic()
        assert process.stderr.readline() == "ended a session: no request for 15 s\n"
        assert time.monotonic() - began_s > 10
        with connect(entry).session():
            pass


def test_without_the_token_nothing_is_answered(connect, tcp, tmp_path):
    wrong = tmp_path / "token"
    wrong.write_text("another token of some length")
    for entry in (
        Entry(address=tcp[0].address),
        Entry(address=tcp[0].address, token_file=str(wrong)),
    ):
        with pytest.raises(InvalidValueError, match="wrong or missing token"):
            connect(entry).device()


class Cutter:
    """A proxy between driver and agent that cuts every connection after a random time."""

    def __init__(self, target: str, rng: random.Random) -> None:
        self._target, self._rng, self.cuts = target, rng, 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.calm = threading.Event()
        self._sockets = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.socket(socket.AF_UNIX)
                self._sockets += [near, far]
                try:
                    far.connect(self._target)
                except OSError:  # the agent is not there
                    near.shutdown(socket.SHUT_RDWR)
                    continue
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(a, b), daemon=True).start()
                threading.Thread(target=self._cut, args=(near, far), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _cut(self, *sockets: socket.socket) -> None:
        time.sleep(self._rng.expovariate(1 / 0.15))
        if not self.calm.is_set():
            self.cuts += 1
            for each in sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def test_cut_connections_lose_nothing_and_repeat_nothing(connect, agents, tmp_path, network):
    """Every step is done once, and blocks follow each other, however often it is cut."""
    with agents.unix(tmp_path) as (entry, _):
        cutter = Cutter(urlsplit(entry.address).path, random.Random(0))
        driver = connect(Entry(address=cutter.address))
        ends = []
        with driver.session() as session:
            session.load("load", network.data, batch=1, size=SIZE, threads=1, provider=_provider())
            time_it = {"do": "time", "network": 1, "calls": 3, "blocks": 20, "seconds": 0.05}
            while cutter.cuts < 5 or len(ends) < 10:
                rows = session.step(**time_it)["rows"]
                ends += [rows[0][1], rows[-1][2]]
            cutter.calm.set()
            assert ends == sorted(ends)
            assert len(set(ends)) == len(ends)
            state = driver._request("GET", f"/v1/sessions/{session.name}")
            assert state["step"] == session._step
        cutter.close()


@pytest.mark.usefixtures("impatient")
def test_a_killed_agent_loses_the_measurement_and_takes_the_next(agents, tmp_path, network):
    """The driver reports a lost device; once an agent answers, the same meter measures again."""
    with agents.unix(tmp_path) as (entry, process), RemoteMeter("board", entry) as meter:
        with pytest.raises(DeviceLostError, match="board"):  # noqa: PT012 - killed in the middle
            with meter.exclusive(), prepare(network, PLAN, meter) as run:
                meter.time_block(run, 2)
                process.kill()
                meter.time_block(run, 2)
        with agents.unix(tmp_path):
            figure, _ = measured(meter, network)
            assert figure.status in USABLE


DRIVER = """
import sys
from nas.core.measurement import MeasurementPlan
from nas.measuring.devices.book import Entry
from nas.measuring.devices.meter import RemoteMeter
from nas.measuring.methods import prepare
from nas.measuring.runtimes import OnnxFile
data = open(sys.argv[2], "rb").read()
plan = MeasurementPlan(image_size=16, runtime="onnxruntime")
meter = RemoteMeter("board", Entry(address=sys.argv[1]))
with meter.exclusive(), prepare(OnnxFile(data=data, name="x"), plan, meter) as run:
    print("measuring", flush=True)
    while True:
        meter.time_block(run, 50)
"""


@pytest.mark.long
def test_a_killed_driver_leaves_the_device_to_the_next(agents, tmp_path, network):
    """The next driver waits until the dead one's time is over, and measures."""
    (tmp_path / "x.onnx").write_bytes(network.data)
    with agents.unix(tmp_path) as (entry, _):
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, entry.address, tmp_path / "x.onnx"],
            stdout=subprocess.PIPE,
        )
        assert driver.stdout.readline() == b"measuring\n"
        driver.kill()
        driver.communicate()
        with RemoteMeter("board", entry) as meter:
            figure, _ = measured(meter, network)
        assert figure.status in USABLE


MANY_MEASUREMENTS = """
import json, os, sys, time
from nas.core.errors import DeviceLostError
from nas.measuring.devices.book import Entry
from nas.measuring.devices.client import Client
address, network, results = sys.argv[1:]
data = open(network, "rb").read()
conditions = {"batch": 1, "size": 16, "threads": 1, "provider": "CPUExecutionProvider"}
time_it = {"do": "time", "network": 1, "calls": 3, "blocks": 20, "seconds": 0.05}
with Client("board", Entry(address=address), retry_s=1) as client, open(results, "a") as file:
    for number in range(len(open(results).readlines()), 30):
        while True:
            try:
                with client.session() as session:
                    session.load("load", data, **conditions)
                    rows = [row for _ in range(4) for row in session.step(**time_it)["rows"]]
            except DeviceLostError:
                time.sleep(0.1)
            else:
                break
        file.write(json.dumps([number, [row[1:3] for row in rows]]) + "\\n")
        file.flush()
"""
"""A driver that measures a network thirty times and records each measurement."""


@pytest.mark.long
def test_sixty_cuts_at_random_moments(agents, tmp_path, network):
    """Connections are cut, and agent and driver killed. Each measurement is recorded once, and no
    block stands in two of them.
    """
    results, file = tmp_path / "results", tmp_path / "x.onnx"
    results.touch()
    file.write_bytes(network.data)
    rng, kills = random.Random(1), 0
    path = tmp_path / "agent.sock"
    cutter = Cutter(str(path), rng)
    command = [sys.executable, "-c", MANY_MEASUREMENTS, cutter.address, file, results]
    serve = ("--socket", path, "--folder", tmp_path / "cache", "--lease", 1)
    agent, driver = agents.start(*serve), subprocess.Popen(command)
    try:
        while driver.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(rng.uniform(0.5, 3))
                break
            if cutter.cuts + kills >= 60:
                cutter.calm.set()
                continue
            kills += 1
            if rng.random() < 0.5:
                agent.kill()
                agent.communicate()
                agent = agents.start(*serve)
            else:
                driver.kill()
                driver.wait()
                driver = subprocess.Popen(command)
        assert driver.returncode == 0
        assert cutter.cuts + kills >= 60
    finally:
        driver.kill()
        driver.wait()
        agents.stop(agent)
        cutter.close()
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [number for number, _ in lines] == list(range(30))
    spans = [span for _, rows in lines for span in rows]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


REQUESTS = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /v1/networks/../../../etc/passwd HTTP/1.1\r\n\r\n",
    b"GET /v1/networks/%2e%2e%2f%2e%2e HTTP/1.1\r\n\r\n",
    b"PUT /v1/networks/" + b"a" * 64 + b" HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"PUT /v1/networks/" + b"a" * 64 + b" HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT /v1/networks/" + b"a" * 64 + b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/sessions/short HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/sessions/0123456789/steps/1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/sessions/0123456789/steps/-1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/sessions/0123456789 HTTP/1.1\r\nContent-Length: 6\r\n\r\n[1, 2]",
    b"POST /v1/sessions/0123456789 HTTP/1.1\r\nContent-Length: 3\r\n\r\n{{{",
    b"POST /v1/sessions/0123456789 HTTP/1.1\r\nContent-Length: 999999\r\n\r\n",
    b"POST /v1/sessions/0123456789 HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/sessions/0123456789 HTTP/1.1\r\n\r\n",
    b"DELETE /v1/device HTTP/1.1\r\n\r\n",
    b"BREW /v1/device HTTP/1.1\r\n\r\n",
    b"GET /v1/device HTTP/9.9\r\n\r\n",
    b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /v1/device HTTP/1.1\r\nOrigin: http://example.org\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xff\xfe\r\n\r\n",
)
"""Requests that are refused."""
STEPS = (
    {},
    {"do": "exec", "code": "1"},
    {"do": "time"},
    {"do": "time", "network": 1, "calls": 10**9, "blocks": 1, "seconds": 1},
    {"do": "time", "network": 1, "calls": 1, "blocks": 1, "seconds": float("nan")},
    {"do": "time", "network": 1, "calls": 1, "blocks": 1, "seconds": "1"},
    {"do": "time", "network": True, "calls": 1, "blocks": 1, "seconds": 1},
    {"do": "load", "network": "/etc/passwd", "batch": 1, "size": 1, "threads": 1},
    {"do": "load", "network": None},
    {"do": "unload", "network": {}},
)
"""Steps that are refused."""


def ask(path, request):
    """Send bytes to a Unix socket, and return the whole answer."""
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(20)
        connected.connect(path)
        with contextlib.suppress(OSError):  # the agent may refuse before it has read everything
            connected.sendall(request)
            connected.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            return connected.makefile("rb").read()
    return b""


def test_nonsense_is_refused_with_one_line_in_the_log(connect, agents, tmp_path):
    """Nothing crashes, nothing is written outside the agent's folder, and each refused request has
    one line in the log.
    """
    rng = random.Random(0)
    damaged = []
    for request in REQUESTS * 3:
        place = rng.randrange(min(len(request), 60))
        damaged.append(request[:place] + bytes([rng.randrange(256)]) + request[place + 1 :])
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    with agents.unix(tmp_path) as (entry, process):
        path = urlsplit(entry.address).path
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
        reader.start()
        for request in REQUESTS:
            assert b'{"error": ' in ask(path, request), request[:80]
        driver = connect(entry)
        with driver.session() as session:
            for step in STEPS:
                url = f"/v1/sessions/{session.name}/steps/1"
                with pytest.raises(client._Refused):
                    driver._request("POST", url, json.dumps(step).encode())
        refused = len(REQUESTS) + len(STEPS)
        for _ in range(100):
            if len(lines) >= refused:
                break
            time.sleep(0.1)
        assert len(lines) == refused, lines
        assert all(line.startswith("refused ") for line in lines)
        for request in damaged:
            ask(path, request + b"\r\n\r\n")
        assert connect(entry).device()["protocol"] == 1
        assert list((tmp_path / "cache/networks").iterdir()) == []
        after = {each for each in tmp_path.rglob("*") if "cache" not in each.parts}
        assert after - before == {tmp_path / "agent.sock"}
        process.terminate()
        process.wait(20)
        reader.join(20)
        assert not [line for line in lines if "Traceback" in line]


def test_too_many_connections_are_refused(connect, agents, tmp_path):
    with agents.unix(tmp_path) as (entry, process):
        path = urlsplit(entry.address).path
        with contextlib.ExitStack() as stack:
            for _ in range(17):
                idle = stack.enter_context(socket.socket(socket.AF_UNIX))
                idle.connect(path)
            assert process.stderr.readline() == "refused a connection: there are too many\n"
        assert connect(entry).device()["protocol"] == 1


def test_the_agent_is_small(agents, tmp_path):
    """Less than 80 MB and a second of CPU time, without ONNX Runtime, which sessions load."""
    with agents.unix(tmp_path) as (_, process):
        status = Path(f"/proc/{process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert int(fields["VmHWM"].split()[0]) < 80_000
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        assert sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") < 1.0


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """A real sshd on a free port, and the command `ssh` that its keys admit.

    It needs Debian's openssh-server, and root, as which it runs here.
    """
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("there is no sshd; on Debian: apt-get install openssh-server")
    if os.getuid() != 0:
        pytest.skip("sshd of this test runs as root")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run(command, check=True)
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "StrictModes": "no",
        "PidFile": folder / "pid",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "yes",
        "UsePAM": "no",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    server = subprocess.Popen(
        [program, "-D", "-e", "-f", folder / "config"], stderr=subprocess.PIPE, text=True
    )
    line = ""
    while "Server listening" not in line:
        line = server.stderr.readline()
        if not line:
            pytest.skip(f"sshd does not start here: it ends with {server.wait()}")
    host_key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    command = f"ssh -F none -i {folder}/user -o UserKnownHostsFile={folder}/known_hosts"
    yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}", command
    server.terminate()
    server.communicate(timeout=20)


@pytest.fixture
def nas(tmp_path, monkeypatch):
    """Run a command of `nas` with an empty device book, and return its output."""
    monkeypatch.setenv(book.BOOK_VARIABLE, str(tmp_path / "devices.json"))

    def run(*words, code=0):
        command = [sys.executable, "-c", "from nas.cli import main; main()", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode in (code, *codes), done.stdout + done.stderr
        return done.stderr if code else done.stdout

    codes = []
    run.also = codes
    return run


def test_a_network_is_measured_through_ssh(agents, tmp_path, sshd, network, monkeypatch):
    """The forward is made for the driver, ends with it, and is made again after it broke."""
    address, command = sshd
    monkeypatch.setenv(connection.SSH_VARIABLE, command)
    with agents.unix(tmp_path) as (entry, _):
        far = Entry(address=address + urlsplit(entry.address).path)
        with RemoteMeter("board", far) as meter:
            figure, blocks = measured(meter, network)
            assert figure.status in USABLE
            assert blocks
            forward = meter._client._route._forward
            forward.send_signal(signal.SIGKILL)
            forward.wait()
            assert measured(meter, network)[1]
            forward = meter._client._route._forward
        assert forward.poll() is not None
    monkeypatch.setattr(client, "RETRY_S", 0.0)
    with pytest.raises(
        DeviceLostError, match=r"is the agent started\? \(on 127.0.0.1: agent.pyz serve --s"
    ):
        RemoteMeter("board", far)


@pytest.mark.usefixtures("impatient")
def test_an_ssh_that_is_refused_says_why(sshd, monkeypatch):
    address, _ = sshd
    monkeypatch.setenv(connection.SSH_VARIABLE, "ssh -F none -o UserKnownHostsFile=/dev/null")
    with pytest.raises(DeviceLostError, match="board does not answer: ssh cannot reach"):
        RemoteMeter("board", Entry(address=address))


@pytest.mark.long
def test_devices_from_the_command_line(agents, tmp_path, nas, network):
    """Add, list, show, measure, ask the doctor, remove."""
    (tmp_path / "x.onnx").write_bytes(network.data)
    measure = ("measure", "x.onnx", "--size", SIZE, "--device", "board")
    assert "no devices in" in nas("device", "list")
    with agents.tcp(tmp_path) as (entry, _):
        address = (entry.address, "--token-file", entry.token_file)
        assert "CPUExecutionProvider" in nas("device", "add", "board", *address)
        assert entry.address in nas("device", "list")
        shown = json.loads(nas("device", "show", "board", "--json"))
        assert shown["facts"]["protocol"] == 1
        assert not differences("device", shown)
        assert not differences("devices", json.loads(nas("device", "list", "--json")))
        assert "energy" in nas("doctor", "--device", "board")
        line = nas(*measure, "--threads", 99, code=2)
        assert "cores, so threads must be at most" in line
        line = nas(*measure, "--runtime", "eager", code=2)
        assert line == (
            "error: board runs networks on ONNX Runtime: take runtime onnxruntime, not eager\n"
        )
        nas.also.append(2)  # beside busy neighbours there is no latency
        figures = {each["metric"]: each for each in json.loads(nas(*measure, "--json"))["figures"]}
        assert figures["peak_memory"]["value"] > 0
        assert figures["latency"]["device"]["details"]["device"] == "board"
    assert nas("device", "add", "other", *address, code=2) == (
        "error: other does not answer: Connection refused; is the agent started? (on this machine: "
        f"agent.pyz serve --port {urlsplit(entry.address).port} --token-file FILE)\n"
    )
    assert nas("device", "remove", "board") == "board removed\n"
    assert nas(*measure, code=2) == "error: no 'board' in devices; there are: cpu, cuda\n"


@pytest.fixture(scope="module")
def openvino_agents(agents, tmp_path_factory):
    """What starts agents whose ONNX Runtime has OpenVINO: a package of its own has it."""
    return type(agents)(tmp_path_factory.mktemp("openvino"), "onnxruntime-openvino")


LOGITS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from osa_nas_agent.worker import load
logits = []
for provider in ("CPUExecutionProvider", "OpenVINOExecutionProvider"):
    path, size = sys.argv[2], int(sys.argv[3])
    command = {"path": path, "batch": 2, "size": size, "threads": 1, "provider": provider}
    run = load(command)
    run()
    logits.append(run._bindings[0].copy_outputs_to_cpu()[0].tolist())
print(json.dumps(logits))
"""
"""Prints what the agent's networks return on the CPU and on OpenVINO."""


@pytest.mark.long
def test_openvino_measures_in_fp32_under_a_class_of_its_own(openvino_agents, tmp_path, network):
    """Its logits are those of the CPU to seven digits: bfloat16 has three. An operation that it
    lacks is an error, since that would run on the CPU.
    """
    with openvino_agents.unix(tmp_path) as (entry, _):
        openvino = replace(entry, provider="OpenVINOExecutionProvider")
        with RemoteMeter("board", entry) as meter:
            cpu, _ = measured(meter, network)
        with RemoteMeter("board", openvino) as meter:
            figure, blocks = measured(meter, network)
            assert figure.status in USABLE
            assert blocks
            with meter.exclusive(), prepare(network, PLAN, meter) as run:
                facts = run.with_runtime(peak_memory(run, meter, PLAN)).details["runtime"]
            assert (facts["provider"], facts["precision"]) == (openvino.provider, "fp32")
            with meter.exclusive(), pytest.raises(TrialFailedError, match="fallback to CPU EP"):
                with prepare(OnnxFile(data=only_on_the_cpu(), name="x"), PLAN, meter):
                    pass
    assert figure.device.device_class.endswith("OpenVINOExecutionProvider")
    assert not same_class(cpu.device.device_class, figure.device.device_class)
    (tmp_path / "x.onnx").write_bytes(network.data)
    command = [openvino_agents.python, "-c", LOGITS, openvino_agents.file, tmp_path / "x.onnx"]
    done = subprocess.run([*map(str, command), str(SIZE)], capture_output=True, check=True, cwd="/")
    on_cpu, on_openvino = np.array(json.loads(done.stdout))
    assert np.abs(on_cpu - on_openvino).max() < 1e-5 * np.abs(on_cpu).max()


def only_on_the_cpu():
    """Return a file with an operation of ONNX Runtime's own, which OpenVINO lacks."""
    from onnx import TensorProto, helper

    shape = ["batch", 3, SIZE, SIZE]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    node = helper.make_node("Inverse", ["x"], ["y"], domain="com.microsoft")
    graph = helper.make_graph([node], "inverse", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def test_the_first_commands_of_the_page_work(agents, tmp_path):
    """`docs/devices.md` opens with a device on this machine. The device's Python is the agent's."""
    page = Path(__file__).parents[2] / "docs/devices.md"
    block = page.read_text().split("```sh\n")[1].split("```")[0]
    programs = tmp_path / "bin"
    programs.mkdir()
    call = "-c 'from nas.cli import main; main()'"
    for name, command in (("nas", f"{sys.executable} {call}"), ("python3", agents.python)):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-umc", block.replace("sleep 3", "until [ -e agent.sock ]; do sleep 0.1; done")],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    for part in ("agent.pyz: ", "here: ", "device lock", "peak memory", "here removed"):
        assert part in done.stdout, done.stdout + done.stderr
