"""The agent's server: JSON over HTTP on the loopback interface or a Unix socket.

    GET    /v1/device                     what the device is and what it can measure
    GET    /v1/networks/SHA256            whether the network is stored
    PUT    /v1/networks/SHA256            store an ONNX file
    POST   /v1/sessions/ID                begin a session, under an id that the driver chose
    POST   /v1/sessions/ID/steps/NUMBER   load, time, look at sensors, measure memory
    GET    /v1/sessions/ID                show that the driver lives
    DELETE /v1/sessions/ID                end the session

Answers to POST are JSON lines: `{"event": "progress"}` once a second while a step runs, then one
`{"event": "done"}` with the result or `{"event": "failed"}` with the reason. A refused request has
a status from 400 on, a JSON object with the reason, and one line in the log. Nothing that a client
sends is executed, and its names never become paths unless they are 64 hexadecimal digits.
"""

from __future__ import annotations

import hmac
import http.server
import importlib.machinery
import json
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Mapping
from urllib.parse import urlsplit

from . import PROTOCOL, host
from .errors import RefusedError
from .sensors import SYS, Sensors
from .sessions import LEASE_S, Session, Sessions, start_worker
from .store import NetworkStore

MAX_JSON_BYTES = 2**16
"""Longest body of a POST."""
MAX_CONNECTIONS = 16
"""Most connections at once."""
IDLE_S = 30.0
"""Longest time to wait for a client's next bytes."""
PROGRESS_S = 1.0
"""Time between two lines of progress."""
FACTS_S = 60.0
"""Longest time to find out what ONNX Runtime can do."""
MAX_BATCH_S = 2
"""Longest batch of blocks, beside its last block."""
MAX_INPUT_BYTES = 2**27
"""Largest input batch."""
NAME = re.compile(r"[A-Za-z0-9-]{8,64}")
"""Ids of sessions."""
MAX_LOGGED = 200
"""Longest part of a request in the log, in characters."""


class Agent:
    """All that the agent's requests work on: device, networks and sessions."""

    def __init__(
        self,
        folder: Path,
        *,
        token: str | None,
        max_bytes: int,
        rails: tuple[str, ...] = (),
        sys_folder: Path = SYS,
        lease_s: float = LEASE_S,
        log: Callable[[str], object],
    ) -> None:
        self.token, self.log = token, log
        self._sys, self._rails = sys_folder, rails
        self.store = NetworkStore(folder / "networks", max_bytes)
        self._identity = f"cpu-{host.machine_identity()[0]}"
        self._settings = {
            "identity": self._identity,
            "sys": str(sys_folder),
            "rails": list(rails),
        }
        self.sessions = Sessions(self._settings, lease_s)
        self._boot = uuid.uuid4().hex
        self._runtime: dict[str, Any] = {}
        self._runtime_files: tuple[Any, ...] | None = None
        self._runtime_lock = threading.Lock()

    def runtime(self) -> dict[str, Any]:
        """Return version and abilities of ONNX Runtime.

        They are found again only if it was installed again, since that takes a second, in which
        another driver may be measuring.
        """
        with self._runtime_lock:
            files = _runtime_files()
            if not self._runtime or files != self._runtime_files:
                self._runtime = _runtime_facts(self._settings)
                self._runtime_files = files
            return self._runtime

    def device(self) -> dict[str, Any]:
        """Return what the device is at present and what it can measure."""
        runtime = self.runtime()
        identity_source = host.machine_identity()[1]
        sensors = Sensors(self._sys, self._rails)
        model = host.read_stripped(Path("/proc/device-tree/model"))
        return {
            "protocol": PROTOCOL,
            "boot": self._boot,
            "identity": self._identity,
            "identity_source": identity_source,
            "name": model.rstrip("\0") if model else host.cpu_name(),
            "gpus": host.gpu_names(),
            "machine": os.uname().machine,
            "cores": os.cpu_count(),
            "usable_cores": host.usable_cores(),
            "power_mode": host.read_stripped(Path("/var/lib/nvpmodel/status")),
            "neighbours": host.host_load() is not None,
            "energy": sensors.energy(),
            "state": sensors.state(),
            "max_network_bytes": self.store.max_bytes,
            **runtime,
            **host.details(),
        }


