"""`nas bench engine`: time and memory of the search's engine."""

import os
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from nas.cli.bench import bench
from nas.cli.json_output import echo_json, json_option
from nas.core import plugins
from nas.core.study import Budget, Objective, StudySpec, WorkersSpec, rungs_at
from nas.core.trial import Trial, TrialState
from nas.core.units import format_duration
from nas.record import Store
from nas.searching.launch import open_search

MIN_TRIALS = 10
"""Smallest number of trials for figures of each tenth."""


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
@json_option("bench engine")
def engine(
    *, trials: int, kind: str, count: int, sampler: str, database: str | None, as_json: bool
) -> None:
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
        memory.append(memory_bytes())

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
    facts = _facts(times, memory)
    facts = {
        "workers": f"{kind}, {count} worker(s)",
        "sampler": sampler,
        "trials_before": before,
        "start_s": times[0] - started,
        **facts,
    }
    if as_json:
        echo_json("bench engine", facts)
        return
    for line in _lines(facts):
        click.echo(line)


def _facts(times: Sequence[float], memory: Sequence[float]) -> dict[str, Any]:
    """Return the figures of a run, given the time and the memory (bytes) after each trial."""
    done = len(times) - 1
    tenths, growth = [], None
    if done >= MIN_TRIALS:
        ends = [round(done * tenth / 10) for tenth in range(11)]
        tenths = [
            {
                "seconds_per_trial": 10 * (times[end] - times[start]) / done,
                "memory_bytes": memory[end],
            }
            for start, end in pairwise(ends)
        ]
        growth = (memory[-1] - memory[ends[5]]) / (done - ends[5])
    return {
        "trials": done,
        "duration_s": times[-1] - times[0],
        "memory_bytes": [memory[0], memory[-1]],
        "tenths": tenths,
        "growth_bytes_per_trial": growth,
    }


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Return the figures as text."""
    first, last = facts["memory_bytes"]
    yield (
        f"{facts['workers']}, {facts['sampler']}, {facts['trials_before']} trials before: "
        f"start {facts['start_s']:.1f} s, {first / 1e6:.0f} MB"
    )
    done, duration_s = facts["trials"], facts["duration_s"]
    if done:
        yield (
            f"{done} trials of 3 events: {format_duration(duration_s)}, "
            f"{1000 * duration_s / done:.1f} ms per trial; driver {last / 1e6:.0f} MB at the end"
        )
    for number, tenth in enumerate(facts["tenths"], start=1):
        yield (
            f"  tenth {number}: {1000 * tenth['seconds_per_trial']:.1f} ms per trial, "
            f"{tenth['memory_bytes'] / 1e6:.1f} MB"
        )
    if facts["growth_bytes_per_trial"] is not None:
        growth_kb = facts["growth_bytes_per_trial"] / 1000
        yield f"in the second half the driver grew by {growth_kb:.2f} kB per trial"


def memory_bytes() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _ended(trial: Trial) -> bool:
    return trial.duplicate_of is None and trial.state is not TrialState.RUNNING
