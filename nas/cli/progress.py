"""Display of a running search: a live view on a terminal, one line for each trial elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.analysis.selection import metric_units
from nas.analysis.study_front import study_front
from nas.cli.events import EventLog
from nas.cli.options import command_to_paste, database_to_paste, password_note, shown_url
from nas.cli.tables import (
    MAX_COMPARED_TRIALS,
    PAGE_ROWS,
    baseline_table,
    draws_over,
    front_table,
    hypervolume_phrase,
    terminal,
)
from nas.cli.training_progress import ReplicateDisplay
from nas.core import plugins
from nas.core.measurement import Status
from nas.core.pareto import Outcomes
from nas.core.study import Budget, DataSpec, StudySpec
from nas.core.tasks import Task
from nas.core.trial import Baseline, Evaluated, Trial, TrialState
from nas.core.units import format_duration, format_hypervolume, format_quantity, sparkline
from nas.record import Store
from nas.report.at_work import activity, overlap_line
from nas.report.export_command import export_command
from nas.report.fronts import ShownFront, cells
from nas.report.study_facts import objective_values
from nas.report.terminal_plot import terminal_plot
from nas.report.trial_facts import trial_values
from nas.searching.engine import Engine
from nas.searching.launch import Search, Trainings
from nas.searching.run import SearchObserver

LIVE_ROWS = 10
"""Rows of the front in the live view."""


class SearchDisplay(SearchObserver):
    """The display of one search; `show_artifacts` prints the folder of its checkpoints too.

    With `events` it writes them as well. If they go to standard output, the display is on standard
    error.

    The engine calls `update` after every commit. The view is drawn from what was passed there, so
    drawing reads nothing that the search changes meanwhile.
    """

    def __init__(
        self,
        database: str,
        *,
        show_artifacts: bool = False,
        events: EventLog | None = None,
        stderr: bool = False,
    ) -> None:
        self._console = terminal(stderr=stderr)
        self._events = events
        self._has_ended = False
        self._show_artifacts = show_artifacts
        self._replicates: ReplicateDisplay | None = None
        self._database = database
        self._engine: Engine | None = None
        self._live: Live | None = None
        self._volumes: list[float] = []
        self._body: RenderableType = ""
        self._left = ""
        self._contended: set[tuple[int, datetime]] = set()
        """Attempts to measure that met others on the device."""

    def preparing(self, spec: StudySpec) -> None:
        """Print what is going to happen.

        On a terminal sentences wrap between words; elsewhere each is one line.
        """
        objectives = ", ".join(objective.key for objective in spec.objectives)
        workers = "worker" if spec.workers.count == 1 else "workers"
        self._console.sentence(
            f"study {spec.name}: {objectives} over {spec.space} by {spec.sampler}, "
            f"{spec.workers.count} {spec.workers.kind} {workers}; record "
            f"{shown_url(self._database)}"
        )
        self._console.sentence(
            f"the search ends after {_limits(spec.search_budget)} (budget in the study file)"
        )
        named = (
            spec.space,
            spec.sampler,
            spec.data.dataset,
            spec.data.fallback or "",
            spec.workers.kind,
            spec.evaluator,
            spec.measurement.runtime,
            *(device or spec.measurement.device or "" for device in spec.devices),
            *(objective.metric for objective in spec.objectives),
        )
        for file in plugins.code_outside(named, Path()):
            self._console.one_line(f"this study runs code from outside the current folder: {file}")
        self._console.print("preparing: data, device, number formats …")

    def resuming(self, note: str) -> None:
        """Print which recorded values differ from the defaults."""
        self._console.one_line(note)

    def fetch(self, data: DataSpec) -> None:
        """Find the data set on this machine, or download it under a progress bar."""
        from nas.data import resolve

        with Progress(
            TextColumn("downloading"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        ) as bar:
            task = bar.add_task("", visible=False)

            def show(done: int, total: int | None) -> None:
                bar.update(task, completed=done, total=total, visible=True)

            resolve(data, progress=show)

    def prepared(self, search: Search) -> None:
        """Print the data, the number formats, and how many trials are recorded already."""
        self._engine = search.engine
        self._print_preparation(search)

    @contextmanager
    def live(self, search: Search) -> Iterator[None]:
        """Show the search while it runs."""
        self._engine = search.engine
        self._write_event("begun")
        if not draws_over(self._console):
            yield
            return
        self._body = self._draw(search.engine)  # before `Live` is made, which draws at once
        with Live(
            get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True
        ) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def update(self, trial: Trial) -> None:
        """Show a trial that was recorded."""
        engine = self._engine
        if engine is None:
            return
        self._write_event("trial", trial=trial)
        ended = trial.state is not TrialState.RUNNING and trial.duplicate_of is None
        if ended:
            self._volumes.append(engine.state.front.hypervolume or 0.0)
        if self._live is not None:
            self._body = self._draw(engine)
        elif ended and trial.skipped:
            count = engine.state.num_skipped
            if count & (count - 1) == 0:
                # only the 1st, 2nd, 4th, 8th, …, since a tight limit skips nearly all networks
                self._console.one_line(f"{count} not trained so far, the last: {trial.reason}")
        elif ended:
            self._console.one_line(self._line(engine, trial))
        elif line := self._waiting(engine, trial):
            self._console.one_line(line)

    @contextmanager
    def baselines(self, trainings: Trainings[Task]) -> Iterator[None]:
        """Print which baselines are measured and trained."""
        self._console.sentence(
            f"baselines, measured and trained like the trials: {', '.join(trainings.names)} …"
        )
        yield

    def baseline(self, baseline: Baseline) -> None:
        """Print the figures of a baseline."""
        engine = self._engine
        if engine is not None:
            spec = engine.spec
            self._console.one_line(f"baseline {baseline.name}: {_objectives(spec, baseline)}")

    def baselines_failed(self, failures: Mapping[str, str]) -> None:
        """Print why baselines could not be finished."""
        for name, reason in failures.items():
            self._console.one_line(f"baseline {name}: {reason}; the same command tries it again")

    def certifying(self, members: Sequence[Trial]) -> None:
        """Print what takes so long at the end of a search."""
        self._console.sentence(
            f"certifying the front, networks: {len(members)}, half a minute or more each "
            "(budget.certify: false leaves that out)"
        )

    def interrupted(self, command: str) -> None:
        """Print, after Ctrl-C, the command that continues the search."""
        self.failed("interrupted")
        self._console.one_line(f"stopped; all that is finished is kept. Continue with: {command}")

    def failed(self, reason: str) -> None:
        """Write the event of the end, unless the search had ended already."""
        if not self._has_ended:
            self._write_event("ended", reason=reason)
        self._has_ended = True

    def ended(self, reason: str) -> None:
        """Print why the search ended; front members may be trained again after it."""
        engine = self._engine
        if engine is None:
            return
        self.failed(reason)
        failed = f"; failed trials: {engine.state.num_failed}" if engine.state.num_failed else ""
        duration = format_duration(engine.elapsed_s())
        self._console.sentence(f"\nfinished after {duration} of searching: {reason}{failed}")

    def replicating(self, trainings: Trainings[Task]) -> AbstractContextManager[None]:
        """Show the trainings with new seeds while they run."""
        self._replicates = ReplicateDisplay(
            trainings.context.spec, len(trainings.names), 0, self._console
        )
        return self._replicates.live(trainings)

    def replicated(self, trial: Trial, task: Task) -> None:
        """Show a rung of a training with a new seed."""
        if self._replicates is not None:
            self._replicates.update(trial, task)

    def finished(self, store: Store) -> None:
        """Show the front, with mean errors if networks were trained again, and the next steps.

        Of a large study only the members are read, and not how sure each membership is.
        """
        engine = self._engine
        if engine is None:
            return
        spec, shown = engine.spec, _shown(engine)
        outcomes = Outcomes.of(list(shown.trials.values()), spec.objectives)
        if engine.state.num_trials <= MAX_COMPARED_TRIALS:
            now = study_front(store, spec)
            shown, outcomes = ShownFront.of(now), now.outcomes
        units = metric_units(shown.trials.values(), spec)
        members = shown.front.members
        for line in terminal_plot(outcomes, members, spec, units, width=self._console.width):
            self._console.one_line(Text(line))
        self._console.print(front_table(spec, shown, limit=PAGE_ROWS))
        if baselines := store.baselines(spec.name):
            self._console.print(baseline_table(spec, baselines, list(shown.trials.values())))
        if shown.unbiased is not None:
            self._console.one_line(str(shown.unbiased))
        if overlap := overlap_line(spec, store.summary(spec.name)):
            self._console.one_line(overlap)
        steps = self._next_steps(engine, shown)
        if steps:
            self._console.one_line("\n  ".join(["next:", *steps]))
        note = password_note(self._database)
        if steps and note:
            self._console.one_line(note)

    def _write_event(
        self, kind: str, *, reason: str | None = None, trial: Trial | None = None
    ) -> None:
        """Write an event with the state of the search at this moment."""
        engine = self._engine
        if self._events is None or engine is None:
            return
        spec, front = engine.spec, engine.state.front
        self._events.write(
            {
                "event": kind,
                "at": datetime.now(UTC),
                "study": spec.name,
                "objectives": [objective_values(objective) for objective in spec.objectives],
                "trials": engine.state.num_trials,
                "hypervolume": front.hypervolume,
                "front": front.members,
                "reason": reason,
                "trial": None if trial is None else trial_values(spec, trial),
            }
        )

    def _print_preparation(self, search: Search) -> None:
        """Print the data, the number formats, and how many trials are recorded already."""
        if self._show_artifacts:
            folder = search.context.artifacts
            self._console.one_line(f"checkpoints are read from and written to {folder}")
        preparation = search.context.preparation
        if preparation is not None:
            for warning in preparation.warnings:
                self._console.print(Text(f"WARNING: {warning}", style="bold yellow"))
            if preparation.runtime and _is_measured(search.context.spec):
                plan, device = search.context.spec.measurement, preparation.device["name"]
                self._console.print(f"{device}; runtime {plan.runtime} in {plan.precision}")
            numerics = ", ".join(
                f"{key} {value}"
                for key, value in preparation.numerics.items()
                if not isinstance(value, dict | list)
            )
            self._console.print(
                f"data {preparation.data.dataset} ({len(preparation.classes)} classes); {numerics}"
            )
        state = search.engine.state
        if state.num_trials:
            self._console.print(
                f"continuing after {state.num_trials} trials, "
                f"{len(state.running)} of them unfinished"
            )

    def _next_steps(self, engine: Engine, shown: ShownFront) -> list[str]:
        """Return the commands that a user may want to run next."""
        study, database = engine.spec.name, self._database
        steps = []
        if engine.state.num_failed:
            steps.append(command_to_paste("study", "retry", study, database=database))
        if members := shown.front.members:
            best = members[len(members) // 2]
            steps.append(command_to_paste("front", study, database=database))
            steps.append(command_to_paste("show", f"{study}:{best}", database=database))
            if shown.trials[best].evaluation.rungs:  # else there are no weights
                steps.append(export_command(study, best, database_to_paste(database)))
        return steps

    def _render(self) -> RenderableType:
        engine = self._engine
        if engine is None:
            return self._body
        clock = Text(f"searched {format_duration(engine.elapsed_s())}, {self._left}")
        return Group(clock, self._body)

    def _draw(self, engine: Engine) -> RenderableType:
        state, spec = engine.state, engine.spec
        self._left = time_left(engine)
        skipped = state.num_skipped
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=spec.search_budget.trials, completed=state.num_finished, width=30),
            f"{state.num_finished} of {spec.search_budget.trials} trials",
            f"{state.num_trials - state.num_architectures} repeated, {state.num_failed} failed"
            f"{f', {skipped} not trained' if skipped else ''}",
        )
        if state.front.hypervolume is None:
            history = Text("hypervolume: give every objective a reference")
        else:
            volume = format_hypervolume(state.front.hypervolume, spec.reference_box)
            history = Text(f"hypervolume {volume}  {sparkline(self._volumes)}")
        running = []
        for trial in state.running:
            worker = f", {trial.worker}" if trial.worker else ""
            line = f"trial {trial.number}: {activity(trial, spec)}{worker}"
            running.append(Text(line, style="dim"))
        return Group(bar, history, front_table(spec, _shown(engine), limit=LIVE_ROWS), *running)

    def _waiting(self, engine: Engine, trial: Trial) -> str:
        """Return a line for a trial that could not be measured, once for each attempt."""
        for figure in trial.evaluation.measurements.values():
            attempt = (trial.number, figure.started_at)
            if figure.status is Status.CONTENDED and attempt not in self._contended:
                self._contended.add(attempt)
                return (
                    f"trial {trial.number} waits for a quiet device: {figure.metric} is contended, "
                    f"{figure.reason}; it is tried again, {engine.waits_for}"
                )
        return ""

    @staticmethod
    def _line(engine: Engine, trial: Trial) -> str:
        """Return the line for a trial that ended."""
        front, spec = engine.state.front, engine.spec
        mark = ""
        if trial.number in front.members:
            mark = " (front)" if front.feasible else " (nearest to the limits)"
        return (
            f"[{engine.state.num_finished}/{engine.spec.search_budget.trials}] "
            f"trial {trial.number} {trial.state}{mark}: "
            f"{trial.reason or _objectives(spec, trial)}{hypervolume_phrase(spec, front)}, "
            f"{time_left(engine)}"
        )


def _shown(engine: Engine) -> ShownFront:
    """Return the front of a search at this moment."""
    state = engine.state
    return ShownFront(front=state.front, trials={trial.number: trial for trial in state.members()})


def _objectives(spec: StudySpec, network: Evaluated) -> str:
    """Return the objectives of a network with their names."""
    named = zip(spec.objectives, cells(spec, network), strict=True)
    return ", ".join(f"{objective.key} {text}" for objective, text in named)


def time_left(engine: Engine) -> str:
    """Estimate the time left, by the budget of which the largest share is spent.

    Once it is spent, the trials at work are named: how long they take is not known.
    """
    elapsed, state, budget = engine.elapsed_s(), engine.state, engine.spec.search_budget
    if not state.num_finished:
        return "time left unknown"
    usage = state.spent
    shares = [
        used / limit
        for used, limit in (
            (state.num_finished, budget.trials),
            (elapsed, budget.wall_time_s),
            (usage.epochs, budget.epochs),
            (usage.device_s, budget.device_s),
            (usage.energy_j or 0.0, budget.energy_j),
        )
        if limit is not None
    ]
    left_s = elapsed * max(1 / max(shares) - 1, 0.0)
    if round(left_s) == 0 and state.running:
        return f"the budget is spent, trials at work: {len(state.running)}"
    return f"about {format_duration(left_s)} left"


def _limits(budget: Budget) -> str:
    """Return the limits of a search in words; the first that is reached ends it."""
    limits = [f"{budget.trials} networks"]
    if budget.wall_time_s is not None:
        limits.append(f"{format_duration(budget.wall_time_s)} of searching")
    if budget.device_s is not None:
        limits.append(f"{format_duration(budget.device_s)} of device time")
    if budget.epochs is not None:
        limits.append(f"{budget.epochs:g} epochs")
    if budget.energy_j is not None:
        limits.append(format_quantity(budget.energy_j, "J"))
    return " or ".join(limits)


def _is_measured(spec: StudySpec) -> bool:
    """Return whether an objective needs the device."""
    from nas.measuring.metrics import Phase, find_metric

    metrics = (find_metric(objective.metric) for objective in spec.measured_objectives)
    return any(metric.phase is Phase.MEASURED for metric in metrics)
