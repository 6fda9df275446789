"""`nas check`: everything about a study that can be checked before anything is trained."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.progress import track
from rich.table import Table

from nas.cli import main
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import FILE, database_option, is_new_file, open_record
from nas.cli.tables import Terminal, draws_over, echo_wide, terminal
from nas.core.measurement import Measurement, Status
from nas.core.study import Objective, StudySpec
from nas.core.units import format_duration, format_quantity

if TYPE_CHECKING:
    from nas.searching.check import StudyCheck
    from nas.searching.forecast import Forecast
    from nas.searching.profile import Member

MAX_TIME_S = 600.0
"""Seconds after which no further network is measured."""
LINE_EVERY_S = 10.0
"""Seconds between two lines of progress if the output is no terminal."""
QUANTILES = {"least": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "most": 1.0}
"""Columns of the distribution of a cost."""
LIMITS = {
    "trials": "{:.0f} networks are trained (budget.trials)",
    "wall_time_s": "its time is spent (budget.wall_time_s)",
    "device_s": "its device time is spent (budget.device_s)",
    "proposals": "its proposals are spent (budget.proposals), of which most are over a limit",
    "epochs": "its epochs are spent (budget.epochs)",
}
"""What ends the search, by the budget."""


@main.command()
@click.argument("study_file", type=FILE)
@database_option
@json_option("check")
def check(study_file: Path, *, database: str, as_json: bool) -> None:
    """Check a study before it is searched.

    It checks the file, the space, the start networks, the baselines, the data and the device,
    measures a few networks of the space and the published ones in it, compares them with the
    limits, and says how long the search will take and how much memory it needs. It takes a minute
    or two and records nothing. Missing data is downloaded, as by the search. A study file that
    names module:attribute runs that module's code.
    """
    show_check(study_file, database, as_json=as_json)


def show_check(
    study_file: Path,
    database: str,
    *,
    as_json: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Check a study and print what was found. The record need not be there yet if the study names
    no trials of it.

    After `MAX_TIME_S` by the clock no further network is measured.
    """
    from nas.searching.check import check_study
    from nas.searching.study_file import read_study

    spec = read_study(study_file)
    errors = terminal(stderr=True)

    waits: list[Measurement] = []

    def on_wait(figure: Measurement) -> None:
        waits.append(figure)
        if len(waits) == 1:
            errors.one_line(
                f"waiting for others on this device: {figure.metric} is {figure.status}, "
                f"{figure.reason}; after the waiting time figures are noisy"
            )

    names = [name for name in (*spec.first, *spec.baselines) if isinstance(name, str)]
    names_trials = any(name.rpartition(":")[2].isdigit() for name in names)
    needs_record = names_trials or not is_new_file(database)
    with open_record(database) if needs_record else nullcontext() as store:
        result = check_study(
            spec,
            store,
            study_file.parent,
            shown=partial(_progress, errors, spec.measurement.busy_wait_s, clock),
            on_wait=on_wait,
        )
    if as_json:
        echo_json("check", _values(result))
    else:
        _print(terminal(), result)


def _print(console: Terminal, result: "StudyCheck") -> None:
    spec, preparation = result.spec, result.preparation
    console.one_line(f"study {spec.name}: the file is right")
    if result.dataset is not None:
        classes = len(preparation.classes)
        console.one_line(f"data {result.dataset}: {classes} classes")
    device = preparation.device.get("name", "no device")
    console.one_line(f"device {device}, runtime {preparation.runtime}")
    for warning in preparation.warnings:
        console.one_line(f"WARNING: {warning}")
    console.one_line(
        f"space {spec.space}: {result.cardinality:,} networks; {len(result.sampled)} random ones "
        f"(seed {spec.seed})"
    )
    if result.left_out:
        console.print(
            f"{result.left_out} of {result.left_out + len(result.sampled) + len(result.published)} "
            f"networks were left out after {format_duration(MAX_TIME_S)}"
        )
    echo_wide(_distribution(result.objectives, result.sampled))
    for line in _shares(result.objectives, result.sampled):
        console.print(line)
    if result.published:
        echo_wide(_published(result.objectives, result.published))
    elif not result.left_out:
        console.print("the space holds none of the published VoVNets")
    if result.forecast is not None:
        for line in _forecast_lines(spec, result.forecast):
            console.one_line(line)
    console.print("nothing is recorded")


def _forecast_lines(spec: StudySpec, forecast: "Forecast") -> Iterator[str]:
    """Return time, number of networks and memory of the search."""
    time_s, networks, memory = forecast.searching_s, forecast.networks, forecast.memory_bytes
    limit = LIMITS[forecast.limit].format(networks.value)
    between = ""
    if time_s.low < time_s.high:
        ends = f"{format_duration(time_s.low)} to {format_duration(time_s.high)}"
        between = f"  [{ends}]"
    yield (
        f"expected if the machine stays as busy as it is now: {format_duration(time_s.value)} of "
        f"searching{between}, until {limit}"
    )
    if forecast.limit != "trials":
        yield f"networks: {networks.value:.0f}  [{networks.low:.0f} to {networks.high:.0f}]"
    if memory is not None:
        ends = f"{format_quantity(memory.low, 'B')} to {format_quantity(memory.high, 'B')}"
        yield f"memory: {format_quantity(memory.value, 'B')}  [{ends}] in all processes"
    if forecast.baselines_s:
        yield f"baselines come before it: about {format_duration(forecast.baselines_s)}"
    if forecast.new_seeds_s:
        yield (
            "members of the front are trained with new seeds after it: about "
            f"{format_duration(forecast.new_seeds_s)} (budget.fresh)"
        )
    if spec.certifies:
        yield "certifying the front comes after it: half a minute or more for each member"


