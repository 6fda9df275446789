"""The live view of `nas search`: a real, tiny search in a pseudo terminal of 80 columns."""

import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

COLUMNS = 80
STUDY = """
name: tiny
space: osa_tiny
sampler: random
objectives:
  - {metric: error, reference: 95 %}
  - {metric: parameters, reference: 100 k}
rungs: {epochs: [0.1, 0.2]}
data: {dataset: digits, validation_images: 200}
training: {batch_size: 64, precision: fp32, channels_last: false}
budget: {trials: 3}
workers: {kind: local}
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What moves the cursor, erases and colours."""
OVERRULES = {"COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}


class Screen(NamedTuple):
    """All lines that were drawn, also those drawn over, and the exit code."""

    lines: list[str]
    code: int

    def having(self, *words: str) -> list[str]:
        """Return the lines with all of these words."""
        return [line for line in self.lines if all(word in line for word in words)]


def on_a_terminal(words: list[str], folder: Path, term: str = "xterm-256color") -> Screen:
    """Run `nas` with these words with a terminal as its input and output."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, COLUMNS))
    environment = {key: value for key, value in os.environ.items() if key not in OVERRULES}
    with subprocess.Popen(
        [sys.executable, "-c", "from nas.cli import main; main()", *words],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": term, "PYTHONUTF8": "1"},
    ) as process:
        os.close(theirs)
        drawn = b""
        with suppress(OSError):  # Linux's way to say that the other end is closed
            while part := os.read(ours, 65536):
                drawn += part
        os.close(ours)
        code = process.wait(timeout=60)
    return Screen(re.split(r"[\r\n]+", CONTROL.sub("", drawn.decode())), code)


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """The search from its first line to its last."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "study.yaml").write_text(STUDY)
    return on_a_terminal(["search", "study.yaml"], folder)


@pytest.mark.slow
def test_ends_without_an_error(screen):
    """The exit code is 0, and there is no traceback."""
    assert screen.code == 0, screen.lines
    assert screen.having("Traceback") == screen.having("error:") == []


@pytest.mark.slow
def test_progress_is_drawn_from_the_first_trial_to_the_last(screen):
    """The bar has counts, the hypervolume and the clock. There is no line for each trial, as in a
    file.
    """
    assert screen.having("━━━", "0 of 3 trials")
    assert screen.having("━━━", "3 of 3 trials")
    assert screen.having("hypervolume", "█")
    assert screen.having("searched", "left")
    assert screen.having("[1/3]") == []


@pytest.mark.slow
def test_ends_with_the_front_and_the_next_commands(screen):
    """They remain on the screen after the live view."""
    last = list(
        takewhile(lambda line: not line.startswith("finished after "), reversed(screen.lines))
    )[::-1]
    assert (
        len(
            [line for line in last if line.startswith("front of tiny after 3 trials, hypervolume ")]
        )
        == 1
    )
    members = [line.split()[0] for line in last if re.match(r" +\d+ ", line)]
    shown = [line.split(":")[1] for line in last if line.startswith("  nas show tiny:")]
    assert len(shown) == 1
    assert shown[0] in members
    assert [line.split()[:3] for line in last if line.startswith("  nas ")] == [
        ["nas", "front", "tiny"],
        ["nas", "show", f"tiny:{shown[0]}"],
        ["nas", "export", "tiny"],
    ]


@pytest.mark.slow
def test_fits_the_terminal(screen):
    """A longer line would be broken, and the live view would leave parts of itself behind."""
    assert [line for line in screen.lines if len(line) > COLUMNS] == []


@pytest.mark.slow
def test_a_terminal_that_cannot_be_drawn_over_gets_a_line_for_each_trial(tmp_path):
    """A shell in Emacs is one. There is nothing to watch on it."""
    (tmp_path / "study.yaml").write_text(STUDY)
    screen = on_a_terminal(["search", "study.yaml"], tmp_path, "dumb")
    assert screen.code == 0, screen.lines
    assert [len(screen.having(f"[{number}/3] trial")) for number in (1, 2, 3)] == [1, 1, 1]
    watched = on_a_terminal(["status", "--watch"], tmp_path, "dumb")
    assert watched.code == 2
    assert watched.having("error: --watch needs a terminal that can be drawn over")
