"""`nas search --dry-run`: what the networks of a space cost, before anything is searched."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nas.cli.tables import echo_wide, terminal
from nas.core.measurement import Measurement, Status
from nas.core.study import Objective, StudySpec
from nas.core.units import format_duration, format_quantity
from nas.searching.profile import (
    NUM_RANDOM_NETWORKS,
    Member,
    classes_of,
    costs_only,
    members,
    profile,
    space_of,
)

MAX_TIME_S = 600.0
"""Seconds after which no further network is measured."""
LINE_EVERY_S = 10.0
"""Seconds between two lines of progress if the output is no terminal."""
QUANTILES = {"least": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "most": 1.0}
"""Columns of the distribution of a cost."""


def show_profile(
    spec: StudySpec, folder: Path, clock: Callable[[], float] = time.monotonic
) -> None:
    """Measure the costs of networks of the study's space, and print their distribution.

    It also prints how many are within the limits, and the costs of the published networks. After
    `MAX_TIME_S` by the clock no further network is measured.
    """
    networks = members(space_of(spec), NUM_RANDOM_NETWORKS, spec.seed)
    errors = Console(stderr=True, highlight=False, markup=False)
    errors.print(
        f"measuring the costs of {len(networks)} networks: at most "
        f"{format_duration(MAX_TIME_S)}, with up to "
        f"{format_duration(spec.measurement.busy_wait_s)} of waiting if others use the device",
        soft_wrap=True,
    )
    progress = _CostProgress(errors, len(networks), clock)
    costs = profile(spec, networks, folder, _Waiting(errors))
    measured = list(progress.shown(costs))
    objectives = costs_only(spec).objectives
    sampled = [member for member in measured if not member.name]
    published = [member for member in measured if member.name]
    console = terminal()
    console.print(
        f"{len(sampled)} random networks of {spec.space} (seed {spec.seed}), "
        f"{len(classes_of(spec)) or 10} classes; nothing is written"
    )
    if len(measured) < len(networks):
        console.print(
            f"{len(networks) - len(measured)} of {len(networks)} networks were left out after "
            f"{format_duration(MAX_TIME_S)}"
        )
    echo_wide(_distribution(objectives, sampled))
    for line in _shares(objectives, sampled):
        console.print(line)
    if published:
        echo_wide(_published(objectives, published))
    elif len(measured) == len(networks):
        console.print("the space holds none of the published VoVNets")


class _CostProgress:
    """Progress of measuring: a bar on a terminal, elsewhere a line every `LINE_EVERY_S` seconds."""

    def __init__(self, console: Console, total: int, clock: Callable[[], float]) -> None:
        self._console, self._total, self._clock = console, total, clock

    def shown(self, costs: Iterator[Member]) -> Iterator[Member]:
        """Yield the members under the progress, until the time is over."""
        if self._console.is_terminal:
            costs = iter(
                track(
                    costs,
                    total=self._total,
                    description="costs",
                    console=self._console,
                    transient=True,
                )
            )
        started_s = printed_s = self._clock()
        for done, member in enumerate(costs, start=1):
            yield member
            now_s = self._clock()
            if now_s - started_s >= MAX_TIME_S:
                return
            if not self._console.is_terminal and now_s - printed_s >= LINE_EVERY_S:
                printed_s = now_s
                left_s = (now_s - started_s) / done * (self._total - done)
                self._console.print(
                    f"{done} of {self._total} networks, about {format_duration(left_s)} left",
                    soft_wrap=True,
                )


class _Waiting:
    """Prints, the first time that a figure has to wait, the reason and what follows."""

    def __init__(self, console: Console) -> None:
        self._console, self._is_printed = console, False

    def __call__(self, figure: Measurement) -> None:
        if self._is_printed:
            return
        self._is_printed = True
        self._console.print(
            f"waiting for others on this device: {figure.metric} is {figure.status}, "
            f"{figure.reason}; after the waiting time figures are noisy",
            soft_wrap=True,
        )


def _distribution(objectives: Sequence[Objective], sampled: Sequence[Member]) -> Table:
    table = Table("cost", *QUANTILES, "limit", "within")
    for objective in objectives:
        figures = [
            member.evaluation.measurements[objective.key]
            for member in sampled
            if member.evaluation.value(objective.key) is not None
        ]
        values = [figure.value for figure in figures if figure.value is not None]
        if not values:
            table.add_row(objective.key, *["-"] * (len(QUANTILES) + 2))
            continue
        unit = figures[0].unit
        quantiles = np.quantile(values, list(QUANTILES.values())).tolist()
        within = np.mean([objective.violation(value) == 0 for value in values])
        noisy = sum(figure.status is Status.NOISY for figure in figures)
        table.add_row(
            f"{objective.key}, {noisy} of {len(figures)} noisy" if noisy else objective.key,
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
