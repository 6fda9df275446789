"""`nas study remeasure`: a finished front under other conditions."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.table import Column, Table

from nas.cli.json_output import echo_json, json_option
from nas.cli.options import (
    Conditions,
    change_record,
    database_option,
    measuring_options,
    open_record,
    pick_study,
)
from nas.cli.study import study as group
from nas.cli.tables import echo_wide
from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError, next_command
from nas.core.measurement import Kind, MeasurementPlan
from nas.core.moved import import_attribute
from nas.core.pareto import Standing
from nas.core.study import Objective, StudySpec
from nas.core.trial import Trial
from nas.measuring.meters import find_meter
from nas.record import StudyRecord
from nas.report.fronts import MEMBERSHIP, cell

if TYPE_CHECKING:
    from torch import nn

    from nas.analysis.remeasured import Remeasured


@group.command()
@click.argument("study", required=False)
@database_option
@measuring_options(None, tier="certify", device="the study's device")
@json_option("remeasure")
def remeasure(*, study: str | None, database: str, conditions: Conditions, as_json: bool) -> None:
    """Measure the front of a study under other conditions.

    It says whether the order of the members is the same, and which of them fall off the front. An
    option that is not given is as in the study. The figures are recorded under STUDY:TRIAL, beside
    those of nas measure. The study does not change, and accuracies are the study's.
    """
    from nas.analysis.on_device import limit_on, one_of_each
    from nas.analysis.remeasured import remeasured
    from nas.analysis.study_front import study_front
    from nas.measuring.remeasure import measure_again

    with open_record(database) as store:
        record = pick_study(store, study)
        front = list(study_front(store, record.spec).members.values())
    if not front:
        command = next_command("status", record.name)
        raise InvalidValueError(f"study {record.name!r} has no front yet; look with: {command}")
    conditions = replace(conditions, device=conditions.device or record.spec.measurement.device)
    named = {o.key for o in record.spec.objectives if o.device == conditions.device}
    chosen = one_of_each(record.spec.objectives, named)
    objectives = [replace(o, device=None, limit=limit_on(o, own=o.key in named)) for o in chosen]
    members = [_under_metrics(trial, chosen) for trial in front]
    names = {f"{record.name}:{trial.number}": trial for trial in members}
    plan = conditions.plan(record.spec.measurement)
    with find_meter(conditions.device) as meter, change_record(database) as store:
        click.echo(
            f"{len(members)} members of {record.name} on {meter.device.name}: "
            f"{conditions.describe(plan)}",
            err=True,
        )
        figures = measure_again(
            {name: trial.architecture for name, trial in names.items()},
            [o.metric for o in chosen if o in record.spec.measured_objectives],
            plan,
            meter,
            classes=record.classes,
            certify=conditions.certify,
            make=measured_network_of(record),
        )
        with store.transaction():
            for name, trial in names.items():
                measured = [figure for figure in figures[name] if figure.kind is not Kind.COUNTED]
                store.add_single(name, measured, digest=trial.architecture.digest)
    by_trial = {trial.number: figures[name] for name, trial in names.items()}
    result = remeasured(members, by_trial, objectives)
    if as_json:
        facts = {"study": record.name, **_values(members, result, plan)}
        echo_json("remeasure", facts)
        return
    echo_wide(_table(record.spec, members, result))
    for line in summary(result):
        click.echo(line)


def measured_network_of(record: StudyRecord) -> "Callable[[Architecture], nn.Module] | None":
    """Return the function that builds the part of a network that the study measures."""
    from nas.searching.launch import recorded_evaluators

    own = recorded_evaluators(record).measured
    if own is None:
        return None
    return partial(import_attribute(own), record.spec, record.preparation.classes)


def _under_metrics(trial: Trial, objectives: Sequence[Objective]) -> Trial:
    """Return a trial that has the figures of these objectives under the names of their metrics."""
    figures = [
        replace(figure, metric=objective.metric)
        for objective in objectives
        if objective.device is not None
        and (figure := trial.evaluation.measurements.get(objective.key)) is not None
    ]
    return replace(trial, evaluation=trial.evaluation.with_measurements(figures))


def _table(spec: StudySpec, members: Sequence[Trial], result: "Remeasured") -> Table:
    metrics = [order.metric for order in result.orders]
    figures = [text for metric in metrics for text in (metric, f"{metric} here", "change")]
    table = Table(Column("trial", justify="right"), *figures, "on the front")
    for before, now in zip(members, result.trials, strict=True):
        row = [str(now.number)]
        for metric in metrics:
            old, new = before.evaluation.value(metric), now.evaluation.value(metric)
            change = f"x {new / old:.3g}" if old and new is not None else "-"
            row += [cell(metric, before, spec), cell(metric, now, spec), change]
        table.add_row(*row, _membership(now.number, result))
    return table


def _membership(number: int, result: "Remeasured") -> str:
    """Return how sure it is that a member stays on the front, or why it falls off."""
    standing = result.standings.get(number)
    if number not in result.fallen:
        return MEMBERSHIP[standing or Standing.PROBABLE]
    unsure = ", but not beyond the intervals" if standing is Standing.POSSIBLE else ""
    problem, _, _ = result.fallen[number].partition(": ")  # the summary says why
    return f"no: {problem}{unsure}"


def summary(result: "Remeasured") -> Iterator[str]:
    """Return the rank agreement of each metric, and the members that fall off the front.

    Members with the same problem are one line, with the first reason.
    """
    for order in result.orders:
        tau = "unknown" if order.tau is None else f"{order.tau:.3f}"
        yield f"{order.metric}: Kendall's tau with the study's {tau}, over {order.members} members"
    yield f"{len(result.fallen)} of {len(result.trials)} fall off"
    members: dict[str, list[int]] = defaultdict(list)
    reasons: dict[str, str] = {}
    for number, fallen in result.fallen.items():
        problem, _, reason = fallen.partition(": ")
        members[problem].append(number)
        reasons.setdefault(problem, f": {reason}" if reason else "")
    for problem, numbers in members.items():
        yield f"{', '.join(map(str, numbers))}: {problem}{reasons[problem]}"


def _values(
    members: Sequence[Trial], result: "Remeasured", plan: MeasurementPlan
) -> dict[str, Any]:
    rows = []
    for before, now in zip(members, result.trials, strict=True):
        row: dict[str, Any] = {"trial": now.number}
        for order in result.orders:
            figure = now.evaluation.measurements[order.metric]
            row |= {
                order.metric: before.evaluation.value(order.metric),
                f"{order.metric}_here": figure.value,
                f"{order.metric}_here_low": figure.ci_low,
                f"{order.metric}_here_high": figure.ci_high,
            }
        standing = result.standings.get(now.number)
        row |= {
            "standing": standing.value if standing else None,
            "fallen": result.fallen.get(now.number),
        }
        rows.append(row)
    return {
        "plan": plan.to_dict(),
        "members": rows,
        "orders": [asdict(order) for order in result.orders],
    }
