"""The views in a real terminal (tmux) of 80 and of 160 columns."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from nas.core.trial import Evaluation, TrialState
from nas.record import Store
from nas.testing.sample_records import architecture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here"),
]
PROMPT = "[ready]"
PATIENCE_S = 60


class Terminal:
    """A tmux session in a server of its own, with one window and a shell without colours."""

    def __init__(self, columns, folder):
        self._socket, self.columns = f"nas-{uuid4().hex[:8]}", columns
        self._tmux(
            "new-session",
            "-d",
            "-x",
            str(columns),
            "-y",
            "60",
            "-c",
            str(folder),
            f"PS1='{PROMPT} ' sh",
        )

    def type(self, line):
        """Type a line and press Enter."""
        self._tmux("send-keys", line, "Enter")

    def press(self, key):
        """Press one key, such as C-c."""
        self._tmux("send-keys", key)

    def screen(self):
        """Return the lines on the screen."""
        return self._tmux("capture-pane", "-p").rstrip().splitlines()

    def when(self, condition):
        """Return the screen as soon as it fulfils the condition."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if condition(lines := self.screen()):
                return lines
            time.sleep(0.1)
        pytest.fail("this is still on the screen:\n" + "\n".join(self.screen()))

    def run(self, command):
        """Run a command to its end and return its output."""
        end = f"end {uuid4().hex[:8]}"
        self.type(f"clear; {command}; echo {end}")
        lines = self.when(lambda lines: end in lines)
        return lines[: lines.index(end)]

    def close(self):
        self._tmux("kill-server")

    def _tmux(self, *words):
        done = subprocess.run(
            ["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=True
        )
        return done.stdout


@pytest.fixture(params=[80, 160])
def terminal(request, record):
    made = Terminal(request.param, record.parent)
    made.when(lambda lines: lines and lines[-1].strip() == PROMPT)
    yield made
    made.close()


NAS = Path(sys.executable).with_name("nas")


def test_status_front_and_show_fit_the_terminal(terminal):
    """No word is cut or broken over two lines, and no line is wider than the terminal."""
    status = terminal.run(f"{NAS} status")
    assert any(line.split()[:1] == ["pages"] for line in status)
    front = terminal.run(f"{NAS} front pages")
    heading = next(line for line in front if "latency" in line)
    assert heading.split()[:3] == ["trial", "error", "latency"]
    shown = terminal.run(f"{NAS} show pages:0")
    assert any("stage2" in line or "stage 2" in line for line in shown)
    assert "…" not in "".join([*status, *front, *shown])
    assert max(len(line) for line in [*status, *front, *shown]) <= terminal.columns


def test_watch_stays_until_ctrl_c(terminal, record, tmp_path):
    """It shows the study, and the worker that begins meanwhile. The prompt is back at once."""
    database = shutil.copy(record, tmp_path)
    terminal.type(f"clear; {NAS} status pages --watch --database {database}")
    terminal.when(lambda lines: any("no search is running" in line for line in lines))
    with Store.open(database) as store, store.claim("pages"):
        last = store.trials("pages")[-1]
        worker = "a-machine-with-a-long-name-in-a-rack:1234567"
        store.add_trial(
            "pages",
            replace(
                last,
                number=last.number + 1,
                state=TrialState.RUNNING,
                worker=worker,
                architecture=architecture(),
                evaluation=Evaluation(),
                finished_at=None,
            ),
        )
        screen = terminal.when(lambda lines: any("at work: process" in line for line in lines))
    assert (
        len([line for line in screen if line.startswith("pages: ")]) == 1
    )  # each view takes the place of the last
    shown = " ".join(" ".join(screen).split())
    assert f"trial {last.number + 1}" in shown
    assert "counting" in shown
    assert worker in shown.replace(" ", "") if terminal.columns == 80 else worker in shown
    assert max(map(len, screen)) <= terminal.columns
    terminal.press("C-c")
    screen = terminal.when(lambda lines: lines and lines[-1].strip() == PROMPT)
    assert "Traceback" not in "".join(screen)
