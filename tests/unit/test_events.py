"""Events as JSON lines: no output harms the search that writes them."""

import json
import os
import re
import sys
import threading
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
from output_schemas import SCHEMAS

from nas.cli import events
from nas.cli.events import EventLog
from nas.core.errors import NasError

PAGE = Path(__file__).parents[2] / "docs" / "output.md"
BLOCK = re.compile(r"<!-- example: events -->\n```python\n(.*?)```", re.DOTALL)


def event(number: int, **changes: object) -> dict[str, object]:
    """An event with the few values that matter here."""
    names = [key.split(".")[0].split("[")[0] for key in SCHEMAS["event"].keys]
    return {**dict.fromkeys(names), "event": "trial", "trials": number, **changes}


def write(output: Path | str, *numbers: int) -> list[str]:
    """Write events, and return what the user is told."""
    notes: list[str] = []
    log = EventLog(str(output), note=notes.append)
    for number in numbers:
        log.write(event(number))
    log.close()
    return notes


def numbers_in(path: Path) -> list[int]:
    """The events of a file, without a line that was cut off."""
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    return [json.loads(line)["trials"] for line in lines]


def test_a_file_is_continued(tmp_path: Path) -> None:
    """Its folder is made. A line that a full disk cut off is ended before the next one."""
    path = tmp_path / "new" / "events.jsonl"
    assert write(path, 0, 1) == []
    with path.open("a") as file:
        file.write('{"schema": "ev')
    assert write(path, 2) == []
    assert numbers_in(path) == [0, 1, 2]


def test_without_an_event_nothing_is_written(tmp_path: Path) -> None:
    """A study file with a mistake leaves no file behind."""
    assert write(tmp_path / "events.jsonl") == []
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    """It is refused before the search."""
    path = tmp_path / "study.yaml"
    path.write_text("name: mine\n")
    with pytest.raises(NasError, match="is not a file of events"):
        EventLog(str(path))
    assert path.read_text() == "name: mine\n"


def test_a_full_disk_is_one_line() -> None:
    """However many events follow."""
    (note,) = write("/dev/full", *range(50))
    assert note == "events are no longer written to /dev/full: No space left on device"


def test_a_reader_that_goes_is_one_line(tmp_path: Path) -> None:
    """It reads one line of a named pipe and leaves."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    first: list[str] = []

    def read() -> None:
        with path.open() as pipe:
            first.append(pipe.readline())

    reader = threading.Thread(target=read)
    reader.start()
    notes: list[str] = []
    log = EventLog(str(path), note=notes.append)
    log.write(event(0))
    reader.join()
    log.write(event(1))
    log.close()
    assert json.loads(first[0])["trials"] == 0
    assert notes == [f"events are no longer written to {path}: Broken pipe"]


def test_a_pipe_without_a_reader_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events come than can wait, and the end is not delayed either."""
    monkeypatch.setattr(events, "MAX_WAITING", 3)
    monkeypatch.setattr(events, "CLOSING_TIME_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    (note,) = write(tmp_path / "pipe", *range(10))
    assert "too slow" in note


def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are those of complete trials. With TensorBoard it writes them."""
    trial = {
        "trial": 3,
        "state": "complete",
        "figures": [
            {"metric": "latency", "unit": "s", "value": 0.002},
            {"metric": "energy", "unit": "J", "value": None},
        ],
        "rungs": [{"metrics": {"error": 0.5}}, {"metrics": {"error": 0.25}}],
    }
    lines = [
        json.dumps(event(0, event="begun")),
        json.dumps(event(4, hypervolume=0.5, trial=trial)),
        json.dumps(event(5, trial={**trial, "state": "running"})),
    ]
    (code,) = BLOCK.findall(PAGE.read_text())
    assert len(code.splitlines()) < 35
    names = {"__name__": "board"}
    exec(code, names)  # noqa: S102 - the page's own example
    assert list(names["scalars"](lines)) == [  # type: ignore[operator]
        ("hypervolume", 0.5, 4),
        ("latency (s)", 0.002, 3),
        ("error", 0.25, 3),
    ]
    if find_spec("tensorboard"):
        monkeypatch.setattr(sys, "argv", ["board.py", str(tmp_path / "runs")])
        monkeypatch.setattr(sys, "stdin", StringIO("\n".join(lines)))
        exec(code, {"__name__": "__main__"})  # noqa: S102
        assert list((tmp_path / "runs").glob("events.*"))
