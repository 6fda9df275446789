"""`nas bench store`: the record with many trials, beside Optuna's storage in the same run."""

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout, suppress
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

import click

from nas.bench import store as throughput
from nas.cli import main
from nas.cli.bench import bench
from nas.core.errors import DatabaseError
from nas.record import Store

Write = Callable[[str, Iterable[int], Callable[[], object]], None]
"""Writes the trials of these numbers to a URL, and calls its last argument when all is open."""
REPEATS = 5


@bench.command("store")
@click.option(
    "--evaluations",
    type=click.IntRange(min=10),
    default=2000,
    show_default=True,
    help="Made-up trials to write, each with 12 params, 5 figures and a rung; a tenth by one process.",
)
@click.option(
    "--processes", type=click.IntRange(min=1), default=8, show_default=True, help="Writers at once."
)
@click.option(
    "--compared",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Trials of the same work that Optuna's storage writes, half of them by one process, the rest by as "
    "many processes.",
)
@click.option(
    "--database",
    metavar="URL",
    help="A new database, or one that this command has made: its trials become more. [default: a temporary "
    "SQLite file]",
)
def store(evaluations: int, processes: int, compared: int, database: str | None) -> None:
    """How many trials the record takes per second, and how long people wait who look at them."""
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        url = database or f"sqlite:///{folder}/nas.db"
        with Store.open(url) as record:
            first = throughput.begin(record, evaluations)
        numbers = range(first, first + evaluations)
        alone = evaluations // 10
        _tell_rate("osa-nas", throughput.write_trials, url, numbers[:alone], 1)
        _tell_rate("osa-nas", throughput.write_trials, url, numbers[alone:], processes)
        if compared:
            from nas.sampling.optuna_study import write_trials

            beside = (
                database if database and "postgres" in database else f"sqlite:///{folder}/optuna.db"
            )
            write_trials(beside, [], lambda: None)  # its tables
            _tell_rate("Optuna", write_trials, beside, range(compared // 2), 1)
            _tell_rate("Optuna", write_trials, beside, range(compared // 2, compared), processes)
        with Store.open(url) as record:
            throughput.add_fronts(record, numbers)
            history = _median(lambda: record.hypervolumes(throughput.NAME))
        for words in ("front", f"status {throughput.NAME}", "status"):
            taken = _median(lambda words=words: _command(*words.split(), "--database", url))  # type: ignore[misc]
            click.echo(f"nas {words}, of {numbers.stop:,} trials: {1000 * taken:.0f} ms")
        click.echo(f"hypervolume history: {1000 * history:.0f} ms")


def _tell_rate(name: str, write: Write, url: str, numbers: range, processes: int) -> None:
    """Trials per second by so many processes, or why one of them failed."""
    try:
        rate = f"{len(numbers) / _seconds(write, url, numbers, processes):,.1f}"
    except DatabaseError as error:
        rate = str(error)
    click.echo(
        f"{name}, trials written per second by {processes} process{'es' if processes > 1 else ''}: {rate}"
    )


def _seconds(write: Write, url: str, numbers: Sequence[int], processes: int) -> float:
    """From when all processes are ready until the last one has written its share."""
    context = get_context("spawn")
    barrier, failures = context.Barrier(processes + 1), context.SimpleQueue()
    writers = [
        context.Process(
            target=_write, args=(write, url, numbers[start::processes], barrier, failures)
        )
        for start in range(processes)
    ]
    for writer in writers:
        writer.start()
    with suppress(BrokenBarrierError):
        barrier.wait()
    started = time.perf_counter()
    for writer in writers:
        writer.join()
    taken = time.perf_counter() - started
    if not failures.empty():
        raise DatabaseError(failures.get())
    return taken


def _write(
    write: Write, url: str, numbers: Iterable[int], barrier: Barrier, failures: "SimpleQueue[str]"
) -> None:
    try:
        write(url, numbers, barrier.wait)
    except Exception as error:  # noqa: BLE001 - whatever a storage raises is its result
        reason = error.__cause__ or error
        failures.put(f"failed: {str(reason).splitlines()[0]}")
        barrier.abort()


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