def _values(result: "StudyCheck") -> dict[str, Any]:
    """Return the values of the schema `check`."""
    spec, preparation = result.spec, result.preparation
    violations = [member.violation(result.objectives) for member in result.sampled]
    known = [violation for violation in violations if violation is not None]
    return {
        "study": spec.name,
        "space": spec.space,
        "cardinality": result.cardinality,
        "dataset": result.dataset,
        "classes": len(preparation.classes),
        "device": preparation.device.get("name"),
        "runtime": preparation.runtime,
        "warnings": preparation.warnings,
        "costs": [_cost(objective, result.sampled) for objective in result.objectives],
        "networks": len(result.sampled),
        "complete": len(known),
        "within": sum(violation == 0 for violation in known),
        "failures": [member.failure for member in result.sampled if member.failure],
        "published": [
            {
                "name": member.name,
                "violation": member.violation(result.objectives),
                "failure": member.failure,
                "values": {
                    objective.key: member.evaluation.value(objective.key)
                    for objective in result.objectives
                },
            }
            for member in result.published
        ],
        "forecast": None if result.forecast is None else asdict(result.forecast),
    }


def _cost(objective: Objective, sampled: "Sequence[Member]") -> dict[str, Any]:
    """Return the distribution of one cost over random networks."""
    figures = [
        member.evaluation.measurements[objective.key]
        for member in sampled
        if member.evaluation.value(objective.key) is not None
    ]
    values = [figure.value for figure in figures if figure.value is not None]
    return {
        "metric": objective.key,
        "unit": figures[0].unit if figures else None,
        "quantiles": np.quantile(values, list(QUANTILES.values())).tolist() if values else None,
        "limit": objective.limit,
        "within": float(np.mean([objective.violation(value) == 0 for value in values]))
        if values
        else None,
        "figures": len(figures),
        "noisy": sum(figure.status is Status.NOISY for figure in figures),
    }


def _progress(
    console: Terminal,
    busy_wait_s: float,
    clock: Callable[[], float],
    networks: "Sequence[Member]",
    costs: "Iterator[Member]",
) -> "Iterator[Member]":
    """Yield the members under their progress until the time is over: a bar on a terminal, elsewhere
    a line every `LINE_EVERY_S` seconds.
    """
    total = len(networks)
    console.one_line(
        f"measuring the costs of {total} networks: at most {format_duration(MAX_TIME_S)}, with up "
        f"to {format_duration(busy_wait_s)} of waiting if others use the device"
    )
    has_bar = draws_over(console)
    if has_bar:
        costs = iter(track(costs, "costs", total=total, console=console, transient=True))
    started_s = printed_s = clock()
    for done, member in enumerate(costs, start=1):
        yield member
        now_s = clock()
        if now_s - started_s >= MAX_TIME_S:
            return
        if not has_bar and now_s - printed_s >= LINE_EVERY_S:
            printed_s = now_s
            left_s = (now_s - started_s) / done * (total - done)
            console.one_line(f"{done} of {total} networks, about {format_duration(left_s)} left")


def _distribution(objectives: Sequence[Objective], sampled: "Sequence[Member]") -> Table:
    table = Table("cost", *QUANTILES, "limit", "within")
    for objective in objectives:
        cost = _cost(objective, sampled)
        name, unit, noisy = cost["metric"], cost["unit"], cost["noisy"]
        if cost["quantiles"] is None:
            table.add_row(name, *["-"] * (len(QUANTILES) + 2))
            continue
        table.add_row(
            f"{name}, {noisy} of {cost['figures']} noisy" if noisy else name,
            *(format_quantity(quantile, unit) for quantile in cost["quantiles"]),
            format_quantity(objective.limit, unit),
            "-" if objective.limit is None else f"{cost['within']:.0%}",
        )
    return table


def _shares(objectives: Sequence[Objective], sampled: "Sequence[Member]") -> Iterator[str]:
    """Return how many networks are within all limits, and how many lack figures."""
    violations = [
        violation for member in sampled if (violation := member.violation(objectives)) is not None
    ]
    if any(objective.limit is not None for objective in objectives):
        feasible = sum(violation == 0 for violation in violations)
        yield f"{feasible} of {len(violations)} are within all limits of costs"
        if violations and not feasible:
            yield f"the nearest is over them by {min(violations):.0%} in all"
    failures = [member.failure for member in sampled if member.failure]
    if failures:
        yield f"{len(failures)} lack figures, the first because {failures[0]}"


def _published(objectives: Sequence[Objective], published: "Sequence[Member]") -> Table:
    metrics = [objective.key for objective in objectives]
    table = Table("published", *metrics, "within the limits")
    for member in published:
        figures = [member.evaluation.measurements.get(metric) for metric in metrics]
        violation = member.violation(objectives)
        within = member.failure
        if not within:
            within = "yes" if violation == 0 else f"no, by {violation:.0%}"
        table.add_row(member.name, *map(_figure, figures), within)
    return table


def _figure(figure: Measurement | None) -> str:
    """Return a figure as text, with a mark if it is noisy."""
    if figure is None:
        return "-"
    text = format_quantity(figure.value, figure.unit)
    return f"{text}, noisy" if figure.status is Status.NOISY else text
