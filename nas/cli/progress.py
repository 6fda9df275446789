"""What a running search shows: a live view on a terminal, one line per trial elsewhere; the front
at its end.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
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

from nas.analysis.posterior import front_now, unbiased_hypervolume
from nas.cli.tables import MANY, PAGE, front_table
from nas.core import plugins
from nas.core.study import DataSpec, StudySpec
from nas.core.trial import Trial, TrialState
from nas.core.units import format_duration, sparkline
from nas.record import Address, Store
from nas.report.at_work import activity
from nas.report.export_command import export_command
from nas.report.fronts import cells
from nas.searching.engine import Engine
from nas.searching.launch import Search

SHOWN = 10
"""Rows of the live front."""


class SearchDisplay:
    """Fed by the engine after every commit (`update`); draws from what it was fed, so that a redraw
    reads nothing that the search is changing.
    """

    def __init__(self, database: str) -> None:
        self._console = Console(highlight=False)
        self._database = database
        self._engine: Engine | None = None
        self._live: Live | None = None
        self._volumes: list[float] = []
        self._body: RenderableType = ""
        self._left = ""

    def preparing(self, spec: StudySpec) -> None:
        """Say what is going to happen. Sentences are wrapped at words on a terminal, and stay whole
        lines elsewhere.
        """
        objectives = ", ".join(o.metric for o in spec.objectives)
        self._console.print(
            f"study {spec.name}: {objectives} over {spec.space} by {spec.sampler}, "
            f"{spec.workers.count} {spec.workers.kind} worker(s); record {shown_url(self._database)}",
            soft_wrap=not self._console.is_terminal,
        )
        named = (
            spec.space,
            spec.sampler,
            spec.data.dataset,
            spec.data.fallback or "",
            spec.workers.kind,
            *(objective.metric for objective in spec.objectives),
        )
        for file in plugins.code_outside(named, Path()):
            self._console.print(
                f"this study runs code from outside the current folder: {file}", soft_wrap=True
            )
        self._console.print("preparing: data, device, number formats …")

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
            resolve(
                data,
                progress=lambda done, total: bar.update(
                    task, completed=done, total=total, visible=True
                ),
            )

    @contextmanager
    def live(self, search: Search) -> Iterator[None]:
        """Show the search while it runs."""
        self._engine = search.engine
        preparation = search.context.preparation
        if preparation is not None:
            for warning in preparation.warnings:
                self._console.print(Text(f"WARNING: {warning}", style="bold yellow"))
            numerics = ", ".join(
                f"{key} {value}"
                for key, value in preparation.numerics.items()
                if not isinstance(value, dict | list)
            )
            self._console.print(
                f"data {preparation.data.dataset} ({len(preparation.classes)} classes); {numerics}"
            )
        known = search.engine.state.known
        if known:
            self._console.print(
                f"going on after {known} trials, {len(search.engine.state.running)} of them unfinished"
            )
        if not self._console.is_terminal:
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
        """A trial was recorded."""
        engine = self._engine
        if engine is None:
            return
        ended = trial.state is not TrialState.RUNNING and trial.duplicate_of is None
        if ended:
            self._volumes.append(engine.state.front.hypervolume or 0.0)
        if self._live is not None:
            self._body = self._draw(engine)
        elif ended and trial.skipped:
            count = engine.state.architectures - engine.state.counted
            if (
                count & (count - 1) == 0
            ):  # at 1, 2, 4, 8, … of them: a tight limit is beyond nearly all networks
                self._console.print(
                    f"{count} not trained so far, the last: {trial.reason}", soft_wrap=True
                )
        elif ended:
            self._console.print(self._line(engine, trial), soft_wrap=True)

    def certifying(self, members: Sequence[Trial]) -> None:
        """Say what takes so long."""
        self._console.print(
            f"certifying the front, networks: {len(members)}, half a minute or more each "
            "(budget.certify: false leaves that out)",
            soft_wrap=not self._console.is_terminal,
        )

    def interrupted(self, study_file: Path) -> None:
        """After Ctrl-C."""
        self._console.print(
            f"stopped; everything finished is kept. Go on with: nas search {study_file}"
        )

    def ended(self, reason: str) -> None:
        """The search is over; its front may be trained again yet."""
        engine = self._engine
        if engine is not None:
            failed = f"{engine.state.failed} of them failed; " if engine.state.failed else ""
            self._console.print(
                f"\nfinished: {reason}; {failed}{format_duration(engine.elapsed_s())} of searching",
                soft_wrap=not self._console.is_terminal,
            )

    def finished(self, store: Store) -> None:
        """Show the front, by the means where networks were trained again, and what to do next. Of
        many trials only the members are read, and not how sure each is.
        """
        engine = self._engine
        if engine is None:
            return
        spec, front, fresh = engine.spec, engine.state.front, None
        trials = {trial.number: trial for trial in engine.state.members()}
        sure = engine.state.known <= MANY
        if sure:
            seen = store.trials(spec.name)
            fresh, (front, trials) = (
                unbiased_hypervolume(seen, spec.objectives),
                front_now(seen, spec.objectives),
            )
        self._console.print(front_table(spec, trials, front, limit=PAGE, sure=sure))
        if fresh is not None:
            self._console.print(str(fresh), soft_wrap=True)
        option = "" if self._database == "nas.db" else f" --database {shown_url(self._database)}"
        steps = [f"nas retry {spec.name}{option}"] if engine.state.failed else []
        if front.members:
            best = front.members[len(front.members) // 2]
            steps += [f"nas front {spec.name}{option}", f"nas show {spec.name}:{best}{option}"]
            if trials[best].evaluation.rungs:  # else there are no weights
                steps.append(export_command(spec.name, best, shown_url(self._database)))
        self._console.print("\n  ".join(["next:", *steps]) if steps else "", soft_wrap=True)

    def _render(self) -> RenderableType:
        engine = self._engine
        clock = (
            Text(f"searched {format_duration(engine.elapsed_s())}, {self._left}")
            if engine is not None
            else Text()
        )
        return Group(clock, self._body)

    def _draw(self, engine: Engine) -> RenderableType:
        state, spec = engine.state, engine.spec
        self._left = time_left(engine)
        bar = Table.grid(padding=(0, 1))
        skipped = state.architectures - state.counted
        bar.add_row(
            ProgressBar(total=spec.search_budget.trials, completed=state.done, width=30),
            f"{state.done} of {spec.search_budget.trials} trials",
            f"{state.known - state.architectures} repeated, {state.failed} failed"
            f"{f', {skipped} not trained' if skipped else ''}",
        )
        volume = state.front.hypervolume
        history = Text(
            "hypervolume: give every objective a reference"
            if volume is None
            else f"hypervolume {volume:.4g}  {sparkline(self._volumes)}"
        )
        running = [
            Text(
                f"trial {t.number}: {activity(t, spec)}{f', {t.worker}' * bool(t.worker)}",
                style="dim",
            )
            for t in state.running
        ]
        members = {member.number: member for member in state.members()}
        return Group(
            bar, history, front_table(spec, members, state.front, limit=SHOWN, sure=False), *running
        )

    @staticmethod
    def _line(engine: Engine, trial: Trial) -> str:
        front = engine.state.front
        volume = "" if front.hypervolume is None else f", hypervolume {front.hypervolume:.4g}"
        mark = (
            ""
            if trial.number not in front.members
            else " (front)"
            if front.feasible
            else " (nearest to the limits)"
        )
        found = trial.reason or ", ".join(
            f"{o.metric} {cell}"
            for o, cell in zip(
                engine.spec.objectives, cells(engine.spec.objectives, trial), strict=True
            )
        )
        budget = engine.spec.search_budget
        return (
            f"[{engine.state.done}/{budget.trials}] trial {trial.number} {trial.state}{mark}: {found}{volume}, "
            f"{time_left(engine)}"
        )


def time_left(engine: Engine) -> str:
    """A guess from the trials so far, those without training left out, and from each budget's share
    that is spent.
    """
    elapsed, state, budget = engine.elapsed_s(), engine.state, engine.spec.search_budget
    if not state.done:
        return "time left unknown"
    spent = state.spent
    shares = [
        used / limit
        for used, limit in (
            (state.done, budget.trials),
            (elapsed, budget.wall_time_s),
            (spent.epochs, budget.epochs),
            (spent.device_s, budget.device_s),
            (spent.energy_j or 0.0, budget.energy_j),
        )
        if limit is not None
    ]
    return f"about {format_duration(elapsed * max(1 / max(shares) - 1, 0.0))} left"


def shown_url(url: str) -> str:
    """A database's address as it was given, without its password. Raises `DatabaseError` for what
    is no address.
    """
    address = Address.parse(url)
    return url if address.path is not None else str(address)
