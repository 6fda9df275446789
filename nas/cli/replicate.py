"""`nas replicate`: the networks of trials trained again with other seeds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nas.cli import main
from nas.cli.options import database_option, pick_study
from nas.core import plugins
from nas.core.errors import InvalidValueError, NasError
from nas.core.pareto import front as front_of
from nas.core.tasks import Task
from nas.core.trial import Trial
from nas.core.units import format_quantity
from nas.record import Store, StudyRecord
from nas.searching.launch import Trainings
from nas.searching.replicates import missing_trainings, open_replicates, select_trials


@main.command()
@click.argument("study", required=False)
@database_option
@click.option("--front", is_flag=True, help="The members of the front.")
@click.option("--all", "everything", is_flag=True, help="All complete trials.")
@click.option("--trials", "numbers", metavar="N,N,...", help="These trials.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Replicates of each, besides the search's own training; those that are recorded count.",
)
@click.option("--workers", metavar="KIND", help="Who works, instead of the study's: local or tune.")
@click.option(
    "--address",
    metavar="ADDRESS",
    help="The Ray cluster to work on (tune only), as ray.init takes it.",
)
def replicate(
    *,
    study: str | None,
    database: str,
    front: bool,
    everything: bool,
    numbers: str | None,
    seeds: int,
    workers: str | None,
    address: str | None,
) -> None:
    """Train networks of STUDY again with other seeds, as its search did, on its training and
    validation images.

    The front then counts with the means, and shows how far they are sure. Press Ctrl-C at any time:
    every rung is kept, and the same command goes on.
    """
    with Store.open(database) as store:
        record = pick_study(store, study)
        trials = _wanted(
            record, store.trials(record.name), numbers, front=front, everything=everything
        )
        todo = missing_trainings(record.spec, trials, seeds)
        if not todo:
            click.echo(f"{len(trials)} networks have {seeds} replicates each already")
            return
        kind = workers or record.spec.workers.kind
        display = Display(len(trials) * seeds, len(trials) * seeds - len(todo))
        with open_replicates(
            store,
            record.name,
            todo,
            workers=plugins.load("nas.workers", kind)(address),
            kind=kind,
            folder=Path.cwd(),
            listener=display.update,
        ) as found:
            display.run(found)


def _wanted(
    record: StudyRecord, trials: list[Trial], numbers: str | None, *, front: bool, everything: bool
) -> list[Trial]:
    """The trials that exactly one of the options names."""
    if (numbers is not None) + front + everything != 1:
        raise InvalidValueError(
            "say what to train again by one of --front, --all and --trials 1,2,3"
        )
    if not record.spec.needs_training:
        raise NasError(
            f"study {record.name!r} trains nothing, so its figures do not depend on seeds"
        )
    if numbers is not None:
        parts = [part.strip() for part in numbers.split(",")]
        if not all(part.isdigit() for part in parts):
            raise InvalidValueError(
                f"--trials takes numbers with commas between them, not {numbers!r}"
            )
        return select_trials(trials, {int(part) for part in parts})
    if everything:
        return select_trials(trials)
    found = front_of(trials, record.spec.objectives)
    if not found.feasible:
        raise NasError(
            f"nothing of {record.name} is within every limit yet; see nas front {record.name}"
        )
    return select_trials(trials, found.members)


class Display:
    """A bar on a terminal, a line for each replicate elsewhere."""

    def __init__(self, total: int, done: int) -> None:
        self._console = Console(highlight=False)
        self._total, self._done = total, done
        self._bar: tuple[Progress, TaskID] | None = None

    def run(self, replication: Trainings[Task]) -> None:
        """Train, and show it."""
        self._console.print(
            f"{self._total} replicates, {self._done} of them recorded; "
            f"{replication.context.spec.workers.count} {replication.context.spec.workers.kind} worker(s)"
        )
        try:
            with self._shown():
                replication.run()
        except KeyboardInterrupt:
            self._console.print("stopped; every rung is kept, and the same command goes on")
            raise click.exceptions.Exit(130) from None

    def update(self, trial: Trial, task: Task) -> None:
        """A rung was recorded."""
        searched, rung = trial.evaluation.rungs[-1], task.evaluation.rungs[-1]
        if rung.epochs < searched.epochs:
            return
        self._done += 1
        shown = [format_quantity(each.error, "1", metric="error") for each in (rung, searched)]
        self._console.print(
            f"[{self._done}/{self._total}] trial {trial.number}: error {shown[0]} with seed "
            f"{task.seed}, {shown[1]} in the search",
            markup=False,
            soft_wrap=True,
        )
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=self._done)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Progress(
            TextColumn("replicates"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        ) as bar:
            self._bar = bar, bar.add_task("", total=self._total, completed=self._done)
            yield
