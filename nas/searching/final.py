"""Final trainings: networks of a study trained by a recipe, with several seeds, on all images.

The test images are read when a training is finished, and its figures are recorded once. The same
call resumes an interrupted training from its last checkpoint.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from nas.analysis.finals import latest_results
from nas.core.errors import InvalidValueError, next_command, require_package
from nas.core.recipe import Candidate, FinalTraining, Recipe
from nas.core.seeds import final_seed
from nas.core.study import StudySpec
from nas.core.tasks import EpochDone, Event, FinalTask, Tested, Weights
from nas.core.trial import Trial
from nas.record import Artifact, ArtifactKind, Store, StudyRecord
from nas.searching.evaluators.classification import CLASSIFICATION
from nas.searching.launch import Trainings, Workers, open_trainings, recorded_evaluators

FROM_FILES = "nas.searching.evaluators.classification.full:FilesEvaluator"
"""The evaluator of recipes for image files."""

Listener = Callable[[Candidate, FinalTask, EpochDone | FinalTraining], None]
"""Called after every epoch and every finished training."""


def teacher_of(
    study: str, recipe: Recipe, trials: Sequence[Trial], finals: Sequence[FinalTraining]
) -> Weights | None:
    """Return the recipe's teacher: the trial's training by the recipe that was used last without a
    teacher, with its first seed. `study` is the name of the trials' study.

    It is not the one with the lowest test error, because test images select nothing. Recorded
    trainings by the same recipe keep their teacher, since their results are averaged with new ones.
    Raises `InvalidValueError` if there is none.
    """
    if recipe.teacher is None:
        return None
    trial = next((trial for trial in trials if trial.number == recipe.teacher), None)
    untaught = [f for f in finals if f.recipe.teacher is None and f.recipe.large is None]
    same = [final for final in finals if final.recipe.digest == recipe.digest]
    taught = {final.reached.numerics.get("teacher") for final in same}
    before = [f for f in untaught if Path(str(f.reached.checkpoint)).parent.name in taught]
    if trial and None in taught:  # older records do not say it, and the first one taught then
        before = [f for f in untaught if f.network == trial.architecture.digest][:1]
    result = trial and latest_results(before or untaught, [trial]).get(trial.number)
    path = result and result.first.reached.checkpoint
    if not (trial and path):
        raise InvalidValueError(
            f"trial {recipe.teacher} cannot teach before it is trained itself: "
            f"{next_command('train', study, '--trial', recipe.teacher)}"
        )
    return Weights(architecture=trial.architecture, path=path)


def missing_trainings(  # noqa: PLR0917
    spec: StudySpec,
    candidates: Sequence[Candidate],
    recipe: Recipe,
    seeds: int,
    finals: Sequence[FinalTraining],
    teacher: Weights | None = None,
) -> list[tuple[Candidate, FinalTask]]:
    """Return the trainings that are missing for `seeds` trainings of each candidate.

    The first trainings of all candidates come first, then the second ones, and so on.
    """
    finished = {(final.network, final.recipe.digest, final.seed) for final in finals}
    missing: list[tuple[Candidate, FinalTask]] = []
    for count in range(1, seeds + 1):
        for candidate in candidates:
            seed = final_seed(spec.seed, candidate.network, count)
            if (candidate.network, recipe.digest, seed) in finished:
                continue
            name = hashlib.sha256(candidate.network.encode()).hexdigest()[:16]
            folder = f"{spec.name}/final/{name}-{recipe.digest[:8]}-{seed}"
            if teacher:  # an unfinished training is not continued with another teacher
                folder += f"-{hashlib.sha256(teacher.name.encode()).hexdigest()[:8]}"
            missing.append(
                (
                    candidate,
                    FinalTask(
                        number=len(missing),
                        network=candidate.network,
                        architecture=candidate.architecture,
                        recipe=recipe,
                        seed=seed,
                        folder=folder,
                        teacher=teacher,
                    ),
                )
            )
    return missing


def start_file(
    record: StudyRecord, text: str, trials: Sequence[Trial], finals: Sequence[FinalTraining]
) -> Path:
    """Return the file of weights that `text` names: a trial's number, a bundle's folder, or a file.

    A trial stands for its last final training that began with random weights, so that the same
    command names the same file after the trainings that it began with it. Raises
    `InvalidValueError` if there is no such file.
    """
    if text.isdigit():
        first = [final for final in finals if final.recipe.start is None]
        result = latest_results(first, trials).get(int(text))
        if result is None:
            raise InvalidValueError(
                f"trial {text} has no final training to start from: "
                f"{next_command('train', record.name, '--trial', text)}"
            )
        path = Path(record.artifacts, str(result.first.reached.checkpoint))
    else:
        path = Path(text, "model.safetensors") if Path(text).is_dir() else Path(text)
    if not path.is_file():
        raise InvalidValueError(
            f"there are no weights {path}: --from takes a bundle's folder, a .safetensors file or "
            "the number of a trial"
        )
    return path.resolve()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_classifiers(record: StudyRecord, what: str) -> None:
    """Raise `InvalidValueError` unless final trainings of the study are those of classifiers."""
    if recorded_evaluators(record).final != CLASSIFICATION.final:
        raise InvalidValueError(f"{what} is for classifiers, which {record.name} does not train")


def training_classes(record: StudyRecord, recipe: Recipe) -> int:
    """Return the number of classes that a recipe trains: those of its image files or the study's.

    Raises `MissingDependencyError` without timm, `InvalidValueError` for a study that trains no
    classifiers, and the errors of `open_images`.
    """
    if recipe.large is None:
        return len(record.preparation.classes)
    require_classifiers(record, "a recipe for image files")
    require_package("timm", "train")
    from nas.training.large import open_images

    return len(open_images(recipe)[0].classes)


def open_final(
    store: Store,
    study: str,
    todo: Sequence[tuple[Candidate, FinalTask]],
    *,
    workers: Workers,
    folder: Path,
    listener: Listener = lambda *_: None,
    kind: str | None = None,
    count: int | None = None,
) -> AbstractContextManager[Trainings[FinalTask]]:
    """Prepare the trainings that `missing_trainings` returned. Raises as `open_trainings`."""
    candidates = [candidate for candidate, _ in todo]
    artifacts = Path(store.study(study).artifacts)

    def record(task: FinalTask, event: Event | EpochDone) -> FinalTask | None:
        candidate = candidates[task.number]
        if isinstance(event, EpochDone):
            listener(candidate, task, event)
        if not isinstance(event, Tested):
            return task
        final = FinalTraining(
            network=task.network,
            digest=task.architecture.digest if task.architecture else None,
            recipe=task.recipe,
            seed=task.seed,
            test_images=event.test_images,
            reached=event.rung,
            energy_j=event.energy_j,
        )
        path = str(event.rung.checkpoint)
        content = (artifacts / path).read_bytes()
        with store.transaction():
            store.add_final(study, final, task.architecture)
            store.add_artifact(
                study,
                Artifact(
                    path=path,
                    kind=ArtifactKind.WEIGHTS,
                    sha256=hashlib.sha256(content).hexdigest(),
                    size_bytes=len(content),
                    trial=candidate.trial.number if candidate.trial else None,
                ),
            )
        with suppress(OSError):  # the next training in this folder overwrites it
            (artifacts / task.resume_file).unlink(missing_ok=True)
        listener(candidate, task, final)
        return None

    evaluator = recorded_evaluators(store.study(study)).final
    if any(task.recipe.large for _, task in todo):
        evaluator = FROM_FILES
    names = [f"{candidate.name} with seed {task.seed}" for candidate, task in todo]
    return open_trainings(
        store,
        study,
        [task for _, task in todo],
        names,
        record,
        workers=workers,
        folder=folder,
        kind=kind,
        count=count,
        evaluator=evaluator,
    )
