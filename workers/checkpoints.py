"""Checkpoint transfer for workers without access to the driver's folder: checkpoints are uploaded
after each rung, and after each epoch of a final training, and downloaded when a task resumes.

A worker with access (on the driver's machine, or with a shared disk) writes into the driver's
folder. Any other worker writes into a folder of its own. Each checkpoint is uploaded before its
rung is reported, therefore a trial can resume without the node that trained it.
"""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.core.errors import CorruptFileError, NasError, TrialFailedError, WriteError
from nas.core.tasks import AnyTask, EpochDone, Event, FinalTask, Task, Trained
from nas.searching.evaluators import StudyContext


class CheckpointServer:
    """The driver's folder of checkpoints, for workers without access to it.

    Errors are returned as values, so that Ray does not wrap them.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return (self._folder / name).exists()

    def put(self, name: str, content: bytes) -> NasError | None:
        """Write a checkpoint completely or not at all."""
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
        """Return the content of a checkpoint."""
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            return CorruptFileError(f"{self._folder / name} is not a readable checkpoint: {error}")


class CheckpointClient:
    """Transfers the checkpoints of one worker, if it has no access to the driver's folder.

    `context` has the folder that the worker's evaluator writes to. `ask` calls a method of the
    `CheckpointServer` by its name and waits for the result.
    """

    def __init__(self, context: StudyContext, ask: Callable[..., Any] | None) -> None:
        self._ask = None if ask is None or _has_access(Path(context.artifacts), ask) else ask
        self.context = context
        if self._ask is not None:
            self._own = tempfile.TemporaryDirectory(
                prefix="nas-checkpoints-", ignore_cleanup_errors=True
            )
            self.context = replace(context, artifacts=self._own.name)

    def fetch(self, task: AnyTask) -> None:
        """Download the files that the task reads, except for those that the driver lacks.

        Raises `TrialFailedError` if the driver cannot read one.
        """
        if self._ask is None:
            return
        for name in _files_read(task):
            if not self._ask("has", name):
                continue
            content = self._ask("get", name)
            if isinstance(content, NasError):
                raise TrialFailedError(str(content)) from content
            path = Path(self.context.artifacts) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def deliver(self, task: AnyTask, event: Event) -> None:
        """Upload the file from which the task resumes after this event. Of a rung's checkpoint, the
        worker's copy is deleted.

        Raises `WriteError` if the driver cannot write it.
        """
        name = None
        if isinstance(event, Trained):
            name = event.rung.checkpoint
        elif isinstance(event, EpochDone) and isinstance(task, FinalTask):
            name = task.resume_file
        if self._ask is None or name is None:
            return
        path = Path(self.context.artifacts) / name
        problem = self._ask("put", name, path.read_bytes())
        if isinstance(event, Trained):
            shutil.rmtree(path.parent)
        if problem is not None:
            raise problem


def _files_read(task: AnyTask) -> Iterator[str]:
    """Yield the files that a task resumes from or learns from."""
    if isinstance(task, Task) and task.evaluation.rungs:
        if (checkpoint := task.evaluation.rungs[-1].checkpoint) is not None:
            yield checkpoint
    elif isinstance(task, FinalTask):
        yield task.resume_file
        if task.teacher is not None:
            yield task.teacher.path


def _has_access(folder: Path, ask: Callable[..., Any]) -> bool:
    """Return whether a file that is written here is in the driver's folder."""
    probe = folder / f".{uuid.uuid4().hex}.probe"
    try:
        probe.touch()
    except OSError:
        return False
    try:
        return bool(ask("has", probe.name))
    finally:
        probe.unlink(missing_ok=True)
