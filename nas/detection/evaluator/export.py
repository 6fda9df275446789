"""Export of a study's trial as a folder of a trained detector, with ONNX and a decoder."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from nas.analysis.finals import FinalResult
from nas.core.recipe import Recipe
from nas.core.trial import Trial
from nas.detection.evaluator.trials import detector_spec
from nas.detection.export import export_detector
from nas.detection.systems import WEIGHTS, TrainedDetector
from nas.export.trial import checkpoint_name
from nas.record import StudyRecord
from nas.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint


def export_trial(
    study: StudyRecord, trial: Trial, final: FinalResult | None, destination: Path
) -> Sequence[str]:
    """Write the detector of a trial to a new folder, as `nas detect export` does, and return lines
    on its checks.

    The weights are those of the first of its `final` trainings, or those of its last rung. Raises
    `ExportError` if no checkpoint of the trial was kept, and the errors of `export_detector`.
    """
    name = checkpoint_name(study, trial, final)
    weights = read_checkpoint(Path(study.artifacts) / name, trial.architecture.digest)
    recipe = Recipe(epochs=weights.epochs, training=study.spec.training, average=0.0)
    spec = detector_spec(
        study.spec,
        study.preparation.classes,
        trial.architecture,
        recipe=recipe if final is None else final.first.recipe,
        network=f"{study.spec.name}:{trial.number}",
    )
    with TemporaryDirectory() as folder:
        trained = TrainedDetector(Path(folder))
        trained.begin(spec)
        whole = Checkpoint(epochs=weights.epochs, digest=trained.digest, weights=weights.weights)
        write_checkpoint(trained.folder / WEIGHTS, whole)
        return [str(check) for check in export_detector(trained.folder, destination)]
