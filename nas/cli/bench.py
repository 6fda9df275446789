"""`nas bench`: how fast the parts of osa-nas are on this machine."""

import tempfile
import time
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from nas import plugins
from nas.cli import main
from nas.report.quantities import duration
from nas.search.launch import open_search
from nas.store import Store
from nas.study import Budget, Objective, RungSpec, StudySpec, WorkersSpec


@main.group()
def bench() -> None:
    """Time the parts of osa-nas on this machine."""


@bench.command()
@click.option("--trials", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--workers", "kind", default="local", show_default=True, metavar="KIND")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="Workers at once.")
@click.option("--sampler", default="random", show_default=True)
@click.option("--database", metavar="URL", help="The record. [default: a temporary SQLite file]")
def engine(trials: int, kind: str, count: int, sampler: str, database: str | None) -> None:
    """Engine time per trial, with trials that do nothing (their figures are arithmetic)."""
    objectives = (Objective(metric="error", reference=1.0), Objective(metric="latency", reference=1.0))
    spec = StudySpec(name="bench-engine", space="osa_cifar", sampler=sampler, objectives=objectives,
                     rungs=RungSpec(epochs=(1, 2)), budget=Budget(trials=trials),
                     workers=WorkersSpec(kind=kind, count=count))
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        started = time.perf_counter()
        with Store.open(database or str(Path(folder) / "bench.db")) as store, open_search(
            spec, store=store, workers=plugins.load("nas.workers", kind)(None), folder=Path(folder),
            artifacts=Path(folder), evaluator="nas.testing.evaluators:ArithmeticEvaluator",
        ) as found:
            ready = time.perf_counter()
            found.run()
            ended = time.perf_counter()
    done = found.engine.brain.architectures
    click.echo(f"{kind}, {count} worker(s), {sampler}: {done} trials of 3 events; start {ready - started:.1f} s, "
               f"run {duration(ended - ready)}, {1000 * (ended - ready) / done:.1f} ms per trial")


@bench.command()
@click.option("--seconds", type=click.FloatRange(min=0.1), default=20.0, show_default=True,
              help="Time for each figure.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def training(seconds: float, threads: int) -> None:
    """Images per second of our training loop, of bare steps on a resident batch, and of a plain DataLoader loop."""
    from nas.training.throughput import bench_training  # noqa: PLC0415 - torch takes seconds to import

    table = Table(box=box.SIMPLE)
    for heading in ("network", "MMACs", "ours img/s", "bare img/s", "plain img/s", "ours/bare", "ours/plain"):
        table.add_column(heading, justify="right")
    for row in bench_training(seconds=seconds, threads=threads):
        table.add_row(*row.cells())
    Console(highlight=False).print(table)


