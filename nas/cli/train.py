"""`nas train`: networks of a study, and others beside them, trained fully and judged on the test
images.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from nas.analysis.finals import latest_results, ranking, results
from nas.analysis.posterior import front_now, with_posterior_means
from nas.cli import main
from nas.cli.options import database_option, pick_study
from nas.core import plugins
from nas.core.errors import InvalidValueError, NasError
from nas.core.moved import equivalent_names
from nas.core.pareto import knee as knee_of
from nas.core.published import PUBLISHED, published
from nas.core.recipe import FinalTraining, Recipe
from nas.core.tasks import EpochDone, FinalTask
from nas.core.trial import Trial
from nas.core.units import format_quantity
from nas.record import Store, StudyRecord
from nas.searching.final import Candidate, missing_trainings, open_final, teacher_of
from nas.searching.study_file import read_recipe


@main.command()
@click.argument("study", required=False)
@database_option
@click.option("--front", is_flag=True, help="The members of the front.")
@click.option("--knee", is_flag=True, help="The front's best compromise.")
@click.option(
    "--trial", "numbers", type=int, multiple=True, help="This trial; may be given several times."
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="A VoVNet such as vovnet27_slim_cifar, or module:callable, to compare with; may be given several "
    "times.",
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
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The recipe as YAML. [default: 30 epochs, see docs/training.md]",
)
@click.option(
    "--epochs", type=click.FloatRange(min=0, min_open=True), help="Instead of the recipe's."
)
@click.option(
    "--teacher", type=int, metavar="N", help="Let trial N teach, which is trained already."
)
@click.option("--workers", metavar="KIND", help="Who works, instead of the study's: local or tune.")
@click.option(
    "--address",
    metavar="ADDRESS",
    help="The Ray cluster to work on (tune only), as ray.init takes it.",
)
def train(
    *,
    study: str | None,
    database: str,
    front: bool,
    knee: bool,
    numbers: tuple[int, ...],
    networks: tuple[str, ...],
    seeds: int,
    file: Path | None,
    epochs: float | None,
    teacher: int | None,
    workers: str | None,
    address: str | None,
) -> None:
    """Train networks of STUDY fully, on all its training images, and judge each once on the test
    images.

    Press Ctrl-C at any time: the same command goes on at the last whole epoch.
    """
    recipe = read_recipe(file) if file else Recipe()
    recipe = replace(
        recipe,
        epochs=recipe.epochs if epochs is None else epochs,
        teacher=recipe.teacher if teacher is None else teacher,
    )
    with Store.open(database) as store:
        record = pick_study(store, study)
        trials, finals = store.trials(record.name), store.finals(record.name)
        candidates = [
            *_of_trials(record, trials, numbers, front=front, knee=knee),
            *(_named(name, finals) for name in networks),
        ]
        if not candidates:
            raise InvalidValueError(
                "say what to train by --front, --knee, --trial N or --network NAME"
            )
        todo = missing_trainings(
            record.spec, candidates, recipe, seeds, finals, teacher_of(recipe, trials, finals)
        )
        display = Display(recipe, len(candidates) * seeds, len(candidates) * seeds - len(todo))
        if todo:
            kind = workers or record.spec.workers.kind
            with (
                open_final(
                    store,
                    record.name,
                    todo,
                    workers=plugins.load("nas.workers", kind)(address),
                    kind=kind,
                    folder=Path.cwd(),
                    listener=display.update,
                ) as found,
                display.shown(),
            ):
                found.run()
        display.summary(trials, store.finals(record.name), {c.network: c.name for c in candidates})


def _of_trials(
    record: StudyRecord, trials: Sequence[Trial], numbers: Sequence[int], *, front: bool, knee: bool
) -> list[Candidate]:
    """The trials' networks that the options name, each once."""
    known = {trial.number: trial for trial in trials}
    wanted = list(numbers)
    if front or knee:
        objectives = record.spec.objectives
        found, means = front_now(trials, objectives)
        if not found.feasible:
            raise NasError(
                f"nothing of {record.name} is within every limit yet; see nas front {record.name}"
            )
        wanted += found.members if front else ()
        wanted += (
            [knee_of([means[number] for number in found.members], objectives).number]
            if knee
            else ()
        )
    wrong = [number for number in wanted if number not in known]
    if wrong:
        raise InvalidValueError(f"there is no trial {wrong[0]} in {record.name}")
    chosen = {known[number].architecture.digest: known[number] for number in reversed(wanted)}
    return [
        Candidate(name=f"trial {trial.number}", architecture=trial.architecture, trial=trial)
        for trial in reversed(chosen.values())
    ]


