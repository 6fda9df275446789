"""Export a recorded trial as a bundle, with its checkpoint, its figures and facts of its data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.analysis.finals import FinalResult
from nas.core.errors import ExportError, next_command
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.export.bundle import export_bundle, plain
from nas.export.manifest import Manifest
from nas.record import StudyRecord
from nas.training import read_checkpoint


def export_trial(
    study: StudyRecord,
    trial: Trial,
    final: FinalResult | None,
    *,
    destination: Path,
    drawing: str = "",
    measure: bool = True,
    weights_license: str | None = None,
) -> Manifest:
    """Write a trial's weights and all its recorded figures to the new folder `destination`.

    The weights are those of the first of its `final` trainings, or without one those of its last
    rung. The other arguments are those of `export_bundle`.

    Raises `ExportError` if no checkpoint of the trial was kept, and the errors of `export_bundle`.
    """
    spec, preparation, artifacts = study.spec, study.preparation, Path(study.artifacts)
    image_size = preparation.image_size
    name = checkpoint_name(study, trial, final)
    checkpoint = read_checkpoint(artifacts / name, trial.architecture.digest)
    record: dict[str, Any] = {
        "study": spec.name,
        "trial": trial.number,
        "params": dict(trial.params),
        "dataset": study.dataset,
        "measurements": [
            plain(measurement) for measurement in trial.evaluation.measurements.values()
        ],
        "rungs": [{**plain(rung), "checkpoint": None} for rung in trial.evaluation.rungs],
        "recipe": _recipe(spec),
    }
    if final is not None:
        first = final.first
        record["final"] = {
            "recipe": first.recipe.to_dict(),
            "seed": first.seed,
            "test_images": first.test_images,
            "seeds": {name: list(final.of_seeds(name)) for name in first.reached.metrics},
            "reached": {**plain(first.reached), "checkpoint": None},
        }
    return export_bundle(
        architecture=trial.architecture,
        weights=checkpoint.weights,
        classes=preparation.classes,
        mean=preparation.mean,
        std=preparation.std,
        image_size=image_size if final is not None else spec.trained_size(image_size),
        record=record,
        destination=destination,
        drawing=drawing,
        measure=measure,
        weights_license=weights_license,
    )


def checkpoint_name(study: StudyRecord, trial: Trial, final: FinalResult | None) -> str:
    """Return the file, among the artifacts, of the first of the final trainings, or of the last
    rung. Raises `ExportError` if there is none.
    """
    if final is not None:
        return str(final.first.reached.checkpoint)
    return _last_checkpoint(trial, study.spec.name, Path(study.artifacts))


def _last_checkpoint(trial: Trial, study: str, artifacts: Path) -> str:
    """Return the file of the trial's last rung. Raises `ExportError` if there is none."""
    name = trial.evaluation.rungs[-1].checkpoint if trial.evaluation.rungs else None
    if name is None:
        reason = f": {trial.reason}" if trial.reason else ""
        raise ExportError(
            f"trial {trial.number} of {study} was not trained ({trial.state}{reason}), there are "
            "no weights to export"
        )
    if not (artifacts / name).exists():
        raise ExportError(
            f"there is no checkpoint {artifacts / name}: weights are kept only of trials that were "
            f"on the front when they ended; export a member of the front "
            f"({next_command('front', study)}), train the trial fully "
            f"({next_command('train', study, '--trial', trial.number)}), or check that {artifacts} "
            "is the folder of the search"
        )
    return name


def _recipe(spec: StudySpec) -> dict[str, object]:
    """Return the study without the path of its images, which would name this machine."""
    folder = spec.data.folder and Path(spec.data.folder).name
    return replace(spec, data=replace(spec.data, folder=folder)).to_dict()
