"""`nas train`: networks of a study, and others beside them, fully trained and tested."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from nas.analysis.finals import FinalResult, latest_results, ranking, results
from nas.analysis.posterior import with_posterior_means
from nas.cli import main
from nas.cli.options import (
    FILE,
    change_record,
    database_option,
    front_numbers,
    pick_study,
    trial_option,
    workers_options,
)
from nas.cli.tables import FittedTable, terminal
from nas.cli.training_progress import progress_bars, run_trainings
from nas.core.errors import InvalidValueError
from nas.core.large import HUGGING_FACE, LOCAL_FOLDER, UNSUPPORTED_PREFIXES
from nas.core.moved import equivalent_names
from nas.core.presets import PRESETS
from nas.core.published import PUBLISHED, published
from nas.core.recipe import Candidate, FinalTraining, Recipe
from nas.core.study import Direction, StudySpec
from nas.core.tasks import EpochDone, FinalTask
from nas.core.trial import Trial
from nas.core.units import format_trained
from nas.record import StudyRecord


@main.command()
@click.argument("study", required=False)
@database_option
@trial_option("Train this trial's network.")
@click.option("--front", is_flag=True, help="Train the members of the front.")
@click.option("--knee", is_flag=True, help="Train the front's best compromise.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="Train a VoVNet such as vovnet27_slim_cifar, or module:callable, to compare with. May be "
    "repeated.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Trainings of each network.",
)
@click.option(
    "--recipe",
    "file",
    type=FILE,
    help="The recipe: a YAML file, or paper, modern or short. [default: 30 epochs, see "
    "docs/training.md]",
)
@click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    help="Epochs of a training, in place of the recipe's.",
)
@click.option(
    "--teacher", type=int, metavar="N", help="Distil from trial N, which was trained before."
)
@click.option(
    "--data",
    metavar="DIR",
    help="Train on the image files in this folder, or on hfds/NAME, by a recipe for image files.",
)
@click.option(
    "--from",
    "start",
    metavar="DIR|N",
    help="Start from the weights of a bundle, of a .safetensors file, or of trial N, which was "
    "trained before.",
)
@click.option(
    "--loaders",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that read image files; no result depends on it. [default: the cores of a "
    "worker]",
)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train each network on N devices of the Ray cluster together, by a recipe for image "
    "files; results depend on it by rounding only.",
)
@workers_options
def train(
    *,
    study: str | None,
    database: str,
    numbers: tuple[int, ...],
    front: bool,
    knee: bool,
    networks: tuple[str, ...],
    seeds: int,
    file: Path | None,
    epochs: float | None,
    teacher: int | None,
    data: str | None,
    start: str | None,
    loaders: int | None,
    devices: int | None,
    workers: str | None,
    address: str | None,
) -> None:
    """Train networks of a study fully, and test them.

    Each is trained on all training images of the study and tested once on the test images. Press
    Ctrl-C at any time: the same command continues at the last checkpoint.
    """
    from nas.searching.final import (
        file_digest,
        missing_trainings,
        open_final,
        start_file,
        teacher_of,
        training_classes,
    )
    from nas.searching.launch import code_folder

    with change_record(database) as store:
        record = pick_study(store, study)
        recipe = _recipe(record, file, data)
        recipe = replace(
            recipe,
            epochs=recipe.epochs if epochs is None else epochs,
            teacher=recipe.teacher if teacher is None else teacher,
        )
        side = recipe.large.image_size if recipe.large else record.preparation.image_size
        recipe.training.check_side(side)
        if devices is not None:
            _check_devices(recipe, devices)
        trials, finals = store.trials(record.name), store.finals(record.name)
        wanted = [*numbers, *front_numbers(store, record, front=front, knee=knee)]
        candidates = _of_trials(record, trials, wanted)
        candidates += [_named(name, finals) for name in networks]
        if not candidates:
            raise InvalidValueError(
                "say what to train by --front, --knee, --trial N or --network NAME"
            )
        classes = training_classes(record, recipe)
        weights = start and start_file(record, start, trials, finals)
        if weights:
            _check_start(record, weights, candidates, classes)
            recipe = replace(recipe, start=file_digest(weights))
        teaching = teacher_of(record.name, recipe, trials, finals)
        todo = missing_trainings(record.spec, candidates, recipe, seeds, finals, teaching)
        begin = str(weights) if weights else None
        todo = [
            (candidate, replace(task, start=begin, loaders=loaders)) for candidate, task in todo
        ]
        total = len(candidates) * seeds
        display = FinalDisplay(record.spec, recipe, total, total - len(todo))
        if todo:
            kind = workers or record.spec.workers.kind
            if devices is not None:
                kind = "workers.train:TrainWorkers"
            open_trainings = partial(open_final, store, record.name, todo, count=devices)
            # a callable that makes a network lies in the current folder
            named = any(candidate.architecture is None for candidate in candidates)
            folder = Path.cwd() if named else code_folder(record)
            run_trainings(open_trainings, display, kind=kind, address=address, folder=folder)
        names = {candidate.network: candidate.name for candidate in candidates}
        display.summary(trials, store.finals(record.name), names)


def _recipe(record: StudyRecord, file: Path | None, data: str | None) -> Recipe:
    """Return the recipe of that name or file, or that of the study's evaluator. Its image files are
    those of `data` if it is given.
    """
    from nas.searching.final import require_classifiers
    from nas.searching.launch import recorded_evaluators
    from nas.searching.study_file import read_recipe

    if file is not None and str(file) in PRESETS:
        require_classifiers(record, f"--recipe {file}")
        recipe = PRESETS[str(file)]
    else:
        make = recorded_evaluators(record).final_recipe
        default = make and make(record.spec)
        recipe = read_recipe(file, default) if file else default or Recipe()
    if recipe.large is None:
        if data is not None:
            raise InvalidValueError(
                "--data needs a recipe for image files: --recipe paper, modern, or a file with "
                "the key large"
            )
        return recipe
    place, teacher = data or recipe.large.data, recipe.large.teacher
    if place and not place.startswith((HUGGING_FACE, *UNSUPPORTED_PREFIXES)):
        place = str(Path(place).resolve())
    if teacher.startswith(LOCAL_FOLDER):
        teacher = LOCAL_FOLDER + str(Path(teacher.removeprefix(LOCAL_FOLDER)).resolve())
    return replace(recipe, large=replace(recipe.large, data=place, teacher=teacher))


def _check_devices(recipe: Recipe, devices: int) -> None:
    """Raise `InvalidValueError` unless the recipe's batches can be computed on so many devices."""
    if recipe.large is None:
        raise InvalidValueError("--devices needs a recipe for image files, as --data does")
    if recipe.large.micro_batches % devices:
        raise InvalidValueError(
            f"--devices must divide large.micro_batches of the recipe, which is "
            f"{recipe.large.micro_batches}, not {devices}"
        )


