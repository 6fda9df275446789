"""The machine around the device, read from Linux's own files: who it is, and who else is busy on
it.

`waited_s` comes from the scheduler's run-queue delay (/proc/<pid>/task/*/schedstat, nanoseconds)
and the hypervisor's steal time, `foreign_s` from the busy jiffies of /proc/stat less this process's
own CPU time. The load average is not used: it moves over a minute and counts our own training.
Reading all costs about 0.2 ms, so it is done between blocks.
"""

import hashlib
import os
import platform
import socket
import time
from pathlib import Path
from typing import Any

from nas.measuring.meters import HostLoad

PROC = Path("/proc")


def text(path: Path) -> str | None:
    """The stripped content, None where it is empty or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def machine_identity(root: Path = Path("/")) -> tuple[str, str]:
    """A stable name of this machine and where it came from.

    The machine id is hashed, since it is not meant to be published (machine-id(5)). Without one the
    boot id stands in, which lasts until the next boot, and at last the host name.
    """
    sources = {
        "machine-id": text(root / "etc/machine-id"),
        "boot id": text(root / "proc/sys/kernel/random/boot_id"),
        "host name": socket.gethostname(),
    }
    source, value = next((name, value) for name, value in sources.items() if value)
    return hashlib.sha256(f"osa-nas {value}".encode()).hexdigest()[:32], source


def cpuinfo(key: str, proc: Path = PROC) -> str | None:
    """The first value under `key` in /proc/cpuinfo."""
    for line in (text(proc / "cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def cpu_name() -> str:
    """The processor's model as the system names it."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


def hypervisor() -> str | None:
    """What this machine runs inside, None on bare metal."""
    if "hypervisor" not in (cpuinfo("flags") or "").split():
        return None
    return (
        text(Path("/sys/class/dmi/id/sys_vendor"))
        or text(Path("/sys/hypervisor/type"))
        or "unknown hypervisor"
    )


def affinity() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def program_name(number: int, proc: Path = PROC) -> str | None:
    """What the process of this number is called, None where it is not to be seen."""
    return text(proc / str(number) / "comm")


def details() -> dict[str, Any]:
    """What may move a figure and is worth keeping with it."""
    governor = text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    return {
        "load_average": list(os.getloadavg()),
        "hypervisor": hypervisor(),
        "governor": governor,
        "affinity": affinity(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def host_load(proc: Path = PROC) -> HostLoad | None:
    """The counters now, None where the kernel does not keep them."""
    cores = affinity()
    try:
        lines = [line.split() for line in (proc / "stat").read_text(encoding="utf-8").splitlines()]
        waited_ns = sum(_run_queue_ns(task) for task in (proc / "self/task").iterdir())
    except (OSError, ValueError, IndexError):
        return None
    wanted = {f"cpu{core}" for core in cores}
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = [[int(value) for value in fields[1:9]] for fields in lines if fields[0] in wanted]
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    busy_s = sum(sum(row[:3]) + row[5] + row[6] for row in ticks) * tick_s
    stolen_s = sum(row[7] for row in ticks) * tick_s
    return HostLoad(
        waited_s=waited_ns / 1e9 + stolen_s,
        foreign_s=busy_s - time.process_time(),
        cores=len(cores),
    )


def _run_queue_ns(task: Path) -> int:
    """How long one thread waited for a core; a thread that has just ended counts nothing."""
    try:
        return int((task / "schedstat").read_text(encoding="utf-8").split()[1])
    except ProcessLookupError:
        return 0
    except FileNotFoundError:
        if task.exists():
            raise
        return 0
