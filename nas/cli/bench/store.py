"""`nas bench store`: write throughput and query times of a record with many trials, compared with
Optuna's storage in the same run.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any

import click

from nas.bench import store as throughput
from nas.cli import main
from nas.cli.bench import bench
from nas.cli.json_output import echo_json, json_option
from nas.core.errors import DatabaseError, first_line
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
@json_option("bench store")
def store(
    *, evaluations: int, processes: int, compared: int, database: str | None, as_json: bool
) -> None:
    """Measure write throughput and read latency of the record."""
    writes: list[dict[str, Any]] = []
    reads: list[dict[str, Any]] = []

    def add_write(name: str, write: Write, url: str, numbers: range, writers: int) -> None:
        row = _rate(name, write, url, numbers, writers)
        writes.append(row)
        if not as_json:
            click.echo(_rate_line(row))

    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        url = database or f"sqlite:///{folder}/nas.db"
        with Store.open(url) as record:
            first = throughput.begin(record, evaluations)
        numbers = range(first, first + evaluations)
        by_one = evaluations // 10
        add_write("osa-nas", throughput.write_trials, url, numbers[:by_one], 1)
        add_write("osa-nas", throughput.write_trials, url, numbers[by_one:], processes)
        if compared:
            from nas.sampling.optuna_study import write_trials

            optuna_url = f"sqlite:///{folder}/optuna.db"
            if database and "postgres" in database:
                optuna_url = database
            write_trials(optuna_url, [], lambda: None)  # creates the tables
            half = compared // 2
            add_write("Optuna", write_trials, optuna_url, range(half), 1)
            add_write("Optuna", write_trials, optuna_url, range(half, compared), processes)
        with Store.open(url) as record:
            throughput.add_fronts(record, numbers)
            history = _median(lambda: record.hypervolumes(throughput.NAME))
        for words in ("front", f"status {throughput.NAME}", "status"):
            seconds = _median(lambda words=words: _command(*words.split(), "--database", url))  # type: ignore[misc]
            reads.append({"command": f"nas {words}", "seconds": seconds})
        reads.append({"command": "hypervolume history", "seconds": history})
    if as_json:
        echo_json("bench store", {"trials": numbers.stop, "writes": writes, "reads": reads})
        return
    for row in reads:
        click.echo(f"{row['command']}, of {numbers.stop:,} trials: {1000 * row['seconds']:.0f} ms")


def _rate(name: str, write: Write, url: str, numbers: range, processes: int) -> dict[str, Any]:
    """Return the trials written per second by these processes, or the reason why one failed."""
    row = {"storage": name, "processes": processes, "trials_per_s": None, "reason": ""}
    try:
        return {**row, "trials_per_s": len(numbers) / _seconds(write, url, numbers, processes)}
    except DatabaseError as error:
        return {**row, "reason": str(error)}


def _rate_line(row: Mapping[str, Any]) -> str:
    """Return these values as text."""
    per_s, processes = row["trials_per_s"], row["processes"]
    rate = row["reason"] if per_s is None else f"{per_s:,.1f}"
    writers = f"{processes} process{'es' if processes > 1 else ''}"
    return f"{row['storage']}, trials written per second by {writers}: {rate}"


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
        failures.put(f"failed: {first_line(reason)}")
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
