"""HTTP connections to an agent: over loopback, a Unix socket, or a forward that ssh makes.

`ssh` is started without a terminal, so its keys must work without questions. Variable NAS_SSH is
the command to use in place of `ssh`, with its options.
"""

import http.client
import os
import shlex
import socket
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nas.agent.command import PORT
from nas.agent.host import end_with_parent
from nas.core.errors import DeviceLostError
from nas.measuring.devices.book import Entry

SSH_VARIABLE = "NAS_SSH"
CONNECT_S = 10.0
"""Longest time to connect, and for ssh to make its forward."""
READ_S = 30.0
"""Longest silence of an agent, which sends progress every second."""
SSH_OPTIONS = {
    "BatchMode": "yes",
    "ExitOnForwardFailure": "yes",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "StreamLocalBindUnlink": "yes",
}


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=READ_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CONNECT_S)
        self.sock.connect(self._path)
        self.sock.settimeout(self.timeout)


class Route:
    """The way to one agent. The forward of ssh is made when it is needed, and again if it broke."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._forward: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def connection(self) -> http.client.HTTPConnection:
        """Return a new connection, which connects at its first request. Raises `OSError`, and
        `DeviceLostError` if ssh cannot reach the device.
        """
        parts = urlsplit(self._entry.address)
        if parts.scheme == "unix":
            return UnixConnection(unquote(parts.path))
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=READ_S)
        return UnixConnection(self._forwarded())

    @property
    def expected(self) -> str:
        """How the agent must have been started, and where."""
        parts = urlsplit(self._entry.address)
        host = f"on {parts.hostname}" if parts.scheme == "ssh" else "on this machine"
        if parts.scheme == "http" or not parts.path.strip("/"):
            port = f" --port {parts.port}" if parts.scheme == "http" else ""
            return f"{host}: agent.pyz serve{port} --token-file FILE"
        return f"{host}: agent.pyz serve --socket {unquote(parts.path)}"

    def close(self) -> None:
        """End ssh."""
        if self._forward is not None:
            self._forward.terminate()
            self._forward.wait()
            self._forward = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _forwarded(self) -> str:
        """Return the local socket of ssh's forward."""
        if self._forward is not None and self._forward.poll() is not None:
            self.close()
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="osa-nas-")
        path = Path(self._folder.name) / "agent"
        if self._forward is None:
            self._forward = self._start(path)
        return str(path)

    def _start(self, path: Path) -> subprocess.Popen[bytes]:
        parts = urlsplit(self._entry.address)
        far = unquote(parts.path) if parts.path.strip("/") else f"127.0.0.1:{PORT}"
        options = [word for each in SSH_OPTIONS.items() for word in ("-o", "=".join(each))]
        host = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
        command = [
            *shlex.split(os.environ.get(SSH_VARIABLE, "ssh")),
            *options,
            *(["-p", str(parts.port)] if parts.port else []),
            *("-N", "-L", f"{path}:{far}", "--", host),
        ]
        output = path.with_name("output")
        try:
            with output.open("wb") as file:
                process = subprocess.Popen(  # noqa: S603 - the user's own ssh
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    # a forward that ends too early is made again
                    preexec_fn=partial(end_with_parent, os.getpid()),  # noqa: PLW1509 - two calls
                )
        except OSError as error:
            raise DeviceLostError(f"{command[0]} cannot be started: {error.strerror}") from error
        end_s = time.monotonic() + CONNECT_S
        while not path.exists():
            if process.poll() is not None or time.monotonic() > end_s:
                process.kill()
                process.wait()
                lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                reason = lines[-1] if lines else "it does not answer"
                raise DeviceLostError(f"ssh cannot reach {host}: {reason}")
            time.sleep(0.02)
        return process