def _check_start(
    record: StudyRecord, path: Path, candidates: Sequence[Candidate], classes: int
) -> None:
    """Raise the error of `start_from` unless all networks can start from this file. Say if its
    classifier is left out.
    """
    from nas.model import build
    from nas.searching.final import require_classifiers
    from nas.training.start import start_from

    require_classifiers(record, "--from")
    architectures = [each.architecture for each in candidates if each.architecture is not None]
    others = {start_from(build(architecture, classes), path) for architecture in architectures}
    for number in others - {None}:
        click.echo(f"{path}: its classifier of {number} classes is left out; there are {classes}")


def _of_trials(
    record: StudyRecord, trials: Sequence[Trial], numbers: Sequence[int]
) -> list[Candidate]:
    """Return the networks of these trials, each network once."""
    by_number = {trial.number: trial for trial in trials}
    for number in numbers:
        if number not in by_number:
            raise InvalidValueError(f"there is no trial {number} in {record.name}")
    networks: dict[str, Trial] = {}
    for number in numbers:
        trial = by_number[number]
        networks.setdefault(trial.architecture.digest, trial)
    return [
        Candidate(name=f"trial {trial.number}", architecture=trial.architecture, trial=trial)
        for trial in networks.values()
    ]


def _named(name: str, finals: Sequence[FinalTraining]) -> Candidate:
    """Return a published network, or the one that a callable makes.

    A network keeps the name under which it was trained before its module moved, and so its seeds.
    """
    if name not in PUBLISHED and ":" in name:
        recorded = {final.network for final in finals}.intersection(equivalent_names(name))
        return Candidate(name=min(recorded, default=name), architecture=None)
    return Candidate(name=name, architecture=published(name))


