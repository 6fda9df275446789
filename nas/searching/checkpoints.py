"""Deletion of checkpoints that are not needed any more.

The last rung stays of every trial that was on the front when it ended, and of every failed trial,
which may be tried again. All other checkpoints of ended trials are deleted. Files of running trials
are not touched. Checkpoints of front members are in the record with their SHA-256.

Files that a killed call could not delete, or wrote only in part, are deleted when the next call
begins. `WriteError` is raised if a file cannot be deleted.
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from nas.core.errors import CorruptFileError, WriteError
from nas.core.trial import Rung, Trial, TrialState
from nas.record import Artifact, ArtifactKind, Store
from nas.searching.engine import Engine


class CheckpointKeeper:
    """A listener of the engine that records or deletes the checkpoints of ended trials."""

    def __init__(self, store: Store, engine: Engine, artifacts: Path) -> None:
        self._store, self._engine, self._artifacts = store, engine, artifacts
        self._study = engine.spec.name
        recorded = {artifact.path for artifact in store.artifacts(self._study)}
        for member in engine.state.members():
            name = _last_checkpoint(member)
            if name and name not in recorded:
                self._record(member.number, name)
                recorded.add(name)
        files = {
            path.relative_to(artifacts).as_posix()
            for path in (artifacts / self._study).rglob("*.*")
        }
        partial = {name for name in files if ".safetensors.part" in name}
        self._delete(partial)  # no other process writes, because only one drives the study
        unrecorded = files - partial - recorded
        if unrecorded:
            for trial in store.each_trial(self._study):
                if _has_ended(trial):
                    self._delete(unrecorded.intersection(_unneeded(trial)))

    def __call__(self, trial: Trial) -> None:
        """Record or delete the checkpoints of a trial that has ended."""
        if not _has_ended(trial):
            return
        on_front = trial.number in self._engine.state.front.members
        last = _last_checkpoint(trial) if on_front else None
        if last:
            self._record(trial.number, last)
        self._delete(name for name in _unneeded(trial) if name != last)

    def _record(self, number: int, name: str) -> None:
        path = self._artifacts / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CorruptFileError(
                f"{path} holds the weights of trial {number}, and cannot be read: {error.strerror}"
            ) from error
        self._store.add_artifact(
            self._study,
            Artifact(
                path=name,
                sha256=hashlib.sha256(content).hexdigest(),
                size_bytes=len(content),
                kind=ArtifactKind.CHECKPOINT,
                trial=number,
            ),
        )

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self._artifacts / name
            try:
                path.unlink(missing_ok=True)
                if path.parent.is_dir() and not any(path.parent.iterdir()):
                    path.parent.rmdir()
            except OSError as error:
                raise WriteError(path, error) from error


def delete_passed(artifacts: Path, rungs: Sequence[Rung], *, finished: bool) -> None:
    """Delete the checkpoints of a training that are not needed any more: all but the last one,
    which is needed until the training is `finished`.
    """
    names = [rung.checkpoint for rung in rungs if rung.checkpoint]
    for name in names if finished else names[:-1]:
        (artifacts / name).unlink(missing_ok=True)
    if finished and names:
        with suppress(OSError):  # a file that a killed writer left half written may be in it
            (artifacts / names[-1]).parent.rmdir()


def _has_ended(trial: Trial) -> bool:
    """Return whether a trial has ended. A duplicate has no files of its own."""
    return trial.state is not TrialState.RUNNING and trial.duplicate_of is None


def _unneeded(trial: Trial) -> list[str]:
    """Return the checkpoints that an ended trial does not need if it is not on the front."""
    rungs = (
        trial.evaluation.rungs[:-1] if trial.state is TrialState.FAILED else trial.evaluation.rungs
    )
    return [rung.checkpoint for rung in rungs if rung.checkpoint]


def _last_checkpoint(trial: Trial) -> str | None:
    return trial.evaluation.rungs[-1].checkpoint if trial.evaluation.rungs else None
