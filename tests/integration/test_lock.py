"""The device lock between real processes."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from nas.agent.lock import lock_folder
from nas.core.errors import UnavailableError
from nas.measuring.meters.lock import DeviceLock, Holders, Use

TRAINER = """
import sys, time
from pathlib import Path
from nas.measuring.meters.lock import DeviceLock
with DeviceLock("GPU-1", Path(sys.argv[1])).training() as training:
    print("in", flush=True)
    while True:
        step_end_s = time.monotonic() + 0.05
        while time.monotonic() < step_end_s:
            pass
        if training.step_aside():
            print("aside", flush=True)
"""
HOLDER = """
import sys, time
from pathlib import Path
from nas.measuring.meters.lock import DeviceLock
with DeviceLock("GPU-1", Path(sys.argv[1])).exclusive():
    print("in", flush=True)
    time.sleep(60)
"""
OTHER_USER = """
import os
from nas.measuring.meters.lock import DeviceLock
if os.getuid() == 0:
    os.setuid(65534)
"""
REQUEST = """
import sys
from pathlib import Path
try:
    DeviceLock("GPU-1", Path(sys.argv[1])).exclusive().__enter__()
except Exception as error:
    print(error)
"""
PATIENT = """
import sys
from pathlib import Path
from nas.agent import lock
lock.NOTICE_AFTER_S = 0.0
with lock.exclusive("GPU-1", Path(sys.argv[1])):
    print("in", flush=True)
"""
COUNTER = """
import sys, time
from pathlib import Path
from nas.measuring.meters.lock import DeviceLock
counter = Path(sys.argv[2])
for _ in range(50):
    with DeviceLock("GPU-1", Path(sys.argv[1])).exclusive():
        value = int(counter.read_text())
        time.sleep(0.0005)
        counter.write_text(str(value + 1))
"""


@contextlib.contextmanager
def process(code, *arguments):
    """Run the code in a child process, which is killed at the end."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as child:
        try:
            yield child
        finally:
            child.kill()


