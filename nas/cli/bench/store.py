"""`nas bench store`: write throughput and query times of a record with many trials, compared with
Optuna's storage in the same run.
"""

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
"""A function that writes trials to a URL, given their numbers. It calls its last argument when the
database is open.
"""
REPEATS = 5
"""Number of times that each command is timed."""


@bench.command("store")
@click.option(
    "--evaluations",
    type=click.IntRange(min=10),
    default=2000,
    show_default=True,
    help="Synthetic trials to write, each with 12 params, 5 figures and a rung. One process writes "
    "a tenth of them.",
)
@click.option(
    "--processes", type=click.IntRange(min=1), default=8, show_default=True, help="Writers at once."
)
@click.option(
    "--compared",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Trials of the same size that Optuna's storage writes, half of them by one process, the "
    "others by the same number of processes.",
)
@click.option(
    "--database",
    metavar="URL",
    help="A new database, or one that this command made, to which trials are added. "
    "[default: a temporary SQLite file]",
)
def store(evaluations: int, processes: int, compared: int, database: str | None) -> None:
    """Measure write throughput and read latency of the record."""
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        url = database or f"sqlite:///{folder}/nas.db"
        with Store.open(url) as record:
            first = throughput.begin(record, evaluations)
        numbers = range(first, first + evaluations)
        by_one = evaluations // 10
        _show_rate("osa-nas", throughput.write_trials, url, numbers[:by_one], 1)
        _show_rate("osa-nas", throughput.write_trials, url, numbers[by_one:], processes)
        if compared:
            from nas.sampling.optuna_study import write_trials

            optuna_url = f"sqlite:///{folder}/optuna.db"
            if database and "postgres" in database:
                optuna_url = database
            write_trials(optuna_url, [], lambda: None)  # creates the tables
            half = compared // 2
            _show_rate("Optuna", write_trials, optuna_url, range(half), 1)
            _show_rate("Optuna", write_trials, optuna_url, range(half, compared), processes)
        with Store.open(url) as record:
            throughput.add_fronts(record, numbers)
            history = _median(lambda: record.hypervolumes(throughput.NAME))
        for words in ("front", f"status {throughput.NAME}", "status"):
            seconds = _median(lambda words=words: _command(*words.split(), "--database", url))  # type: ignore[misc]
            click.echo(f"nas {words}, of {numbers.stop:,} trials: {1000 * seconds:.0f} ms")
        click.echo(f"hypervolume history: {1000 * history:.0f} ms")


def _show_rate(name: str, write: Write, url: str, numbers: range, processes: int) -> None:
    """Print the trials written per second by these processes, or the reason why one failed."""
    try:
        rate = f"{len(numbers) / _seconds(write, url, numbers, processes):,.1f}"
    except DatabaseError as error:
        rate = str(error)
    writers = f"{processes} process{'es' if processes > 1 else ''}"
    click.echo(f"{name}, trials written per second by {writers}: {rate}")


def _seconds(write: Write, url: str, numbers: Sequence[int], processes: int) -> float:
    """Return the seconds from when all processes are ready until the last has written its share."""
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
    seconds = time.perf_counter() - started
    if not failures.empty():
        raise DatabaseError(failures.get())
    return seconds


def _write(
    write: Write, url: str, numbers: Iterable[int], barrier: Barrier, failures: "SimpleQueue[str]"
) -> None:
    try:
        write(url, numbers, barrier.wait)
    except Exception as error:  # noqa: BLE001 - any error of a storage is its result
        reason = error.__cause__ or error
        failures.put(f"failed: {str(reason).splitlines()[0]}")
        barrier.abort()


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _command(*arguments: str) -> None:
    with redirect_stdout(io.StringIO()):
        main.main(arguments, standalone_mode=False)
