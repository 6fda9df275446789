"""Export a recorded trial as a bundle, with its checkpoint, its figures and facts of its data."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.analysis.finals import FinalResult
from nas.core.architecture import Architecture
from nas.core.errors import CorruptFileError, ExportError, next_command
from nas.core.large import LargeSpec
from nas.core.measurement import Kind, Measurement
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.export.bundle import export_bundle, plain
from nas.export.manifest import Manifest
from nas.export.verify import Bundle
from nas.record import StudyRecord
from nas.training import Checkpoint, read_checkpoint


def export_trial(
    study: StudyRecord,
    trial: Trial,
    final: FinalResult | None,
    *,
    destination: Path,
    draw: Callable[[Architecture, int, int], str] = lambda *_: "",
    measure: bool = True,
    weights_license: str | None = None,
) -> Manifest:
    """Write a trial's weights and all its recorded figures to the new folder `destination`.

    The weights are those of the first of its `final` trainings, or without one those of its last
    rung. `draw` returns the network as text for the side of its images and the number of classes.
    The other arguments are those of `export_bundle`.

    Raises `ExportError` if no checkpoint of the trial was kept, and the errors of `export_bundle`.
    """
    spec, preparation = study.spec, study.preparation
    checkpoint = kept_checkpoint(study, trial, final)
    measurements = list(trial.evaluation.measurements.values())
    record: dict[str, Any] = {
        "study": spec.name,
        "trial": trial.number,
        "params": dict(trial.params),
        "dataset": study.dataset,
        "measurements": [plain(each) for each in measurements],
        "rungs": [{**plain(rung), "checkpoint": None} for rung in trial.evaluation.rungs],
        "recipe": _recipe(spec),
    }
    data: dict[str, Any] = {
        "classes": preparation.classes,
        "mean": preparation.mean,
        "std": preparation.std,
        "image_size": _image_size(study, trial, final),
    }
    if final is not None:
        first = final.first
        recipe = first.recipe
        if (large := recipe.large) is not None:
            data = _of_files(large, checkpoint)
            kept = [plain(each) for each in measurements if _is_of(each, large)]
            large = large.without_paths()
            # the search's errors are of other images
            record |= {"dataset": large.data, "rungs": [], "measurements": kept}
            recipe = replace(recipe, large=large)
        record["final"] = {
            "recipe": recipe.to_dict(),
            "seed": first.seed,
            "test_images": first.test_images,
            "curve": checkpoint.curve,
            "seeds": {name: list(final.of_seeds(name)) for name in first.reached.metrics},
            "reached": {**plain(first.reached), "checkpoint": None},
        }
    return export_bundle(
        architecture=trial.architecture,
        weights=checkpoint.weights,
        **data,
        record=record,
        destination=destination,
        drawing=draw(trial.architecture, data["image_size"], len(data["classes"])),
        measure=measure,
        weights_license=weights_license,
    )


def _is_of(measurement: Measurement, large: LargeSpec) -> bool:
    """Return whether a figure of the search is one of the network that was trained on files: not a
    count of a classifier of other classes, nor a figure of images of another size.
    """
    plan = measurement.plan
    return measurement.kind != Kind.COUNTED and (
        plan is None or plan.image_size == large.image_size
    )


def _of_files(large: LargeSpec, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the arguments of `export_bundle` that depend on the image files of a training."""
    if not checkpoint.classes:
        raise ExportError("the weights of this final training do not name their classes")
    return {
        "classes": checkpoint.classes,
        "mean": large.mean,
        "std": large.std,
        "image_size": large.image_size,
        "crop_pct": large.test_crop,
    }


def holds_trial(study: StudyRecord, trial: Trial, final: FinalResult | None, folder: Path) -> bool:
    """Return whether a folder is the bundle of this trial, with the weights that `export_trial`
    would write now. Raises the errors of `kept_checkpoint`.
    """
    weights, bundle = kept_checkpoint(study, trial, final).weights, Bundle(folder)
    try:
        return (
            bundle.origin == (study.spec.name, trial.number)
            and bundle.facts.digest == trial.architecture.digest
            and same_weights(bundle.model.state_dict(), weights)
        )
    except CorruptFileError:
        return False


def same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether two state dicts have the same names and values."""
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name].to(value.dtype)) for name, value in one.items()
    )


def kept_checkpoint(study: StudyRecord, trial: Trial, final: FinalResult | None) -> Checkpoint:
    """Return the checkpoint of the first of the final trainings, or of the last rung.

    Raises `ExportError` if none was kept, and the errors of `read_checkpoint`.
    """
    artifacts = Path(study.artifacts)
    if final is not None:
        name = str(final.first.reached.checkpoint)
    else:
        name = _last_checkpoint(trial, study.spec.name, artifacts)
    return read_checkpoint(artifacts / name, trial.architecture.digest)


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


def _image_size(study: StudyRecord, trial: Trial, final: FinalResult | None) -> int:
    """Return the side in pixels of the images with which the exported weights were trained last.

    A rung of an older record that does not name it counts as the last one of the study.
    """
    size = study.preparation.image_size
    if final is not None:
        return size
    recorded: int | None = trial.evaluation.rungs[-1].numerics.get("image_size")
    return recorded or study.spec.trained_size(size)


def _recipe(spec: StudySpec) -> dict[str, object]:
    """Return the study without paths of this machine.

    The folder of the images becomes its name. Start networks and baselines are left out, since they
    say nothing of how the network was trained.
    """
    folder = spec.data.folder and Path(spec.data.folder).name
    values = replace(spec, data=replace(spec.data, folder=folder)).to_dict()
    return {key: value for key, value in values.items() if key not in {"baselines", "first"}}
