"""Sessions: one driver's exclusive use of the device, by a process of its own.

A session has an id that the driver chose, and numbered steps. A repeated request for the session or
for its last step returns what the first one did, so that a cut connection repeats no measurement. A
session without requests for `LEASE_S` ends, and so does one whose step takes longer than
`STEP_LIMIT_S`.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Mapping

from .errors import RefusedError

LEASE_S = 15.0
"""Longest time without a request before a session ends, by default."""
STEP_LIMIT_S = 120.0
"""Longest time of one step, which may load a large network."""
SHUTDOWN_S = 2.0
"""Time for a session's process to end by itself."""
MAX_ENDED = 1000
"""Number of ended sessions that are remembered."""

BUSY, GONE, CONFLICT = 409, 410, 412
"""HTTP statuses: another session holds the device; the session has ended; the step does not
follow the last one.
"""


def start_worker(settings: Mapping[str, Any]) -> subprocess.Popen[str]:
    """Start a measuring process with these settings.

    It runs networks in fp32. NVIDIA's libraries would multiply in TF32, which ONNX Runtime's own
    option prevents on CUDA from version 1.18 on, and on TensorRT in no version.
    """
    package = __package__ or ""
    root = Path(__file__).parents[len(package.split("."))]
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]); "
        "importlib.import_module(sys.argv[2]).main()"
    )
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-c", code, str(root), f"{package}.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env={**os.environ, "NVIDIA_TF32_OVERRIDE": "0"},
    )
    _write(process, settings)
    return process


def _write(process: subprocess.Popen[str], values: Mapping[str, Any]) -> None:
    """Write a line to the process. One that has ended is noticed by its output."""
    with contextlib.suppress(OSError, ValueError):
        if process.stdin is not None:
            process.stdin.write(json.dumps(values) + "\n")
            process.stdin.flush()


class Session:
    """The process of one session, with the number and the answer of its last step. Step 0 opens
    it.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], lease_s: float) -> None:
        self.name, self._lease_s = name, lease_s
        self.step = 0
        self.answer: dict[str, Any] | None = None
        self.ended = False
        self._closed, self._too_slow = "", False
        self.changed = threading.Condition()
        self.began_s = self._touched_s = self._step_s = time.monotonic()
        self._process = start_worker(settings)
        threading.Thread(target=self._read, daemon=True).start()

    def touch(self) -> None:
        """Note a sign of life of the driver."""
        self._touched_s = time.monotonic()

    def begin(self, number: int, command: Mapping[str, Any]) -> None:
        """Begin step `number` unless it has begun. Raises `RefusedError` for any other number than
        the last or the next.
        """
        with self.changed:
            self.touch()
            if number == self.step:
                return
            if number != self.step + 1 or self.answer is None:
                raise RefusedError(
                    CONFLICT, f"step {number} does not follow step {self.step}, or that still runs"
                )
            if self.ended:
                raise RefusedError(GONE, "this session has ended")
            self.step, self.answer = number, None
            self._step_s = time.monotonic()
            _write(self._process, command)

    def wait(self, number: int, seconds: float) -> dict[str, Any] | None:
        """Return the answer of a step, None if it is not there after these seconds.

        Raises `RefusedError` if another step has begun meanwhile.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.answer is not None or self.step != number, seconds)
            if self.step != number:
                raise RefusedError(CONFLICT, f"step {self.step} has begun meanwhile")
            return self.answer

    def overdue(self) -> str:
        """Return why the session must end; empty if it need not."""
        now_s = time.monotonic()
        if self.ended:
            return "its process has ended"
        if self.answer is not None or self.step == 0:
            silent = now_s > self._touched_s + self._lease_s
            return f"no request for {self._lease_s:.0f} s" if silent else ""
        self._too_slow = now_s > self._step_s + STEP_LIMIT_S
        return f"a step took more than {STEP_LIMIT_S:.0f} s" if self._too_slow else ""

    def close(self, reason: str = "") -> None:
        """End the process, kindly at first. A step that runs is lost for this reason."""
        self._closed = reason or "the session was closed"
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(0 if reason else SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._end()

    def _read(self) -> None:
        """Take the answers of the process until it ends."""
        with self._process.stdout or contextlib.nullcontext(()) as lines:
            for line in lines:
                with self.changed:
                    self._touched_s = time.monotonic()
                    self.answer = json.loads(line)
                    self.changed.notify_all()
        self._process.wait()
        self._end()

    def _end(self) -> None:
        """Answer the step that runs. It is lost if the session was closed, and has failed if it
        took too long or ended the process.
        """
        code = self._process.returncode
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        with self.changed:
            if not self.ended:
                self.ended = True
                if self.answer is None:
                    reason = self._closed or f"the measuring process ended {how}"
                    self.answer = {
                        "error": reason,
                        "lost": bool(self._closed) and not self._too_slow,
                    }
                self.changed.notify_all()


class Sessions:
    """The session that holds the device, if there is one."""

    def __init__(self, settings: Mapping[str, Any], lease_s: float = LEASE_S) -> None:
        self._settings, self._lease_s = settings, lease_s
        self._current: Session | None = None
        self._ended: collections.deque[str] = collections.deque(maxlen=MAX_ENDED)
        self._lock = threading.Lock()

    def open(self, name: str) -> Session:
        """Return the session of this name, and begin it if it is new.

        Raises `RefusedError` if another one holds the device, or if this one has ended.
        """
        with self._lock:
            self._expire()
            if self._current is not None and self._current.name == name:
                self._current.touch()
                return self._current
            self.require_free(name)
            if name in self._ended:
                raise RefusedError(GONE, f"session {name} has ended")
            self._current = Session(name, self._settings, self._lease_s)
            return self._current

    def get(self, name: str) -> Session:
        """Return the session of this name. Raises `RefusedError` if it does not hold the device."""
        with self._lock:
            if self._current is None or self._current.name != name:
                raise RefusedError(GONE, f"no session {name} holds the device")
            self._current.touch()
            return self._current

    def require_free(self, name: str) -> None:
        """Raise `RefusedError` if another session than this one holds the device."""
        if reason := self.busy(name):
            raise RefusedError(BUSY, f"busy: {reason}")

    def busy(self, name: str = "") -> str:
        """Return who else than the session of this name holds the device; empty if nobody does."""
        current = self._current
        if current is None or current.name == name:
            return ""
        return f"another driver has measured for {time.monotonic() - current.began_s:.0f} s"

    def close(self, name: str) -> None:
        """End the session of this name. An ended or unknown one is no error."""
        with self._lock:
            if self._current is not None and self._current.name == name:
                self._finish("")

    def expire(self) -> str:
        """End the session if it is overdue, and return why; empty if it was not."""
        with self._lock:
            return self._expire()

    def shut_down(self) -> None:
        """End the session whatever it does."""
        with self._lock:
            if self._current is not None:
                self._finish("the agent ends")

    def _expire(self) -> str:
        reason = self._current.overdue() if self._current is not None else ""
        if reason:
            self._finish(reason)
        return reason

    def _finish(self, reason: str) -> None:
        session, self._current = self._current, None
        if session is not None:
            self._ended.append(session.name)
            session.close(reason)
