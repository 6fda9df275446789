"""A recorded trial as a bundle: its checkpoint, its figures, and what its study knows of the
data.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.core.errors import ExportError
from nas.core.recipe import FinalTraining
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.export.bundle import export_bundle, plain
from nas.export.manifest import Manifest
from nas.training import read_checkpoint


def export_trial(
    trial: Trial,
    *,
    spec: StudySpec,
    dataset: str,
    classes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int,
    artifacts: Path,
    destination: Path,
    drawing: str = "",
    measure: bool = True,
    weights_license: str | None = None,
    final: FinalTraining | None = None,
    final_errors: Sequence[float] = (),
) -> Manifest:
    """Write the weights of the trial's last rung, or of its `final` training, and all that is known
    of it, to the new folder `destination`.

    `spec` is its study's; `classes`, `mean`, `std` and `image_size` are those it was trained with;
    `artifacts` is where checkpoints lie; `drawing`, `measure` and `weights_license` are those of
    `export_bundle`;
    `final_errors` are the test errors of all seeds of the final training's recipe. Raises
    `ExportError` where the trial has no kept checkpoint, and what `export_bundle` raises.
    """
    path = artifacts / (
        _searched(trial, spec.name, artifacts) if final is None else str(final.reached.checkpoint)
    )
    checkpoint = read_checkpoint(path, trial.architecture.digest)
    record: dict[str, Any] = {
        "study": spec.name,
        "trial": trial.number,
        "params": dict(trial.params),
        "dataset": dataset,
        "measurements": [
            plain(measurement) for measurement in trial.evaluation.measurements.values()
        ],
        "rungs": [{**plain(rung), "checkpoint": None} for rung in trial.evaluation.rungs],
        "recipe": _recipe(spec),
    }
    if final is not None:
        record["final"] = {
            "recipe": final.recipe.to_dict(),
            "seed": final.seed,
            "test_images": final.test_images,
            "errors": list(final_errors or (final.reached.error,)),
            "reached": {**plain(final.reached), "checkpoint": None},
        }
    return export_bundle(
        architecture=trial.architecture,
        weights=checkpoint.weights,
        classes=classes,
        mean=mean,
        std=std,
        image_size=image_size if final is not None else spec.trained_size(image_size),
        record=record,
        destination=destination,
        drawing=drawing,
        measure=measure,
        weights_license=weights_license,
    )


def _searched(trial: Trial, study: str, artifacts: Path) -> str:
    """The file of the trial's last rung. Raises `ExportError` where there is none."""
    name = trial.evaluation.rungs[-1].checkpoint if trial.evaluation.rungs else None
    if name is None:
        raise ExportError(
            f"trial {trial.number} of {study} was not trained ({trial.state}"
            f"{f': {trial.reason}' if trial.reason else ''}), there are no weights to export"
        )
    if not (artifacts / name).exists():
        raise ExportError(
            f"there is no checkpoint {artifacts / name}: the weights of a trial are kept where it was on "
            f"the front when it ended; export a member of the front (nas front {study}), train it fully "
            f"(nas train), or check that the folder {artifacts} is the one of the search"
        )
    return name


def _recipe(spec: StudySpec) -> dict[str, object]:
    """The study without the folder of its images, which is a path of this machine."""
    folder = spec.data.folder and Path(spec.data.folder).name
    return replace(spec, data=replace(spec.data, folder=folder)).to_dict()
