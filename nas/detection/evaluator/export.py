"""Export of a study's trial as a folder of a trained detector, with ONNX and a decoder."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from nas.analysis.finals import FinalResult
from nas.core.errors import CorruptFileError
from nas.core.recipe import Recipe
from nas.core.trial import Trial
from nas.detection.evaluator.trials import detector_spec
from nas.detection.export import export_detector
from nas.detection.systems import WEIGHTS, TrainedDetector
from nas.export.trial import kept_checkpoint, same_weights
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
    weights = kept_checkpoint(study, trial, final)
    recipe = Recipe(epochs=weights.epochs, training=study.spec.training, average=0.0)
    spec = detector_spec(
        study.spec,
        study.preparation.classes,
        trial.architecture,
        recipe=recipe if final is None else final.first.recipe,
        network=_origin(study, trial),
    )
    with TemporaryDirectory() as folder:
        trained = TrainedDetector(Path(folder))
        trained.begin(spec)
        whole = Checkpoint(epochs=weights.epochs, digest=trained.digest, weights=weights.weights)
        write_checkpoint(trained.folder / WEIGHTS, whole)
        return [str(check) for check in export_detector(trained.folder, destination)]


def holds_trial(study: StudyRecord, trial: Trial, final: FinalResult | None, folder: Path) -> bool:
    """Return whether a folder is the detector of this trial, with the weights that `export_trial`
    would write now. Raises the errors of `kept_checkpoint`.
    """
    weights, detector = kept_checkpoint(study, trial, final).weights, TrainedDetector(folder)
    try:
        return (
            detector.spec.network == _origin(study, trial)
            and detector.spec.architecture == trial.architecture
            and same_weights(read_checkpoint(folder / WEIGHTS).weights, weights)
        )
    except CorruptFileError:
        return False


def _origin(study: StudyRecord, trial: Trial) -> str:
    """Return the study and the trial as `detector.json` names them."""
    return f"{study.spec.name}:{trial.number}"
