"""`nas bench`: how fast the parts of osa-nas are on this machine."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from nas.sampling.contest import Run


@main.group()
def bench() -> None:
    """Time the parts of osa-nas on this machine."""


@bench.command()
@click.option("--trials", type=click.IntRange(min=1), default=200, show_default=True, help="Trials to run.")
@click.option("--workers", "kind", default="local", show_default=True, metavar="KIND", help="local or tune.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="Workers at once.")
@click.option("--sampler", default="random", show_default=True, metavar="NAME", help="Who proposes.")
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
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
def training(seconds: float, threads: int) -> None:
    """Images per second of our training loop, of bare steps on a resident batch, and of a plain DataLoader loop."""
    from nas.training.throughput import bench_training  # noqa: PLC0415 - torch takes seconds to import

    table = Table(box=box.SIMPLE)
    for heading in ("network", "MMACs", "ours img/s", "bare img/s", "plain img/s", "ours/bare", "ours/plain"):
        table.add_column(heading, justify="right")
    for row in bench_training(seconds=seconds, threads=threads):
        table.add_row(*row.cells())
    Console(highlight=False).print(table)



@bench.command("search")
@click.option("--table", "path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A table of trained networks.")
@click.option("--table-format", "form", required=True, type=click.Choice(["nas-bench-macro", "channel-bench", "csv"]),
              help="How it is written.")
@click.option("--samplers", default="known-cost,mutate_front,random,tpe,tpe-multivariate,nsga2,nsga2-p50",
              show_default=True, help="Names, the first is compared with the others; gp takes a second per proposal.")
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True, help="Runs of each sampler.")
@click.option("--budget", type=click.IntRange(min=10), default=200, show_default=True, help="Evaluations of each run.")
@click.option("--noisy", is_flag=True, help="Show the search one training seed's accuracy; score by the mean.")
@click.option("--hide-reference", is_flag=True, help="Do not tell samplers the reference point, as studies without do.")
def search(*, path: Path, form: str, samplers: str, seeds: int, budget: int, noisy: bool,
           hide_reference: bool) -> None:
    """Samplers on a table: hypervolume as a share of the true front's, mean and deviation over seeds."""
    from nas.sampling import contest  # noqa: PLC0415 - SciPy's statistics take a second to import
    from nas.sampling.tables import read_table  # noqa: PLC0415 - as above

    table, names = read_table(path, form), [name.strip() for name in samplers.split(",")]
    for name in names:
        contest.sampler_named(name)
    runs = {name: [contest.run(table, name, seed=seed, budget=budget, noisy=noisy, tell_reference=not hide_reference)
                   for seed in range(seeds)] for name in names}
    marks = [mark for mark in (25, 50, 100, 200) if mark <= budget] or [budget]
    curves = Table(box=box.SIMPLE)
    for heading in ("sampler", *(f"at {mark}" for mark in marks), "distinct", "s/proposal"):
        curves.add_column(heading, justify="left" if heading == "sampler" else "right")
    for name, each in runs.items():
        volumes = [[run.volumes[mark - 1] for run in each] for mark in marks]
        curves.add_row(name, *(f"{statistics.mean(v):.3f} ± {statistics.pstdev(v):.3f}" for v in volumes),
                       f"{statistics.mean(len(set(run.rows.tolist())) for run in each):.0f}",
                       f"{statistics.mean(run.seconds for run in each):.4f}")
    console = Console(highlight=False)
    console.print(curves)
    if len(names) > 1:
        console.print(_lead(runs))


def _lead(runs: "dict[str, list[Run]]") -> Table:
    """How soon the first sampler reaches the others' final values."""
    from nas.sampling import contest  # noqa: PLC0415 - as above

    first = next(iter(runs))
    p_values = contest.p_values(runs, first)
    table = Table(box=box.SIMPLE)
    for heading in ("final value of", f"{first} needs", "of", "repeats not charged", "of", "p (Wilcoxon, Holm)"):
        table.add_column(heading, justify="left" if heading == "final value of" else "right")
    for name, p_value in p_values.items():
        cells = []
        for charged in (True, False):
            theirs = contest.mean_curve(runs[name], charged=charged)
            needed = contest.evaluations_to(contest.mean_curve(runs[first], charged=charged), float(theirs[-1]))
            cells += ["more" if needed is None else str(needed), str(len(theirs))]
        table.add_row(name, *cells, f"{p_value:.4f}")
    return table