class FinalDisplay:
    """Progress of final trainings: `total` of them, `done` are recorded already."""

    def __init__(self, spec: StudySpec, recipe: Recipe, total: int, done: int) -> None:
        self._console, self._spec, self._metrics = terminal(), spec, spec.quality_metrics
        self._recipe, self._total, self._done = recipe, total, done
        self._bars: Progress | None = None
        self._tasks: dict[int, TaskID] = {}
        self._console.print(
            f"{total} trainings of {recipe.epochs:g} epochs, {done} of them recorded"
        )

    def update(
        self, candidate: Candidate, task: FinalTask, event: EpochDone | FinalTraining
    ) -> None:
        """Show that an epoch was trained, or that a training ended."""
        if isinstance(event, EpochDone):
            if self._bars is not None:
                bar = self._bar(self._bars, candidate, task)
                self._bars.update(bar, completed=event.epochs, loss=f"{event.loss:.3f}")
            return
        self._done += 1
        if self._bars is not None:
            self._bars.remove_task(self._bar(self._bars, candidate, task))
        values = event.reached.metrics
        figures = [f"{m.name} {format_trained(m, values.get(m.name))}" for m in self._metrics]
        self._console.one_line(
            f"[{self._done}/{self._total}] {candidate.name}: {', '.join(figures)} on "
            f"{event.test_images:,} test images with seed {task.seed}"
        )

    @contextmanager
    def live(self, _: Any) -> Iterator[None]:
        """Show the trainings while they run."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}"),
        )
        with progress_bars(self._console, *columns, resumes="whole epochs are kept") as bars:
            self._bars = bars
            yield

    def summary(
        self, trials: Sequence[Trial], finals: Sequence[FinalTraining], names: Mapping[str, str]
    ) -> None:
        """Print the networks' test figures by this recipe, and whether they rank as in the search.

        `names` are those of the networks by digest.
        """
        same_recipe = [final for final in finals if final.recipe.digest == self._recipe.digest]
        searched = {trial.architecture.digest: trial for trial in reversed(trials)}
        parts = ("in the search", "on the test images")
        table = Table("network", *(f"{m.name} {part}" for m in self._metrics for part in parts))
        for result in sorted(results(same_recipe), key=self._loss):
            trial = searched.get(result.first.network)
            name = f"trial {trial.number}" if trial else result.first.network
            cells = []
            for metric in self._metrics:
                value = trial.evaluation.value(metric.name) if trial else None
                cells += [format_trained(metric, value), result.text(metric)]
            table.add_row(names.get(result.first.network, name), *cells)
        self._console.print(FittedTable(table))
        means, latest = (
            with_posterior_means(trials, self._spec),
            latest_results(same_recipe, trials),
        )
        for metric in self._metrics:
            agreement = ranking(means, latest, metric)
            for line in agreement.lines() if agreement else ():
                self._console.sentence(line)

    def _loss(self, result: FinalResult) -> float:
        """Return a value by which the best result comes first."""
        metric = self._metrics[0]
        mean = result.mean(metric.name)
        if mean is None:
            return math.inf
        return mean if metric.direction is Direction.MINIMIZE else -mean

    def _bar(self, bars: Progress, candidate: Candidate, task: FinalTask) -> TaskID:
        if task.number not in self._tasks:
            self._tasks[task.number] = bars.add_task(
                f"{candidate.name}, seed {task.seed}", total=self._recipe.epochs, loss="-"
            )
        return self._tasks[task.number]