def _named(name: str, finals: Sequence[FinalTraining]) -> Candidate:
    """Return a published network, or whatever a callable makes.

    A network keeps the name under which it was trained before its module moved, and so its seeds.
    """
    if name not in PUBLISHED and ":" in name:
        recorded = {final.network for final in finals}.intersection(equivalent_names(name))
        return Candidate(name=min(recorded, default=name), architecture=None)
    return Candidate(name=name, architecture=published(name))


class Display:
    """Bars on a terminal, a line for each finished training elsewhere; a table in the end."""

    def __init__(self, recipe: Recipe, total: int, done: int) -> None:
        self._console = Console(highlight=False)
        self._recipe, self._total, self._done = recipe, total, done
        self._bars: Progress | None = None
        self._tasks: dict[int, TaskID] = {}
        self._console.print(
            f"{total} trainings of {recipe.epochs:g} epochs, {done} of them recorded"
        )

    def update(
        self, candidate: Candidate, task: FinalTask, event: EpochDone | FinalTraining
    ) -> None:
        """An epoch was trained, or a training ended."""
        if isinstance(event, EpochDone):
            if self._bars is not None:
                self._bars.update(
                    self._bar(candidate, task), completed=event.epochs, loss=f"{event.loss:.3f}"
                )
            return
        self._done += 1
        if self._bars is not None:
            self._bars.remove_task(self._bar(candidate, task))
        error = format_quantity(event.reached.error, "1", metric="error")
        self._console.print(
            f"[{self._done}/{self._total}] {candidate.name}: error {error} on {event.test_images:,} "
            f"test images with seed {task.seed}",
            markup=False,
            soft_wrap=True,
        )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it while it runs; tells what Ctrl-C leaves."""
        try:
            if not self._console.is_terminal:
                yield
                return
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("loss {task.fields[loss]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            ) as bars:
                self._bars = bars
                yield
        except KeyboardInterrupt:
            self._console.print("stopped; whole epochs are kept, and the same command goes on")
            raise click.exceptions.Exit(130) from None

    def summary(
        self, trials: Sequence[Trial], finals: Sequence[FinalTraining], names: dict[str, str]
    ) -> None:
        """The chosen networks by this recipe, and whether the search had ranked its own right."""
        own = [final for final in finals if final.recipe.digest == self._recipe.digest]
        searched = {trial.architecture.digest: trial for trial in reversed(trials)}
        table = Table(box=box.SIMPLE)
        for heading in ("network", "error in the search", "error on the test images"):
            table.add_column(heading)
        for result in sorted(results(own), key=lambda result: result.mean):
            trial = searched.get(result.network)
            before = format_quantity(
                trial.evaluation.value("error") if trial else None, "1", metric="error"
            )
            table.add_row(
                names.get(result.network, f"trial {trial.number}" if trial else result.network),
                before,
                str(result),
            )
        self._console.print(table)
        compared = ranking(with_posterior_means(trials), latest_results(own, trials))
        for line in compared.lines() if compared else ():
            self._console.print(line, markup=False, soft_wrap=not self._console.is_terminal)

    def _bar(self, candidate: Candidate, task: FinalTask) -> TaskID:
        if self._bars is None:
            raise NasError("nothing is shown")
        if task.number not in self._tasks:
            self._tasks[task.number] = self._bars.add_task(
                f"{candidate.name}, seed {task.seed}", total=self._recipe.epochs, loss="-"
            )
        return self._tasks[task.number]
