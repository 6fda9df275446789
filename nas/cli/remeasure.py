"""`nas remeasure`: a finished front under other conditions."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from nas.cli import main
from nas.cli.options import PRECISIONS, SIZE, THREADS, database_option, open_record, pick_study
from nas.core.errors import InvalidValueError
from nas.core.measurement import Kind, MeasurementPlan
from nas.core.pareto import Standing
from nas.core.pareto import front as front_of
from nas.core.trial import Trial
from nas.measuring.meters import find_meter
from nas.record import Store
from nas.report.fronts import MEMBERSHIP, cell

if TYPE_CHECKING:
    from nas.analysis.remeasured import Remeasured


@main.command()
@click.argument("study", required=False)
@database_option
@click.option(
    "--device", "kind", metavar="KIND", help="cpu or cuda. [default: the GPU where there is one]"
)
@click.option("--batch", "batch_size", type=click.IntRange(min=1), help="Images in a batch.")
@click.option("--size", "image_size", type=SIZE, help="Pixels of a side.")
@click.option("--precision", type=PRECISIONS, help="Number formats.")
@click.option("--runtime", metavar="NAME", help="eager, graph (CUDA), compile or onnxruntime.")
@click.option("--threads", type=THREADS, help="CPU threads.")
@click.option(
    "--tier",
    type=click.Choice(["screen", "certify"]),
    default="certify",
    show_default=True,
    help="certify: latency and joules in turns with a reference network, half a minute or more each.",
)
@click.option("--json", "as_json", is_flag=True, help="Figures, order and who falls off as JSON.")
def remeasure(
    *, study: str | None, database: str, kind: str | None, tier: str, as_json: bool, **changes: Any
) -> None:
    """Measure the front of STUDY under other conditions, and say whether the order is the same and
    who falls off.

    What is not given stays as in the study. The figures go to the record under STUDY:TRIAL, beside
    those of nas measure; the study does not change. Accuracy is the study's.
    """
    from nas.analysis.remeasured import remeasured
    from nas.measuring.remeasure import measure_again

    with open_record(database) as store:
        record = pick_study(store, study)
        trials = {trial.number: trial for trial in store.trials(record.name)}
    objectives = record.spec.objectives
    members = _members(record.name, trials, front_of(list(trials.values()), objectives).members)
    names = {f"{record.name}:{trial.number}": trial for trial in members}
    plan = replace(
        record.spec.measurement,
        **{name: value for name, value in changes.items() if value is not None},
    )
    with find_meter(kind) as meter, Store.open(database) as store:
        click.echo(
            f"{len(members)} members of {record.name} on {meter.device.name}: batch {plan.batch_size} at "
            f"{plan.image_size} px, {plan.precision}, {plan.runtime}, {plan.threads} thread(s), {tier}",
            err=True,
        )
        figures = measure_again(
            {name: trial.architecture for name, trial in names.items()},
            [o.metric for o in objectives],
            plan,
            meter,
            classes=record.classes,
            certify=tier == "certify",
        )
        with store.transaction():
            for name, trial in names.items():
                kept = [figure for figure in figures[name] if figure.kind is not Kind.COUNTED]
                store.add_single(name, kept, digest=trial.architecture.digest)
    found = remeasured(
        members, {trial.number: figures[name] for name, trial in names.items()}, objectives
    )
    if as_json:
        click.echo(json.dumps(_plain(members, found, plan), indent=2))
        return
    Console(highlight=False, soft_wrap=True).print(_table(members, found))
    for line in _sentences(found):
        click.echo(line)


def _members(study: str, trials: dict[int, Trial], numbers: Sequence[int]) -> list[Trial]:
    if not numbers:
        raise InvalidValueError(f"study {study!r} has no front yet; look with: nas status {study}")
    return [trials[number] for number in numbers]


def _table(members: Sequence[Trial], found: "Remeasured") -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("trial", justify="right")
    metrics = [order.metric for order in found.orders]
    for metric in metrics:
        for heading in (metric, f"{metric} here", "change"):
            table.add_column(heading)
    table.add_column("on the front")
    for before, now in zip(members, found.trials, strict=True):
        shown = []
        for metric in metrics:
            old, new = before.evaluation.value(metric), now.evaluation.value(metric)
            change = f"x {new / old:.3g}" if old and new is not None else "-"
            shown += [cell(metric, before), cell(metric, now), change]
        table.add_row(str(now.number), *shown, _stays(now.number, found))
    return table


def _stays(number: int, found: "Remeasured") -> str:
    """Whether a member stays, how sure that is, and why not."""
    standing = found.standings.get(number)
    if number not in found.fallen:
        return MEMBERSHIP[standing or Standing.PROBABLE]
    return f"no: {found.fallen[number]}{', but not beyond the intervals' if standing is Standing.POSSIBLE else ''}"


def _sentences(found: "Remeasured") -> Iterator[str]:
    for order in found.orders:
        tau = "unknown" if order.tau is None else f"{order.tau:.3f}"
        yield f"{order.metric}: Kendall's tau with the study's {tau}, over {order.members} members"
    gone = ", ".join(f"{number} ({reason})" for number, reason in found.fallen.items())
    yield f"{len(found.fallen)} of {len(found.trials)} fall off{f': {gone}' if gone else ''}"


def _plain(members: Sequence[Trial], found: "Remeasured", plan: MeasurementPlan) -> dict[str, Any]:
    """JSON values."""
    rows = []
    for before, now in zip(members, found.trials, strict=True):
        row: dict[str, Any] = {"trial": now.number}
        for order in found.orders:
            figure = now.evaluation.measurements[order.metric]
            row |= {
                order.metric: before.evaluation.value(order.metric),
                f"{order.metric}_here": figure.value,
                f"{order.metric}_here_low": figure.ci_low,
                f"{order.metric}_here_high": figure.ci_high,
            }
        standing = found.standings.get(now.number)
        rows.append(
            {
                **row,
                "standing": standing.value if standing else None,
                "fallen": found.fallen.get(now.number),
            }
        )
    return {
        "plan": plan.to_dict(),
        "members": rows,
        "orders": [asdict(order) for order in found.orders],
    }
