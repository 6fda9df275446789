"""A recorded trial as a bundle: its checkpoint, its figures, and what its study knows of the data."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.errors import ExportError
from nas.export.bundle import export_bundle
from nas.export.manifest import Manifest
from nas.training import read_checkpoint
from nas.trial import Trial


def export_trial(trial: Trial, *, study: str, dataset: str, classes: Sequence[str], mean: Sequence[float],
                 std: Sequence[float], image_size: int, artifacts: Path, destination: Path) -> Manifest:
    """Write the weights of the trial's last rung, and all that is known of it, to the new folder `destination`.

    `classes`, `mean`, `std` and `image_size` are those it was trained with; `artifacts` is where checkpoints lie.
    Raises `ExportError` where the trial has no kept checkpoint, and what `export_bundle` raises.
    """
    name = trial.evaluation.rungs[-1].checkpoint if trial.evaluation.rungs else None
    if name is None:
        raise ExportError(f"trial {trial.number} of {study} was not trained ({trial.state}"
                          f"{f': {trial.reason}' if trial.reason else ''}), there are no weights to export")
    path = artifacts / name
    if not path.exists():
        raise ExportError(f"there is no checkpoint {path}: the weights of a trial are kept where it was on the front "
                          f"when it ended; export a member of the front (nas front {study}), or check that the folder "
                          f"{artifacts} is the one of the search")
    checkpoint = read_checkpoint(path, trial.architecture.digest)
    record = {
        "study": study, "trial": trial.number, "params": dict(trial.params), "dataset": dataset,
        "measurements": [_plain(measurement) for measurement in trial.evaluation.measurements.values()],
        "rungs": [{**_plain(rung), "checkpoint": None} for rung in trial.evaluation.rungs],
    }
    return export_bundle(architecture=trial.architecture, weights=checkpoint.weights, classes=classes, mean=mean,
                         std=std, image_size=image_size, record=record, destination=destination)


def _plain(value: Any) -> Any:
    """The fields of a dataclass as JSON values; times in ISO format."""
    return json.loads(json.dumps(asdict(value), default=lambda other: other.isoformat()
                                 if isinstance(other, datetime) else str(other)))
