"""One lock per physical device, held by the operating system, so that a crash frees it.

Theory of operation. There are two files per device: the *device* file, which trainers hold shared
and a measurement holds exclusively, and the *turnstile*, which every process passes on the way to
the device file. A measurement takes the turnstile first and keeps it until it is done, so that no
further trainer can enter. The trainers inside notice at their next `step_aside`, because they
cannot pass the turnstile, and release the device. Therefore a measurement waits for at most one
training step of each trainer and cannot starve. Each check takes two system calls (0.9 us on a
2.3 GHz Xeon).

A process that waits for some seconds writes one line about the holders to standard error.

`flock` belongs to the open file: each holder opens its own, in threads as in processes, and `kill
-9` releases it. The files lie in NAS_LOCK_DIR, by default `/tmp/osa-nas-locks`, whatever TMPDIR is.
This is one place for all users of a machine; with a folder for each user, two users could measure
at once. The folder is sticky, and read permission is enough to lock, so every user can lock and no
user can remove another's files.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from nas.agent import lock as files
from nas.agent.lock import lock_folder
from nas.core.errors import UnavailableError

T = TypeVar("T")


class Use(StrEnum):
    """The use for which a device is held."""

    FREE = "free"
    MEASURING = "being measured"
    """A measurement runs, or waits for trainers to step aside."""
    TRAINING = "shared"


@dataclass(frozen=True, kw_only=True)
class Holders:
    """The holders of a device now: the numbers of their processes, as far as this system shows
    them.
    """

    use: Use
    processes: tuple[int, ...] = ()


class DeviceLock:
    """The lock of the device with this `identity`. It must not be nested: a trainer that asks for a
    measurement inside its own lock would wait for itself.

    Raises `UnavailableError` if the lock folder cannot be used.
    """

    def __init__(self, identity: str, folder: Path | None = None) -> None:
        self._identity, self._folder = identity, folder or lock_folder()
        self._turnstile_file, self._device_file = files.lock_files(identity, self._folder)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the device exclusively, after the running measurement and when every trainer has
        stepped aside.
        """
        with self._usable_folder(files.exclusive(self._identity, self._folder)):
            yield

    @contextlib.contextmanager
    def training(self, before_leaving: Callable[[], object] = lambda: None) -> Iterator["Training"]:
        """Hold the device together with other trainers.

        `before_leaving` is called before the device is released, to finish the work queued on it (a
        meter's `synchronize`).
        """
        with (
            self._opened(self._turnstile_file) as turnstile,
            self._opened(self._device_file) as device,
        ):
            training = Training(turnstile, device, before_leaving)
            training.enter()
            yield training
            before_leaving()

    def holders(self) -> Holders | None:
        """Return the present holders without disturbing them; None if the device was never used on
        this machine.
        """
        if not self._device_file.exists() or not self._turnstile_file.exists():
            return None
        with (
            self._opened(self._turnstile_file) as turnstile,
            self._opened(self._device_file) as device,
        ):
            for use, descriptor, operation in (
                (Use.MEASURING, turnstile, fcntl.LOCK_SH),
                (Use.TRAINING, device, fcntl.LOCK_EX),
            ):
                try:
                    fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
                except BlockingIOError:
                    return Holders(use=use, processes=files.holders_of(descriptor))
        return Holders(use=Use.FREE)

    def _opened(self, path: Path) -> AbstractContextManager[int]:
        """Open the lock file and yield its descriptor. Closing it releases its locks."""
        return self._usable_folder(files.opened(path))

    @contextlib.contextmanager
    def _usable_folder(self, entered: AbstractContextManager[T]) -> Iterator[T]:
        """Enter the context. Raises `UnavailableError` if the lock folder cannot be used."""
        with contextlib.ExitStack() as stack:
            try:
                value = stack.enter_context(entered)
            except OSError as error:
                raise UnavailableError(
                    f"the lock folder {self._folder} cannot be used ({error.strerror}); set "
                    "NAS_LOCK_DIR to a folder that all users of this device may write to"
                ) from error
            yield value


def drivers_lock(identity: str) -> DeviceLock:
    """Return the lock by which processes of this machine take turns at a device elsewhere."""
    return DeviceLock(f"agent-{identity}")


class Training:
    """A trainer's share of a device."""

    def __init__(self, turnstile: int, device: int, before_leaving: Callable[[], object]) -> None:
        self._turnstile = turnstile
        self._device = device
        self._before_leaving = before_leaving

    def enter(self) -> None:
        """Wait for the turnstile, then share the device."""
        files.take(self._turnstile, fcntl.LOCK_SH)
        files.take(self._device, fcntl.LOCK_SH)
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def step_aside(self) -> bool:
        """Let a waiting measurement run first, and return whether there was one. To be called
        between training steps.
        """
        try:
            fcntl.flock(self._turnstile, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self._before_leaving()
            fcntl.flock(self._device, fcntl.LOCK_UN)
            self.enter()
            return True
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        return False
