"""The files of a device's lock, and the lock of a process that measures.

`nas.measuring.meters.lock` describes the protocol and adds the trainers' side.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
import threading
from pathlib import Path
from typing import Iterator

from .host import PROC, program_name, read_stripped

NOTICE_AFTER_S = 3.0
"""Seconds of waiting for a device after which the processes that hold it are reported."""


def lock_folder() -> Path:
    """Return the folder of the lock files. It must be one for all processes of a machine, therefore
    it does not follow TMPDIR, which batch systems set to another folder for each job.
    """
    return Path(os.environ.get("NAS_LOCK_DIR") or "/tmp/osa-nas-locks")  # noqa: S108 - shared on purpose


def lock_files(identity: str, folder: Path) -> tuple[Path, Path]:
    """Return the turnstile and the device file of the device with this identity."""
    name = re.sub(r"[^\w.-]", "_", identity, flags=re.ASCII)
    return folder / f"{name}.turnstile", folder / f"{name}.lock"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a lock file, made if needed, and yield its descriptor. Closing it releases its locks.

    Raises `OSError`.
    """
    _make_folder(path.parent)
    descriptor = _open(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(identity: str, folder: Path | None = None) -> Iterator[None]:
    """Hold a device exclusively, after the running measurement and when every trainer has stepped
    aside.

    A longer wait is reported on standard error. Raises `OSError` if the folder cannot be used.
    """
    turnstile_file, device_file = lock_files(identity, folder or lock_folder())
    with opened(turnstile_file) as turnstile, opened(device_file) as device:
        take(turnstile, fcntl.LOCK_EX)
        take(device, fcntl.LOCK_EX)
        yield


def take(descriptor: int, operation: int) -> None:
    """Lock this open file of a device. After `NOTICE_AFTER_S` of waiting, the processes that hold
    it are written to standard error, each set of them once.
    """
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        return
    notice = threading.Timer(NOTICE_AFTER_S, _report_holders, [descriptor])
    notice.daemon = True
    notice.start()
    try:
        fcntl.flock(descriptor, operation)
    finally:
        notice.cancel()
        notice.join()


def holders_of(descriptor: int, proc: Path = PROC) -> tuple[int, ...]:
    """Return the numbers of the processes that hold a lock on this open file, as far as the kernel
    shows them to this user.
    """
    file = os.fstat(descriptor)
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    name = f"{device}:{file.st_ino}"
    lines = [line.split() for line in (read_stripped(proc / "locks") or "").splitlines()]
    return tuple(
        sorted({int(words[4]) for words in lines if words[1] == "FLOCK" and words[5] == name})
    )


_reported: set[str] = set()
"""Descriptions of holders that this process has reported."""


def _report_holders(descriptor: int) -> None:
    """Write one line about the processes that hold this file, unless it was written before."""
    holders = [_described(number) for number in holders_of(descriptor)]
    line = (
        f"waiting for the device, held by {', '.join(holders) or 'a process that is not visible'}"
    )
    if line not in _reported and sys.stderr is not None:
        _reported.add(line)
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _described(number: int) -> str:
    """Return number and name of a process, and how to continue it if it is stopped."""
    text = f"process {number} ({program_name(number) or 'unknown'})"
    state = (read_stripped(PROC / str(number) / "stat") or "").rpartition(")")[2].split()
    if state[:1] == ["T"]:
        text += f", which is stopped (`kill -CONT {number}` continues it)"
    return text


def _make_folder(folder: Path) -> None:
    """Make the folder like a shared temporary one: every user may add files, and none may remove
    another's.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    folder.chmod(0o1777)


def _open(path: Path) -> int:
    """Open the file for reading; make it if needed.

    Another user's file is never opened with O_CREAT: kernels forbid that in sticky folders
    (fs.protected_regular).
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(str(path), flags)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            made = os.open(str(path), flags | os.O_CREAT | os.O_EXCL, 0o644)
            os.fchmod(made, 0o644)
            return made
        return os.open(str(path), flags)
