"""Checkpoints where workers do not see the driver's folder: they are sent to it, and come back for
who goes on.

A worker that sees the folder (the driver's machine, a shared disk) writes into it as always. Any
other one writes into a folder of its own; each checkpoint is at the driver before its rung is
reported, so no node is needed to go on.
"""

import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.core.errors import CorruptFileError, NasError, TrialFailedError, WriteError
from nas.core.tasks import AnyTask, Event, Task, Trained
from nas.searching.evaluators import StudyContext


class CheckpointServer:
    """On the driver's machine: its folder of checkpoints, for those who cannot see it. Errors are
    given back as values, so that Ray does not wrap them.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self._folder / name).exists()

    def put(self, name: str, content: bytes) -> NasError | None:
        """Write a checkpoint, whole or not at all."""
        path = self._folder / name
        part = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            return WriteError(path, error)
        return None

    def get(self, name: str) -> bytes | NasError:
        """The content of a checkpoint."""
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            return CorruptFileError(f"{self._folder / name} is not a readable checkpoint: {error}")


class CheckpointClient:
    """On a worker: `context` is the context with the folder that its evaluator writes to. `ask` calls a
    method of the checkpoint_server by its name and waits for the answer.
    """

    def __init__(self, context: StudyContext, ask: Callable[..., Any] | None) -> None:
        self._ask = None if ask is None or _sees(Path(context.artifacts), ask) else ask
        self.context = context
        if self._ask is not None:
            self._own = tempfile.TemporaryDirectory(
                prefix="nas-checkpoints-", ignore_cleanup_errors=True
            )
            self.context = replace(context, artifacts=self._own.name)

    def fetch(self, task: AnyTask) -> None:
        """Bring what the task goes on from. Raises `TrialFailedError` where the driver has
        lost it.
        """
        if self._ask is None or not isinstance(task, Task) or not task.evaluation.rungs:
            return
        name = task.evaluation.rungs[-1].checkpoint
        if name is None:
            return
        content = self._ask("get", name)
        if isinstance(content, NasError):
            raise TrialFailedError(str(content)) from content
        path = Path(self.context.artifacts) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def deliver(self, event: Event) -> None:
        """Send the checkpoint of a rung, and keep no copy. Raises `WriteError` where the driver
        cannot keep it.
        """
        if self._ask is None or not isinstance(event, Trained) or event.rung.checkpoint is None:
            return
        path = Path(self.context.artifacts) / event.rung.checkpoint
        problem = self._ask("put", event.rung.checkpoint, path.read_bytes())
        shutil.rmtree(path.parent)
        if problem is not None:
            raise problem


def _sees(folder: Path, ask: Callable[..., Any]) -> bool:
    """Whether the driver sees in its folder what is written here."""
    probe = folder / f".{uuid.uuid4().hex}.probe"
    try:
        probe.touch()
    except OSError:
        return False
    try:
        return bool(ask("has", probe.name))
    finally:
        probe.unlink(missing_ok=True)
