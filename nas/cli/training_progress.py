"""Progress of trainings beside a search: bars on a terminal, a line for each training elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nas.cli.group import INTERRUPTED
from nas.cli.tables import Terminal, draws_over, terminal
from nas.core import plugins
from nas.core.study import StudySpec
from nas.core.tasks import Task
from nas.core.trial import Trial
from nas.core.units import format_trained

if TYPE_CHECKING:
    from nas.searching.launch import Trainings


@contextmanager
def progress_bars(
    console: Console, *columns: ProgressColumn, resumes: str
) -> Iterator[Progress | None]:
    """Show bars of these columns while trainings run; None if it shows no live view.

    After Ctrl-C it prints what is kept, `resumes`, and ends the command.
    """
    try:
        if not draws_over(console):
            yield None
            return
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, *times, console=console, transient=True) as bars:
            yield bars
    except KeyboardInterrupt:
        console.print(f"stopped; {resumes}, and the same command continues")
        raise click.exceptions.Exit(INTERRUPTED) from None


def run_trainings(
    open_trainings: Callable[..., AbstractContextManager["Trainings[Any]"]],
    display: Any,
    *,
    kind: str,
    address: str | None,
    folder: Path,
) -> None:
    """Run trainings by workers of a kind, for a study whose code lies in this folder.

    `open_trainings` prepares them, such as `open_final` with its first arguments. `display.update`
    gets the recorded steps, and the trainings run in the context `display.live`.
    """
    workers = plugins.load("nas.workers", kind)(address)
    with (
        open_trainings(
            workers=workers, kind=kind, folder=folder, listener=display.update
        ) as trainings,
        display.live(trainings),
    ):
        trainings.run()


class ReplicateDisplay:
    """Progress of trainings with other seeds: `total` of them, `done` are recorded already."""

    def __init__(
        self, spec: StudySpec, total: int, done: int, console: Terminal | None = None
    ) -> None:
        self._console, self._metrics = console or terminal(), spec.quality_metrics
        self._total, self._done = total, done
        self._bar: tuple[Progress, TaskID] | None = None

    @contextmanager
    def live(self, trainings: "Trainings[Task]") -> Iterator[None]:
        """Show the trainings while they run."""
        workers = trainings.context.spec.workers
        self._console.print(
            f"{self._total} replicates, {self._done} of them recorded; {workers.count} "
            f"{workers.kind} {'worker' if workers.count == 1 else 'workers'}"
        )
        columns = (TextColumn("replicates"), BarColumn(), MofNCompleteColumn())
        with progress_bars(self._console, *columns, resumes="every rung is kept") as bars:
            if bars is not None:
                self._bar = bars, bars.add_task("", total=self._total, completed=self._done)
            yield

    def update(self, trial: Trial, task: Task) -> None:
        """Show a recorded rung if it is the last one."""
        searched, rung = trial.evaluation.rungs[-1], task.evaluation.rungs[-1]
        if rung.epochs < searched.epochs:
            return
        self._done += 1
        figures = []
        for metric in self._metrics:
            again, before = (
                format_trained(metric, each.metrics.get(metric.name)) for each in (rung, searched)
            )
            figures.append(f"{metric.name} {again} with seed {task.seed}, {before} in the search")
        self._console.one_line(
            f"[{self._done}/{self._total}] trial {trial.number}: {'; '.join(figures)}"
        )
        if self._bar is not None:
            bars, bar = self._bar
            bars.update(bar, completed=self._done)
