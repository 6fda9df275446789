"""The machine around the device, read from a made-up tree of Linux's files."""

import subprocess
import sys

import pytest

from nas.agent import host


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "6400000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "300000"}, 8),
    ],
)
def test_usable_cores_are_the_quota_of_a_container_if_it_is_smaller(
    files, cores, tmp_path, monkeypatch
):
    """With 8 cores, and the files of both versions of control groups. There is always one core."""
    monkeypatch.setattr(host, "affinity", lambda: list(range(8)))
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert host.usable_cores(tmp_path) == cores


def test_without_affinity_all_cores_are_usable(monkeypatch, tmp_path):
    """As on macOS."""
    monkeypatch.delattr(host.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(host.os, "cpu_count", lambda: 6)
    assert host.usable_cores(tmp_path) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize(("parent", "output"), [("os.getppid()", "alive\n"), ("2**22", "")])
def test_a_process_whose_parent_is_gone_ends_at_once(parent, output):
    """Its parent is another process by then. Else it goes on."""
    program = f"import os; from nas.agent import host; host.end_with_parent({parent})"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print('alive')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == (output, 0 if output else 1)
