"""`nas bench store`: the record with many trials, beside Optuna's storage in the same run."""

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import click
from rich import box
from rich.console import Console
from rich.table import Table

from nas.cli import main
from nas.cli.bench import bench
from nas.errors import DatabaseError
from nas.report.quantities import duration
from nas.store import Store, throughput

Write = Callable[[str, Iterable[int], Callable[[], object]], None]
"""Writes the trials of these numbers to a URL, and calls its last argument when all is open."""
REPEATS = 5


@bench.command("store")
@click.option("--evaluations", type=click.IntRange(min=1), default=2000, show_default=True,
              help="Made-up trials to write, each with 12 params, 5 figures and a rung.")
@click.option("--processes", type=click.IntRange(min=1), default=8, show_default=True, help="Writers at once.")
@click.option("--compared", type=click.IntRange(min=0), default=200, show_default=True,
              help="Trials of the same work that Optuna's storage writes, in as many processes.")
@click.option("--database", metavar="URL", help="An empty database. [default: a temporary SQLite file]")
def store(evaluations: int, processes: int, compared: int, database: str | None) -> None:
    """How many trials the record takes per second, and how long people wait who look at them."""
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        url = database or f"sqlite:///{folder}/nas.db"
        with Store.open(url) as record:
            if record.studies():
                raise DatabaseError(f"{record} is not empty; name a new database")
            throughput.begin(record, evaluations)
        table = Table(box=box.SIMPLE)
        for heading in ("", "osa-nas", "Optuna"):
            table.add_column(heading, justify="right" if heading else "left")
        ours = evaluations / seconds(throughput.write_trials, url, evaluations, processes)
        theirs = "-"
        if compared:
            from nas.sampling.optuna_study import write_trials  # noqa: PLC0415 - Optuna takes a second to import

            beside = database or f"sqlite:///{folder}/optuna.db"
            write_trials(beside, [], lambda: None)  # its tables
            theirs = f"{compared / seconds(write_trials, beside, compared, processes):,.0f}"
        table.add_row(f"trials written per second by {processes} processes", f"{ours:,.0f}", theirs)
        with Store.open(url) as record:
            throughput.add_fronts(record, evaluations)
            history = _median(lambda: record.hypervolumes(throughput.NAME))
        for words in ("front", f"status {throughput.NAME}", "status"):
            taken = _median(lambda words=words: _command(*words.split(), "--database", url))  # type: ignore[misc]
            table.add_row(f"nas {words}, of {evaluations:,} trials", duration(taken), "")
        table.add_row("hypervolume history", duration(history), "")
        Console(highlight=False).print(table)


def seconds(write: Write, url: str, count: int, processes: int) -> float:
    """From when all processes are ready until the last one has written its share."""
    context = get_context("spawn")
    barrier = context.Barrier(processes + 1)
    writers = [context.Process(target=_write, args=(write, url, range(start, count, processes), barrier))
               for start in range(processes)]
    for writer in writers:
        writer.start()
    barrier.wait()
    started = time.perf_counter()
    for writer in writers:
        writer.join()
    taken = time.perf_counter() - started
    if any(writer.exitcode for writer in writers):
        raise DatabaseError("a writer failed")
    return taken


def _write(write: Write, url: str, numbers: Iterable[int], barrier: Barrier) -> None:
    try:
        write(url, numbers, barrier.wait)
    except BaseException:
        barrier.abort()
        raise


def _median(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _command(*arguments: str) -> None:
    with redirect_stdout(io.StringIO()):
        main.main(arguments, standalone_mode=False)
