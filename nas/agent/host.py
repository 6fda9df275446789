"""The machine around the device, read from Linux's own files: its identity, and how busy other
processes keep it.

`waited_s` is the scheduler's run-queue delay (/proc/<pid>/task/*/schedstat, nanoseconds) plus the
hypervisor's steal time. `foreign_s` is the busy jiffies of /proc/stat minus this process's own CPU
time. The load average is not used, because it moves over a minute and counts our own training.
Reading all of it takes about 0.2 ms, so it is done between blocks.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import platform
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

PROC = Path("/proc")
"""The kernel's files about processes."""
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class HostLoad(NamedTuple):
    """Counters of the host since a fixed moment, in core seconds. Only differences have a meaning.

    Neither counter ever falls, except by up to 10 ms, the kernel's clock tick.
    """

    waited_s: float
    """Time in which threads of this process were ready to run and had no core. This includes the
    time that the hypervisor gave to other guests.
    """
    foreign_s: float
    """Time that other processes used on the cores that this process may use."""
    cores: int
    """Number of cores that this process may use."""


def read_stripped(path: Path) -> str | None:
    """Return the file's stripped content, None if it is empty or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def machine_identity(root: Path = Path("/")) -> tuple[str, str]:
    """Return a stable name of this machine and the source of that name.

    The machine id is hashed, since it is not meant to be published (machine-id(5)). Without one the
    boot id is used, which lasts until the next boot, and as a last resort the host name.
    """
    sources = {
        "machine-id": read_stripped(root / "etc/machine-id"),
        "boot id": read_stripped(root / "proc/sys/kernel/random/boot_id"),
        "host name": socket.gethostname(),
    }
    source, value = next((name, value) for name, value in sources.items() if value)
    return hashlib.sha256(f"osa-nas {value}".encode()).hexdigest()[:32], source


def cpuinfo(key: str, proc: Path = PROC) -> str | None:
    """Return the first value under `key` in /proc/cpuinfo."""
    for line in (read_stripped(proc / "cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def cpu_name() -> str:
    """Return the processor's model as the system names it."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


def hypervisor() -> str | None:
    """Return the name of the virtualisation that this machine runs in, None on bare metal."""
    if "hypervisor" not in (cpuinfo("flags") or "").split():
        return None
    return (
        read_stripped(Path("/sys/class/dmi/id/sys_vendor"))
        or read_stripped(Path("/sys/hypervisor/type"))
        or "unknown hypervisor"
    )


def gpu_names(proc: Path = PROC) -> list[str]:
    """Return the models of the NVIDIA GPUs, each once, as the driver of graphics cards names them.
    That of Jetson modules names none.
    """
    names = set()
    for path in proc.glob("driver/nvidia/gpus/*/information"):
        for line in (read_stripped(path) or "").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                names.add(value.strip())
    return sorted(names)


def end_with_parent(parent: int) -> None:
    """Let Linux end this new process when the thread that started it ends, even after `kill -9`.
    Files that it has inherited stay locked no longer than that. `parent` is the process of that
    thread, which may be gone already.
    """
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)


def affinity() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many processes of one thread can work here at the same time, at least one: the
    number of cores that this process may use, or the quota of its container if that is smaller.
    """
    return max(int(min(len(affinity()), _cpu_quota(root))), 1)


def _cpu_quota(root: Path) -> float:
    """Return the cores' worth of time that this container may use, infinity without a limit.

    Each of both versions of Linux's control groups states a quota and a period in microseconds, or
    `max` or -1 as the quota if there is no limit.
    """
    folder = root / "sys/fs/cgroup"
    fields = (read_stripped(folder / "cpu.max") or "").split()
    if not fields:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        fields = [read_stripped(folder / "cpu" / name) or "" for name in names]
    try:
        quota_us, period_us = map(int, fields)
    except ValueError:
        return math.inf
    return quota_us / period_us if quota_us > 0 and period_us > 0 else math.inf


def program_name(number: int, proc: Path = PROC) -> str | None:
    """Return the command name of the process with this number, None if it is not visible."""
    return read_stripped(proc / str(number) / "comm")


def details() -> dict[str, Any]:
    """Return the host's conditions that may affect a figure, to be stored with it."""
    governor = read_stripped(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    return {
        "load_average": list(os.getloadavg()),
        "hypervisor": hypervisor(),
        "governor": governor,
        "affinity": affinity(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def host_load(proc: Path = PROC) -> HostLoad | None:
    """Return the present counters, None if the kernel does not keep them."""
    cores = affinity()
    try:
        lines = [line.split() for line in (proc / "stat").read_text(encoding="utf-8").splitlines()]
        waited_ns = sum(_run_queue_ns(task) for task in (proc / "self/task").iterdir())
    except (OSError, ValueError, IndexError):
        return None
    labels = {f"cpu{core}" for core in cores}
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = [[int(value) for value in fields[1:9]] for fields in lines if fields[0] in labels]
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    busy_s = sum(sum(row[:3]) + row[5] + row[6] for row in ticks) * tick_s
    stolen_s = sum(row[7] for row in ticks) * tick_s
    return HostLoad(
        waited_s=waited_ns / 1e9 + stolen_s,
        foreign_s=busy_s - time.process_time(),
        cores=len(cores),
    )


def _run_queue_ns(task: Path) -> int:
    """Return how long one thread waited for a core; 0 for a thread that has just ended."""
    try:
        return int((task / "schedstat").read_text(encoding="utf-8").split()[1])
    except ProcessLookupError:
        return 0
    except FileNotFoundError:
        if task.exists():
            raise
        return 0
