"""Which checkpoints stay: the last rung of every trial that was on the front when it ended; the rest is deleted.

A kept file is in the record with its SHA-256. Files of a trial that still runs are left alone.
"""

import hashlib
from pathlib import Path

from nas.search.engine import Engine
from nas.store import Artifact, ArtifactKind, Store
from nas.trial import Trial, TrialState


class CheckpointKeeper:
    """A listener of the engine's."""

    def __init__(self, store: Store, engine: Engine, artifacts: Path) -> None:
        self._store, self._engine, self._artifacts = store, engine, artifacts
        self._study = engine.spec.name
        kept = {artifact.path for artifact in store.artifacts(self._study)}
        for number in engine.brain.front.members:  # a former call may have been killed before it got here
            self._keep(engine.brain.trials[number], kept)

    def __call__(self, trial: Trial) -> None:
        """Keep or delete the checkpoints of a trial that has ended."""
        if trial.state is TrialState.RUNNING or trial.duplicate_of is not None:
            return
        names = [rung.checkpoint for rung in trial.evaluation.rungs if rung.checkpoint]
        if trial.number in self._engine.brain.front.members:
            self._keep(trial, set())
            names = names[:-1]
        for name in names:
            path = self._artifacts / name
            path.unlink(missing_ok=True)
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()

    def _keep(self, trial: Trial, kept: set[str]) -> None:
        name = trial.evaluation.rungs[-1].checkpoint if trial.evaluation.rungs else None
        if name is None or name in kept:
            return
        content = (self._artifacts / name).read_bytes()
        self._store.add_artifact(self._study, Artifact(
            path=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content),
            kind=ArtifactKind.CHECKPOINT, trial=trial.number))
