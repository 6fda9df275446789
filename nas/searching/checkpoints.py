"""Which checkpoints stay: the last rung of every trial that was on the front when it ended, and of
every failed one, which may be tried again; the rest is deleted.

A file of a front is in the record with its SHA-256. Files of a trial that still runs are left
alone. What a killed call left to do, and what its writers left half written, the next one removes
first. Raises `WriteError` where a file cannot be removed.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from nas.core.errors import CorruptFileError, WriteError
from nas.core.trial import Trial, TrialState
from nas.record import Artifact, ArtifactKind, Store
from nas.searching.engine import Engine


class CheckpointKeeper:
    """A listener of the engine's."""

    def __init__(self, store: Store, engine: Engine, artifacts: Path) -> None:
        self._store, self._engine, self._artifacts = store, engine, artifacts
        self._study = engine.spec.name
        kept = {artifact.path for artifact in store.artifacts(self._study)}
        for member in engine.state.members():
            name = _last(member)
            if name and name not in kept:
                self._keep(member.number, name)
                kept.add(name)
        there = {
            path.relative_to(artifacts).as_posix()
            for path in (artifacts / self._study).rglob("*.*")
        }
        parts = {name for name in there if ".safetensors.part" in name}
        self._delete(parts)  # only this process drives the study
        left = there - parts - kept
        self._delete(
            name
            for trial in (store.each_trial(self._study) if left else ())
            if _ended(trial)
            for name in _unneeded(trial)
            if name in left
        )

    def __call__(self, trial: Trial) -> None:
        """Keep or delete the checkpoints of a trial that has ended."""
        if not _ended(trial):
            return
        last = _last(trial) if trial.number in self._engine.state.front.members else None
        if last:
            self._keep(trial.number, last)
        self._delete(name for name in _unneeded(trial) if name != last)

    def _keep(self, number: int, name: str) -> None:
        path = self._artifacts / name
        try:
            content = path.read_bytes()
        except OSError as error:
            message = (
                f"{path} holds the weights of trial {number}, and cannot be read: {error.strerror}"
            )
            raise CorruptFileError(message) from error
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


def _ended(trial: Trial) -> bool:
    """Whether its files are nobody's any more; a duplicate has none of its own."""
    return trial.state is not TrialState.RUNNING and trial.duplicate_of is None


def _unneeded(trial: Trial) -> list[str]:
    """The files of an ended trial that is not on the front."""
    rungs = (
        trial.evaluation.rungs[:-1] if trial.state is TrialState.FAILED else trial.evaluation.rungs
    )
    return [rung.checkpoint for rung in rungs if rung.checkpoint]


def _last(trial: Trial) -> str | None:
    return trial.evaluation.rungs[-1].checkpoint if trial.evaluation.rungs else None