def test_measurements_exclude_each_other(tmp_path):
    """Three processes that each read, wait and write a number 50 times lose no count."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(process(COUNTER, tmp_path, counter)) for _ in range(3)]
        assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    assert counter.read_text() == "150"


def test_a_measurement_is_not_starved_by_two_busy_trainers(tmp_path):
    """Two trainers with steps of 50 ms and no pause admit ten measurements one after the other, and
    continue after each. Every wait is a few steps long.
    """
    with process(TRAINER, tmp_path) as one, process(TRAINER, tmp_path) as other:
        assert (one.stdout.readline(), other.stdout.readline()) == ("in\n", "in\n")
        for _ in range(10):
            start_s = time.monotonic()
            with DeviceLock("GPU-1", tmp_path).exclusive():
                waited_s = time.monotonic() - start_s
            assert waited_s < 5  # one step of each is 0.05 s, on a crowded machine more
            assert (one.stdout.readline(), other.stdout.readline()) == ("aside\n", "aside\n")


def test_trainers_wait_while_a_measurement_runs(tmp_path):
    """A trainer that starts during a measurement holds the device only after it."""
    with contextlib.ExitStack() as measuring:
        measuring.enter_context(DeviceLock("GPU-1", tmp_path).exclusive())
        with process(TRAINER, tmp_path) as child:
            assert not select.select([child.stdout], [], [], 2)[0]
            measuring.close()
            assert child.stdout.readline() == "in\n"


@pytest.mark.parametrize("code", [HOLDER, TRAINER])
def test_a_killed_holder_frees_the_device(tmp_path, code):
    """After `kill -9` of a measurement or of a trainer nothing is locked."""
    with process(code, tmp_path) as child:
        assert child.stdout.readline() == "in\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
        with DeviceLock("GPU-1", tmp_path).exclusive():
            pass


def test_the_holders_are_reported_without_disturbing_them(tmp_path):
    """First there is none, then two trainers, then a measurement for which they step aside. Each is
    reported with the numbers of its processes.
    """
    lock = DeviceLock("GPU-1", tmp_path)
    assert lock.holders() is None
    with lock.training():
        pass
    assert lock.holders() == Holders(use=Use.FREE)
    with process(TRAINER, tmp_path) as one, process(TRAINER, tmp_path) as other:
        assert (one.stdout.readline(), other.stdout.readline()) == ("in\n", "in\n")
        assert lock.holders() == Holders(
            use=Use.TRAINING, processes=tuple(sorted([one.pid, other.pid]))
        )
        lines, _, _ = select.select([one.stdout, other.stdout], [], [], 0.3)
        assert not lines  # no trainer had to step aside for the query
        with process(HOLDER, tmp_path) as measuring:
            assert measuring.stdout.readline() == "in\n"
            assert lock.holders() == Holders(use=Use.MEASURING, processes=(measuring.pid,))


@pytest.mark.parametrize("code", [HOLDER, TRAINER])
def test_a_wait_for_a_stopped_process_names_it(tmp_path, code):
    """The line says how to continue the process. Once it is gone, the wait ends."""
    with process(code, tmp_path) as holder:
        assert holder.stdout.readline() == "in\n"
        holder.send_signal(signal.SIGSTOP)
        os.waitpid(holder.pid, os.WUNTRACED)
        with process(PATIENT, tmp_path) as waiting:
            assert re.fullmatch(
                rf"waiting for the device, held by process {holder.pid} \(python.*\), which is "
                rf"stopped \(`kill -CONT {holder.pid}` continues it\)\n",
                waiting.stderr.readline(),
            )
            holder.kill()
            assert waiting.stdout.readline() == "in\n"
            assert waiting.stderr.read() == ""


def test_devices_do_not_lock_each_other(tmp_path):
    """Two devices can be measured at the same time."""
    with DeviceLock("GPU-1", tmp_path).exclusive(), DeviceLock("GPU-2", tmp_path).exclusive():
        pass


def test_a_check_between_steps_takes_microseconds(tmp_path):
    """Without a waiting measurement, ten thousand checks take less than 50 us each, typically 1 us,
    even on a crowded machine.
    """
    with DeviceLock("GPU-1", tmp_path).training() as training:
        start_s = time.perf_counter()
        assert not any(training.step_aside() for _ in range(10_000))
        assert (time.perf_counter() - start_s) / 10_000 < 50e-6


def test_queued_work_is_finished_before_stepping_aside(tmp_path):
    """A trainer's queue is emptied when it releases the device, and not earlier."""
    emptied = []
    with DeviceLock("GPU-1", tmp_path).training(
        before_leaving=lambda: emptied.append(1)
    ) as training:
        training.step_aside()
        assert not emptied
    assert emptied == [1]


def test_an_unusable_folder_is_one_clear_line(tmp_path):
    """The error for a lock folder that cannot be made names the folder, the reason, and the
    variable that moves it.
    """
    (tmp_path / "file").touch()
    with pytest.raises(
        UnavailableError, match=r"file/locks cannot be used \(Not a directory\); set NAS_LOCK_DIR"
    ):
        DeviceLock("GPU-1", tmp_path / "file" / "locks").exclusive().__enter__()


def test_a_folder_without_write_permission_is_one_clear_line():
    """A user without write permission gets one line (tried as another user if this is root)."""
    result = subprocess.run(
        [sys.executable, "-c", OTHER_USER + REQUEST, "/"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("the lock folder / cannot be used (")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_two_users_share_one_lock():
    """One user waits for the lock that another holds, since all may use the folder."""
    with tempfile.TemporaryDirectory() as parent, contextlib.ExitStack() as measuring:
        Path(parent).chmod(0o755)  # pytest's own folder is closed to others
        folder = Path(parent) / "locks"
        measuring.enter_context(DeviceLock("GPU-1", folder).exclusive())
        with process(OTHER_USER + HOLDER, folder) as child:
            assert not select.select([child.stdout], [], [], 2)[0]
            measuring.close()
            assert child.stdout.readline() == "in\n"


def test_the_folder_is_the_same_for_all_users(monkeypatch, tmp_path):
    """NAS_LOCK_DIR names it. A folder for temporary files that a job has for itself does not."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("NAS_LOCK_DIR", "/somewhere")
    assert lock_folder() == Path("/somewhere")
    monkeypatch.delenv("NAS_LOCK_DIR")
    assert lock_folder() == Path("/tmp/osa-nas-locks")  # noqa: S108 - shared on purpose
