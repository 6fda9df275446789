"""The files of a device's lock, and the lock of a process that measures.

`nas.measuring.meters.lock` describes the protocol and adds the trainers' side.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import Iterator


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

    Raises `OSError` if the folder cannot be used.
    """
    turnstile_file, device_file = lock_files(identity, folder or lock_folder())
    with opened(turnstile_file) as turnstile, opened(device_file) as device:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        fcntl.flock(device, fcntl.LOCK_EX)
        yield


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
