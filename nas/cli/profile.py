"""`nas search --dry-run`: what the networks of a space cost, before anything is searched."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nas.cli.tables import echo_wide
from nas.core.measurement import Measurement
from nas.core.study import Objective, StudySpec
from nas.core.units import format_quantity
from nas.searching.profile import (
    MEMBERS,
    Member,
    classes_of,
    costs_only,
    members,
    profile,
    space_of,
)

QUARTILES = {"least": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "most": 1.0}


def show_profile(spec: StudySpec, folder: Path) -> None:
    """Cost the members one by one, and say once where that waits for others; then show their
    distribution, how many are feasible, and the published ones.
    """
    wanted = members(space_of(spec), MEMBERS, spec.seed)
    errors = Console(stderr=True, highlight=False)
    found = list(
        track(
            profile(spec, wanted, folder, _Waiting(errors)),
            total=len(wanted),
            description="costs",
            console=errors,
            transient=True,
        )
    )
    objectives = costs_only(spec).objectives
    drawn, known = ([m for m in found if bool(m.name) is named] for named in (False, True))
    console = Console(highlight=False)
    console.print(
        f"{len(drawn)} random networks of {spec.space} (seed {spec.seed}), {len(classes_of(spec)) or 10} "
        "classes; nothing is written"
    )
    echo_wide(_distribution(objectives, drawn))
    for line in _shares(objectives, drawn):
        console.print(line)
    if known:
        echo_wide(_published(objectives, known))
    else:
        console.print("the space holds none of the published VoVNets")


class _Waiting:
    """Says the first time that a figure is waited for, and why: others may be busy for a long
    time.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._told = console, False

    def __call__(self, figure: Measurement) -> None:
        if not self._told:
            from nas.searching.evaluators.classification.evaluator import (
                PATIENCE_S,
            )

            self._console.print(
                f"waiting for others on this device: {figure.metric} is {figure.status}, {figure.reason}; each network "
                f"is tried again up to {len(PATIENCE_S)} times, after {sum(PATIENCE_S):g} s of pauses in all",
                soft_wrap=True,
            )
        self._told = True


def _distribution(objectives: Sequence[Objective], drawn: Sequence[Member]) -> Table:
    table = Table("cost", *QUARTILES, "limit", "within", box=box.SIMPLE)
    for objective in objectives:
        figures = [
            m.evaluation.measurements[objective.metric]
            for m in drawn
            if m.evaluation.value(objective.metric) is not None
        ]
        values = [figure.value for figure in figures if figure.value is not None]
        if not values:
            table.add_row(objective.metric, *["-"] * (len(QUARTILES) + 2))
            continue
        unit = figures[0].unit
        within = np.mean([objective.violation(value) == 0 for value in values])
        table.add_row(
            objective.metric,
            *(format_quantity(float(np.quantile(values, q)), unit) for q in QUARTILES.values()),
            format_quantity(objective.limit, unit),
            "-" if objective.limit is None else f"{within:.0%}",
        )
    return table


def _shares(objectives: Sequence[Objective], drawn: Sequence[Member]) -> Iterator[str]:
    violations = [found for m in drawn if (found := m.violation(objectives)) is not None]
    if any(o.limit is not None for o in objectives):
        feasible = sum(violation == 0 for violation in violations)
        yield f"{feasible} of {len(violations)} are within all limits of costs"
        if violations and not feasible:
            yield f"the nearest is beyond them by {min(violations):.0%} in all"
    failed = [m.failure for m in drawn if m.failure]
    if failed:
        yield f"{len(failed)} lack figures, the first because {failed[0]}"


def _published(objectives: Sequence[Objective], known: Sequence[Member]) -> Table:
    table = Table("published", *(o.metric for o in objectives), "within the limits", box=box.SIMPLE)
    for member in known:
        violation = member.violation(objectives)
        figures = [member.evaluation.measurements.get(o.metric) for o in objectives]
        table.add_row(
            member.name,
            *("-" if f is None else format_quantity(f.value, f.unit) for f in figures),
            member.failure or ("yes" if violation == 0 else f"no, by {violation:.0%}"),
        )
    return table
