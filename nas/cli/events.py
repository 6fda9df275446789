"""Events of a search as JSON lines, for programs that watch it: `nas search --events`.

A thread of its own writes them, and the search waits for nothing that happens to their output: a
reader that is slow or gone, a full disk, a closed pipe. What is lost there is in the record.
"""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Full, Queue
from typing import Any

import click

from nas.cli.files import OutputKind, check_outputs
from nas.cli.json_output import json_text
from nas.core.errors import NasError

EVENT_FILE = OutputKind(
    name="file of events",
    command="nas search --events",
    format="csv",
    header=r'\{"schema": "event", .*',
)
STDOUT = "-"
"""The output that stands for standard output."""
MAX_WAITING = 1000
"""Events that wait for a slow reader; further ones are lost."""
CLOSING_TIME_S = 5.0
"""Seconds in which a reader can take the last events after the search."""


def event_file(output: str | None) -> Path | None:
    """Return the file that an output of events names, None for standard output or a named pipe. To
    open a pipe would wait for its reader.
    """
    if output is None or output == STDOUT or Path(output).is_fifo():
        return None
    return Path(output)


class EventLog:
    """Writes events to a file, which is continued if it is there, or to standard output.

    Raises `NasError` if the file holds anything but events, or if there is no standard output.
    """

    def __init__(self, output: str, *, note: Callable[[str], object] | None = None) -> None:
        self._output = output
        self._note = note or (lambda line: click.echo(line, err=True))
        self._lines: Queue[bytes | None] = Queue(MAX_WAITING)
        self._problem = ""
        self._lost = 0
        if output == STDOUT:
            if sys.stdout is None:
                raise NasError("--events -: standard output is closed")
            self._open: Callable[[], int] = partial(os.dup, sys.stdout.fileno())
        else:
            check_outputs([(event_file(output), EVENT_FILE)])
            self._open = partial(_opened, Path(output))
        self._thread = threading.Thread(target=self._write_lines, daemon=True)
        self._thread.start()

    def write(self, facts: dict[str, Any]) -> None:
        """Add an event, or drop it if its output takes no more."""
        if self._problem:
            self._report()
            return
        try:
            self._lines.put_nowait(f"{json_text('event', facts)}\n".encode())
        except Full:
            self._lost += 1

    def close(self) -> None:
        """Wait a few seconds until all events are written, and report what was lost."""
        with suppress(Full):
            self._lines.put(None, timeout=CLOSING_TIME_S)
            self._thread.join(CLOSING_TIME_S)
        self._lost += max(self._lines.qsize() - 1, 0)
        if self._problem:
            self._report()
        elif self._thread.is_alive() or self._lost:
            self._note(f"events: the reader of {self._output} was too slow, so some are lost there")

    def _report(self) -> None:
        if self._problem != "reported":
            self._note(f"events are no longer written to {self._output}: {self._problem}")
            self._problem = "reported"

    def _write_lines(self) -> None:
        try:
            descriptor = None
            while (line := self._lines.get()) is not None:
                if descriptor is None:
                    descriptor = self._open()
                while line:
                    line = line[os.write(descriptor, line) :]
            if descriptor is not None:
                os.close(descriptor)
        except OSError as error:
            self._problem = error.strerror or str(error)


def _opened(path: Path) -> int:
    """Open a file at its end, with its folders. A line that a full disk cut off is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                os.write(descriptor, b"\n")
    return descriptor