def _runtime_files() -> tuple[Any, ...] | None:
    """Return what tells this installation of ONNX Runtime from another one; None without any."""
    found = importlib.machinery.PathFinder.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).stat()
    return found.origin, file.st_ino, file.st_mtime_ns


def _runtime_facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of ONNX Runtime from a process that imports it and ends."""
    process = start_worker({**settings, "facts": True})
    try:
        output, _ = process.communicate(timeout=FACTS_S)
        facts: dict[str, Any] = json.loads(output)
    except (subprocess.TimeoutExpired, ValueError) as error:
        process.kill()
        process.communicate()
        raise RefusedError(503, "ONNX Runtime could not be started") from error
    if "error" in facts:
        raise RefusedError(501, facts["error"])
    return facts


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "osa-nas-agent", ""
    timeout = IDLE_S
    wbufsize = -1
    _body_bytes: int | None = None
    """Bytes of the request's body that may be unread, None if its length was not read."""

    def setup(self) -> None:
        """Prepare the connection. Short answers are sent at once."""
        super().setup()
        if self.request.family != socket.AF_UNIX:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer(self._get)

    def do_PUT(self) -> None:
        """Answer PUT."""
        self._answer(self._put)

    def do_POST(self) -> None:
        """Answer POST."""
        self._answer(self._post)

    def do_DELETE(self) -> None:
        """Answer DELETE."""
        self._answer(self._delete)

    def _answer(self, answer: Callable[[list[str]], None]) -> None:
        """Call `answer` with the parts of the path, and answer what it refuses."""
        self._body_bytes = None
        try:
            self._authorize()
            answer(self._parts())
        except RefusedError as error:
            self._refuse(error)
        except OSError as error:
            self.close_connection = True
            self._note(f"the connection broke: {error.__class__.__name__}")
        if self._unread_body():
            self.close_connection = True

    def _parts(self) -> list[str]:
        """Return the parts of the path after the version. Raises `RefusedError`."""
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[0] != "v1":
            raise RefusedError(404, "no such path; the protocol is /v1")
        return parts[1:]

    def _get(self, parts: list[str]) -> None:
        if parts == ["device"]:
            self._json(200, {**self.agent.device(), "busy": self.agent.sessions.busy()})
        elif len(parts) == 2 and parts[0] == "networks":
            self._json(200, {"stored": self.agent.store.holds(parts[1])})
        elif len(parts) == 2 and parts[0] == "sessions":
            session = self.agent.sessions.get(parts[1])
            self._json(200, {"step": session.step, "done": session.answer is not None})
        else:
            raise RefusedError(404, "no such path")

    def _put(self, parts: list[str]) -> None:
        if len(parts) != 2 or parts[0] != "networks":
            raise RefusedError(404, "no such path")
        self.agent.sessions.require_free(self.headers.get("Nas-Session", ""))
        length = self._length()
        self._continue()
        self._body_bytes = 0
        self.agent.store.put(parts[1], self.rfile, length)
        self._json(201, {"bytes": length})

    def _post(self, parts: list[str]) -> None:
        if parts[:1] != ["sessions"] or len(parts) not in (2, 4) or not NAME.fullmatch(parts[1]):
            raise RefusedError(404, "no such path; an id has 8 to 64 letters, digits or hyphens")
        values = self._body()
        if len(parts) == 2:
            self._events(self.agent.sessions.open(parts[1]), 0)
            return
        if parts[2] != "steps" or not re.fullmatch(r"[1-9][0-9]{0,8}", parts[3]):
            raise RefusedError(404, "no such path; steps are numbered from 1")
        session, number = self.agent.sessions.get(parts[1]), int(parts[3])
        session.begin(number, checked(values, self.agent))
        self._events(session, number)

    def _delete(self, parts: list[str]) -> None:
        if len(parts) != 2 or parts[0] != "sessions":
            raise RefusedError(404, "no such path")
        self.agent.sessions.close(parts[1])
        self._json(200, {})

    def _events(self, session: Session, number: int) -> None:
        """Send the events of a step until it is done."""
        answer = session.wait(number, PROGRESS_S)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while answer is None:
            self._chunk({"event": "progress", "step": number})
            if number == 0:
                session.touch()  # the device's lock may be held for long
            try:
                answer = session.wait(number, PROGRESS_S)
            except RefusedError as error:
                answer = {"error": error.reason}
        self._chunk({"event": "failed" if "error" in answer else "done", **answer})
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _chunk(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def _json(self, status: int, values: Mapping[str, Any]) -> None:
        content = json.dumps(values).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _refuse(self, error: RefusedError) -> None:
        self._note(f"{error.status} {error.reason}")
        self.close_connection = True
        try:
            self._json(error.status, {"error": error.reason})
        except OSError:
            return  # the client is gone, and the log has the line

    def _authorize(self) -> None:
        """Raise `RefusedError` for a request without the token, and for a web page's."""
        if self.agent.token is not None:
            given = self.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self.agent.token}".encode()):
                raise RefusedError(401, "wrong or missing token")
        if self.headers.get("Origin"):
            raise RefusedError(403, "web pages may not use the agent")

    def _length(self) -> int:
        """Return the length of the body. Raises `RefusedError` if the client does not say it."""
        text = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not re.fullmatch("[0-9]{1,18}", text):
            raise RefusedError(411, "a request with a body needs its Content-Length")
        self._body_bytes = int(text)
        return int(text)

    def _unread_body(self) -> bool:
        """Return whether bytes of the body may be unread, so that no request can follow."""
        if self._body_bytes is None:
            return bool(self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"))
        return self._body_bytes > 0

    def _body(self) -> dict[str, Any]:
        """Return the JSON object in the body. Raises `RefusedError`."""
        length = self._length()
        if length > MAX_JSON_BYTES:
            raise RefusedError(413, f"a body of {length} bytes; at most {MAX_JSON_BYTES}")
        self._continue()
        content = self.rfile.read(length)
        self._body_bytes = 0
        if len(content) < length:
            raise RefusedError(400, "the body ended too early")
        try:
            values = json.loads(content or b"{}")
        except (ValueError, RecursionError) as error:
            raise RefusedError(400, "the body is not JSON") from error
        if not isinstance(values, dict):
            raise RefusedError(400, "the body is no JSON object")
        return values

    def _continue(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()

    def handle_expect_100(self) -> bool:
        """Return True: the answer follows when the request is known to be allowed."""
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that is no HTTP, or has an unknown method."""
        self._refuse(RefusedError(int(code), message or "this is no request of the protocol"))

    @property
    def agent(self) -> Agent:
        """The agent of the server."""
        agent: Agent = self.server.agent  # type: ignore[attr-defined] # of our own servers
        return agent

    def _note(self, reason: str) -> None:
        request = repr(getattr(self, "requestline", ""))[:MAX_LOGGED]
        self.agent.log(f"refused {request}: {reason[:MAX_LOGGED]}")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        """Log nothing: only refused requests have a line."""


def checked(values: Mapping[str, Any], agent: Agent) -> dict[str, Any]:
    """Return the command of a step, with its network's file. Raises `RefusedError` for anything
    else than the protocol has.
    """
    action = values.get("do")
    if action in ("load", "memory"):
        return {"do": action, **_checked_network(values, agent)}
    if action == "unload":
        return {"do": "unload", "network": _whole(values, "network", 1, 10**6)}
    if action == "time":
        seconds = values.get("seconds")
        if not isinstance(seconds, (int, float)) or not 0 <= seconds <= MAX_BATCH_S:
            raise RefusedError(400, f"seconds must be from 0 to {MAX_BATCH_S}")
        return {
            "do": "time",
            "network": _whole(values, "network", 1, 10**6),
            "calls": _whole(values, "calls", 1, 10**6),
            "blocks": _whole(values, "blocks", 1, 10_000),
            "seconds": seconds,
            "readings": values.get("readings") is True,
        }
    if action == "look":
        return {"do": "look", "readings": values.get("readings") is True}
    raise RefusedError(400, "do must be load, memory, unload, time or look")


def _checked_network(values: Mapping[str, Any], agent: Agent) -> dict[str, Any]:
    """Return a network's file and the conditions under which it runs. Raises `RefusedError`."""
    path = agent.store.path(str(values.get("network")))
    batch, size = _whole(values, "batch", 1, 4096), _whole(values, "size", 1, 4096)
    if 12 * batch * size**2 > MAX_INPUT_BYTES:
        raise RefusedError(400, f"a batch of more than {MAX_INPUT_BYTES} bytes")
    providers = agent.runtime()["providers"]
    if values.get("provider") not in providers:
        raise RefusedError(400, f"provider must be one of {', '.join(providers)}")
    return {
        "path": str(path),
        "batch": batch,
        "size": size,
        "threads": _whole(values, "threads", 1, host.usable_cores()),
        "provider": values["provider"],
    }


def _whole(values: Mapping[str, Any], name: str, lowest: int, highest: int) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise RefusedError(400, f"{name} must be a whole number from {lowest} to {highest}")
    return value


class ServerMixin(socketserver.ThreadingMixIn):
    """A server with a thread for each of a bounded number of connections."""

    daemon_threads = True
    block_on_close = False
    agent: Agent

    def __init__(self, address: Any, agent: Agent) -> None:
        self.agent = agent
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, Handler)  # type: ignore[call-arg] # of the socket server

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread, unless there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.agent.log("refused a connection: there are too many")
            self.shutdown_request(request)  # type: ignore[attr-defined] # of the socket server

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log one line about a connection that broke."""
        error = sys.exc_info()[1]
        self.agent.log(f"refused a request: {type(error).__name__}: {error}"[:MAX_LOGGED])


class TcpServer(ServerMixin, socketserver.TCPServer):
    """The server on the loopback interface."""

    allow_reuse_address = True


class UnixServer(ServerMixin, socketserver.UnixStreamServer):
    """The server on a Unix socket, which only its user may open."""

    _bound: os.stat_result | None = None
    """The file of the socket, None before this server has bound it."""

    def server_bind(self) -> None:
        """Bind the socket. One on which no server listens any more is replaced.

        Raises `ValueError` if another server listens there, or if the file is no socket.
        """
        path = Path(str(self.server_address))
        if path.is_socket():
            if _listens(str(path)):
                raise ValueError(f"another agent listens on {path}")
            path.unlink()
        elif path.exists():
            raise ValueError(f"{path} exists and is no socket; name another path")
        mask = os.umask(0o177)
        try:
            super().server_bind()
        finally:
            os.umask(mask)
        self._bound = path.stat()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return a connection with a client address as the handler expects it."""
        request, _ = super().get_request()
        return request, ("local", 0)

    def server_close(self) -> None:
        """Close the socket and remove its file, unless that is another server's."""
        super().server_close()
        path = Path(str(self.server_address))
        if self._bound and path.exists() and os.path.samestat(path.stat(), self._bound):
            path.unlink()


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True


def serve(server: Any) -> None:
    """Serve until the process is interrupted, then end the session."""
    threading.Thread(target=_expire, args=(server.agent,), daemon=True).start()
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        server.agent.sessions.shut_down()


def _expire(agent: Agent) -> None:
    while True:
        time.sleep(1)
        reason = agent.sessions.expire()
        if reason:
            agent.log(f"ended a session: {reason}")
