"""The driver's side of the agent's protocol (`nas.agent.server`).

A request that a cut connection loses is repeated for `RETRY_S` after the cut. Sessions and their
steps have ids and numbers, so that the agent answers a repeated one with the first result and
measures nothing twice.
"""

import contextlib
import hashlib
import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Self

from nas.agent import PROTOCOL
from nas.core.errors import (
    DeviceLostError,
    InvalidValueError,
    NasError,
    TrialFailedError,
    UnavailableError,
)
from nas.measuring.devices.book import Entry
from nas.measuring.devices.connection import Route

RETRY_S = 10.0
"""Longest time in which a request is repeated after a cut, until the agent answers again."""
RETRY_PAUSE_S = 0.2
KEEP_ALIVE_S = 4.0
"""Time between two signs of life while no step runs."""
BUSY_PAUSE_S = 1.0
"""Pause before a busy device is asked again."""
BUSY_S = 600.0
"""Longest time to wait for a device that measures for another driver."""
UNAUTHORIZED, BUSY, GONE, CONFLICT, OVERLOADED = 401, 409, 410, 412, 503


class _Refused(Exception):  # noqa: N818 - an answer, which the caller interprets
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Client:
    """Speaks with one agent. Threads may share it: they take turns."""

    def __init__(self, name: str, entry: Entry, retry_s: float | None = None) -> None:
        self.name, self._token = name, entry.token()
        self._retry_s = RETRY_S if retry_s is None else retry_s
        self._route = Route(entry)
        self._connection: http.client.HTTPConnection | None = None
        self._answered = False
        """True once the agent has sent a line of its answer to the present request."""
        self._turn = threading.Lock()

    def device(self) -> dict[str, Any]:
        """Return the device's facts.

        Raises `DeviceLostError` if it does not answer, `InvalidValueError` for a wrong token or
        another version of the protocol.
        """
        facts = self._final("GET", "/v1/device")
        if facts.get("protocol") != PROTOCOL:
            raise InvalidValueError(
                f"the agent on {self.name} speaks protocol {facts.get('protocol')}, and this is "
                f"osa-nas with protocol {PROTOCOL}; copy the agent of `nas device agent` there"
            )
        return facts

    def put_network(self, data: bytes, session: str) -> str:
        """Send a network, unless the device has it, and return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self._final("GET", f"/v1/networks/{digest}")["stored"]:
            headers = {"Nas-Session": session}
            self._final("PUT", f"/v1/networks/{digest}", data, headers)
        return digest

    @contextlib.contextmanager
    def session(self) -> Iterator["Session"]:
        """Hold the device in a session.

        Waits while it measures for another driver, for at most `BUSY_S`. Raises `DeviceLostError`
        after that, so that a search asks again.
        """
        session = Session(self, str(uuid.uuid4()))
        self._open(session.name)
        stopped = threading.Event()
        alive = threading.Thread(target=session.keep_alive, args=(stopped,), daemon=True)
        alive.start()
        try:
            yield session
        finally:
            stopped.set()
            alive.join()
            # a device that is gone ends the session by itself
            with contextlib.suppress(DeviceLostError):
                self._final("DELETE", f"/v1/sessions/{session.name}")

    def _open(self, name: str) -> None:
        end_s = time.monotonic() + BUSY_S
        while True:
            try:
                answer = self._request("POST", f"/v1/sessions/{name}", b"{}")
            except _Refused as error:
                if error.status != BUSY:
                    raise self._translated(error) from error
                if time.monotonic() > end_s:
                    raise DeviceLostError(f"{self.name} is {error.reason}") from error
                time.sleep(BUSY_PAUSE_S)
                continue
            if "error" in answer:
                kind = DeviceLostError if answer.get("lost") else UnavailableError
                raise kind(f"{self.name}: {answer['error']}")
            return

    def step(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Do a step of a session and return its result.

        Raises `TrialFailedError` if the network fails, `DeviceLostError` if the session ended.
        """
        answer = self._final("POST", path, json.dumps(values).encode())
        if "error" in answer:
            kind = DeviceLostError if answer.get("lost") else TrialFailedError
            raise kind(f"{self.name}: {answer['error']}")
        return answer

    def touch(self, session: str) -> None:
        """Show that the driver of a session lives, unless a request runs already."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            self._once("GET", f"/v1/sessions/{session}", None, {})
        except (OSError, http.client.HTTPException, EOFError, _Refused, UnavailableError):
            self._drop()  # the next step finds out
        finally:
            self._turn.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._drop()
        self._route.close()

    def _final(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the answer. Raises one of our errors if the agent refuses."""
        try:
            return self._request(method, path, body, headers)
        except _Refused as error:
            raise self._translated(error) from error

    def _translated(self, refused: _Refused) -> NasError:
        line = f"{self.name}: {refused.reason}"
        if refused.status == UNAUTHORIZED:
            return InvalidValueError(f"{line}; give the agent's token with --token-file")
        if refused.status in (GONE, CONFLICT):
            return DeviceLostError(f"{line}; the measurement was cut off")
        return UnavailableError(line)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the last JSON line of the answer; repeat the request if the connection breaks.

        Raises `_Refused`, and `DeviceLostError` if the agent sends nothing for `RETRY_S` after a
        cut.
        """
        end_s: float | None = None
        while True:
            with self._turn:
                try:
                    return self._once(method, path, body, headers or {})
                except (OSError, http.client.HTTPException, EOFError, DeviceLostError) as error:
                    self._drop()
                    if end_s is None or self._answered:
                        end_s = time.monotonic() + self._retry_s
                    if time.monotonic() > end_s:
                        raise self._lost(error) from error
            time.sleep(RETRY_PAUSE_S)

    def _lost(self, error: Exception) -> DeviceLostError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if not isinstance(error, DeviceLostError):  # ssh, if any, reached the host
            reason += f"; is the agent started? ({self._route.expected})"
        return DeviceLostError(f"{self.name} does not answer: {reason}")

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        self._answered = False
        if self._connection is None:
            self._connection = self._route.connection()
        credentials = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._connection.request(method, path, body, {**headers, **credentials})
        with self._connection.getresponse() as response:
            last = b""
            while line := response.readline():
                last = line
                self._answered = line.endswith(b"\n") and response.status < 400
        if not last.endswith(b"\n"):
            if response.length == 0:  # whole, and no line of the agent
                raise self._foreign()
            raise EOFError("the answer was cut off")
        answer = self._read(last)
        if response.will_close:
            self._drop()
        if response.status >= 400:
            if response.status == OVERLOADED:
                raise OSError(answer.get("error", "overloaded"))
            raise _Refused(response.status, str(answer.get("error", response.reason)))
        if answer.get("event") == "progress":
            raise EOFError("the answer was cut off")
        return answer

    def _read(self, line: bytes) -> dict[str, Any]:
        """Return the object in a JSON line. Raises `UnavailableError` if it is none."""
        with contextlib.suppress(ValueError):
            if isinstance(answer := json.loads(line), dict):
                return answer
        raise self._foreign()

    def _foreign(self) -> UnavailableError:
        """Return the error for an answer that is not the agent's."""
        self._drop()
        return UnavailableError(
            f"{self.name}: another program than the agent answers at its address; start the agent "
            f"{self._route.expected}"
        )

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Session:
    """One session: its id, and the number of its last step."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self.name, self._step = client, name, 0

    def step(self, **values: Any) -> dict[str, Any]:
        """Do the next step and return its result. Raises the errors of `Client.step`."""
        self._step += 1
        return self._client.step(f"/v1/sessions/{self.name}/steps/{self._step}", values)

    def load(self, action: str, data: bytes, **conditions: Any) -> dict[str, Any]:
        """Send a network and do a step with it."""
        digest = self._client.put_network(data, self.name)
        return self.step(do=action, network=digest, **conditions)

    def keep_alive(self, stopped: threading.Event) -> None:
        """Show that the driver lives until the session ends. A step that runs shows it too."""
        while not stopped.wait(KEEP_ALIVE_S):
            with contextlib.suppress(DeviceLostError):
                self._client.touch(self.name)
