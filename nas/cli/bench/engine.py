"""`nas bench engine`: time and memory of the search's engine."""

import os
import tempfile
import time
from array import array
from itertools import pairwise
from pathlib import Path

import click

from nas.cli.bench import bench
from nas.core import plugins
from nas.core.study import Budget, Objective, StudySpec, WorkersSpec, rungs_at
from nas.core.trial import Trial, TrialState
from nas.core.units import format_duration
from nas.record import Store
from nas.searching.launch import open_search


@bench.command()
@click.option(
    "--trials", type=click.IntRange(min=1), default=200, show_default=True, help="Trials to run."
)
@click.option(
    "--workers", "kind", default="local", show_default=True, metavar="KIND", help="local or tune."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, help="Workers at once."
)
@click.option(
    "--sampler",
    default="random",
    show_default=True,
    metavar="NAME",
    help="The sampler that proposes.",
)
@click.option(
    "--database",
    metavar="URL",
    help="The database to write to. [default: a temporary SQLite file]",
)
def engine(trials: int, kind: str, count: int, sampler: str, database: str | None) -> None:
    """Measure the engine's time per trial.

    The trials compute nothing but arithmetic.
    """
    objectives = (
        Objective(metric="error", reference=1.0),
        Objective(metric="latency", reference=1.0),
    )
    spec = StudySpec(
        name="bench-engine",
        space="osa_cifar",
        sampler=sampler,
        objectives=objectives,
        rungs=rungs_at(1, 2),
        budget=Budget(trials=trials, fresh=0),
        workers=WorkersSpec(kind=kind, count=count),
    )
    # 16 bytes per trial, so that they do not show in the memory that they record
    times, memory = array("d"), array("d")

    def mark() -> None:
        times.append(time.perf_counter())
        memory.append(memory_mb())

    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        started = time.perf_counter()
        with (
            Store.open(database or str(Path(folder) / "bench.db")) as store,
            open_search(
                spec,
                store=store,
                workers=plugins.load("nas.workers", kind)(None),
                folder=Path(folder),
                artifacts=Path(folder),
                evaluator="nas.testing.evaluators:ArithmeticEvaluator",
                listener=lambda trial: mark() if _ended(trial) else None,
            ) as search,
        ):
            before = search.engine.state.num_architectures
            mark()
            search.run()
    done, duration_s = len(times) - 1, times[-1] - times[0]
    click.echo(
        f"{kind}, {count} worker(s), {sampler}, {before} trials before: "
        f"start {times[0] - started:.1f} s, {memory[0]:.0f} MB"
    )
    if done:
        click.echo(
            f"{done} trials of 3 events: {format_duration(duration_s)}, "
            f"{1000 * duration_s / done:.1f} ms per trial; driver {memory[-1]:.0f} MB at the end"
        )
    if done >= 10:
        ends = [round(done * tenth / 10) for tenth in range(11)]
        click.echo(
            "\n".join(
                f"  tenth {tenth}: {10_000 * (times[end] - times[start]) / done:.1f} ms per trial, "
                f"{memory[end]:.1f} MB"
                for tenth, (start, end) in enumerate(pairwise(ends), 1)
            )
        )
        growth_kb = 1000 * (memory[-1] - memory[ends[5]]) / (done - ends[5])
        click.echo(f"in the second half the driver grew by {growth_kb:.2f} kB per trial")


def memory_mb() -> float:
    """Return the memory of this process, in MB of 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _ended(trial: Trial) -> bool:
    return trial.duplicate_of is None and trial.state is not TrialState.RUNNING
