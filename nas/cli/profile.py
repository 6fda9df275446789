"""`nas search --dry-run`: what the networks of a space cost, before anything is searched."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nas.cli.tables import echo_wide, terminal
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.study import Objective, StudySpec
from nas.core.units import format_quantity
from nas.searching.profile import (
    NUM_RANDOM_NETWORKS,
    Member,
    classes_of,
    costs_only,
    members,
    profile,
    space_of,
)

QUANTILES = {"least": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "most": 1.0}
"""Columns of the distribution of a cost."""


def show_profile(spec: StudySpec, folder: Path) -> None:
    """Measure the costs of networks of the study's space, and print their distribution.

    It also prints how many are within the limits, and the costs of the published networks. While
    others use the device it waits, and says so once.
    """
    networks = members(space_of(spec), NUM_RANDOM_NETWORKS, spec.seed)
    errors = Console(stderr=True, highlight=False)
    costs = profile(spec, networks, folder, _Waiting(errors, spec.measurement))
    shown = track(costs, total=len(networks), description="costs", console=errors, transient=True)
    measured = list(shown)
    objectives = costs_only(spec).objectives
    sampled = [member for member in measured if not member.name]
    published = [member for member in measured if member.name]
    console = terminal()
    console.print(
        f"{len(sampled)} random networks of {spec.space} (seed {spec.seed}), "
        f"{len(classes_of(spec)) or 10} classes; nothing is written"
    )
    echo_wide(_distribution(objectives, sampled))
    for line in _shares(objectives, sampled):
        console.print(line)
    if published:
        echo_wide(_published(objectives, published))
    else:
        console.print("the space holds none of the published VoVNets")


class _Waiting:
    """Prints, the first time that a figure has to wait, the reason and the longest wait."""

    def __init__(self, console: Console, plan: MeasurementPlan) -> None:
        self._console, self._plan, self._is_printed = console, plan, False

    def __call__(self, figure: Measurement) -> None:
        if self._is_printed:
            return
        self._is_printed = True
        self._console.print(
            f"waiting for others on this device: {figure.metric} is {figure.status}, "
            f"{figure.reason}; each network is tried again, with up to "
            f"{self._plan.busy_wait_s:g} s of pauses in all",
            soft_wrap=True,
        )


def _distribution(objectives: Sequence[Objective], sampled: Sequence[Member]) -> Table:
    table = Table("cost", *QUANTILES, "limit", "within")
    for objective in objectives:
        figures = [
            member.evaluation.measurements[objective.metric]
            for member in sampled
            if member.evaluation.value(objective.metric) is not None
        ]
        values = [figure.value for figure in figures if figure.value is not None]
        if not values:
            table.add_row(objective.metric, *["-"] * (len(QUANTILES) + 2))
            continue
        unit = figures[0].unit
        quantiles = np.quantile(values, list(QUANTILES.values())).tolist()
        within = np.mean([objective.violation(value) == 0 for value in values])
        table.add_row(
            objective.metric,
            *(format_quantity(quantile, unit) for quantile in quantiles),
            format_quantity(objective.limit, unit),
            "-" if objective.limit is None else f"{within:.0%}",
        )
    return table


def _shares(objectives: Sequence[Objective], sampled: Sequence[Member]) -> Iterator[str]:
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


def _published(objectives: Sequence[Objective], published: Sequence[Member]) -> Table:
    metrics = [objective.metric for objective in objectives]
    table = Table("published", *metrics, "within the limits")
    for member in published:
        figures = [member.evaluation.measurements.get(metric) for metric in metrics]
        violation = member.violation(objectives)
        within = member.failure
        if not within:
            within = "yes" if violation == 0 else f"no, by {violation:.0%}"
        table.add_row(
            member.name,
            *("-" if each is None else format_quantity(each.value, each.unit) for each in figures),
            within,
        )
    return table
