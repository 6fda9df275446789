"""`nas show`: one network drawn and counted."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from nas.analysis.finals import results
from nas.analysis.relations import choices_seen, neighbours, positions
from nas.analysis.study_front import outcomes_of
from nas.cli import main
from nas.cli.options import (
    IMAGE_SIZE,
    database_option,
    database_to_paste,
    open_record,
    password_note,
    pick_trial,
)
from nas.core.architecture import Architecture
from nas.core.dominance import dominators
from nas.core.errors import InvalidValueError
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.published import PUBLISHED, published
from nas.core.study import StudySpec
from nas.core.trial import Trial, TrialState
from nas.core.units import format_trained, with_interval
from nas.record import StudyRecord
from nas.report.drawing import draw
from nas.report.export_command import export_command, exportable
from nas.report.fronts import rung_figures

if TYPE_CHECKING:
    from nas.record import Store

NEIGHBOURS = 3
"""The number of similar networks that are named."""
CLASSES = 1000
"""Classes of a network that is of no study, as ImageNet has."""


@main.command()
@click.argument("target", metavar="TRIAL")
@database_option
@click.option(
    "--size", type=IMAGE_SIZE, help="Image size for the counts. [default: the study's, or 224]"
)
@click.option(
    "--latency",
    "timed",
    is_flag=True,
    help="Measure the share of each part in the latency here, with random weights.",
)
def show(target: str, database: str, size: int | None, *, timed: bool) -> None:
    """Show one network: its drawing, counts and figures.

    Of a trial it also shows the rungs, the rank among the others, and the command that exports it.
    TRIAL is STUDY:NUMBER (or NUMBER), the name of a published VoVNet such as vovnet39, or an
    architecture.json.
    """
    if target in PUBLISHED or target.endswith(".json"):
        network = published(target) if target in PUBLISHED else _read_architecture(Path(target))
        click.echo(draw(network, size or 224, CLASSES))
        plan, classes = MeasurementPlan(image_size=size or 224), CLASSES
    else:
        record, trial = _show_trial(target, database, size)
        network, classes, plan = trial.architecture, record.classes, record.spec.measurement
        plan = replace(plan, image_size=size or plan.image_size)
    if timed:
        for line in _latency_shares(network, classes, plan):
            click.echo(line)


def _show_trial(target: str, database: str, size: int | None) -> tuple[StudyRecord, Trial]:
    """Print all that the record holds of a trial, and return it with its study."""
    with open_record(database) as store:
        record, trial = pick_trial(store, target)
        finals, relations = store.finals(record.name), list(_relations(store, record, trial))
        exported = exportable(store, record.name)
    reason = f", {trial.reason}" if trial.reason else ""
    click.echo(f"trial {trial.number} of {record.name}: {trial.state}{reason}")
    if trial.duplicate_of is not None:
        click.echo(f"the same network as trial {trial.duplicate_of}, whose figures these are")
    click.echo(draw(trial.architecture, size or record.spec.measurement.image_size, record.classes))
    for line in _figures(record.spec, trial):
        click.echo(line)
    for result in results(finals):
        if result.first.network == trial.architecture.digest:
            epochs = result.first.recipe.epochs
            figures = [f"{m.name} {result.text(m)}" for m in record.spec.trained or ()]
            click.echo(f"trained fully, {epochs:g} epochs: {', '.join(figures)} on the test images")
    for line in relations:
        click.echo(line)
    if trial.number in exported or trial.duplicate_of in exported:
        command = export_command(record.name, trial.number, database_to_paste(database))
        click.echo(f"take it away: {command}")
        if note := password_note(database):
            click.echo(note)
    return record, trial


def _figures(spec: StudySpec, trial: Trial) -> Iterator[str]:
    for measurement in trial.evaluation.measurements.values():
        context = _context(measurement)
        yield f"{measurement.metric:20} {with_interval(measurement)}  ({context})"
    for name, text in rung_figures(spec, trial):
        yield f"{name}: {text}"
    for metric in spec.trained or ():
        values = trial.evaluation.values_of_seeds(metric.name)[1:]
        if values:
            shown = [format_trained(metric, value) for value in values]
            yield f"{metric.name} with other seeds: {', '.join(shown)}"
    yield f"digest {trial.architecture.digest}"


def _context(measurement: Measurement) -> str:
    """Return the kind of a figure, its device and its conditions."""
    device = f" on {measurement.device.name}" if measurement.device else ""
    plan = measurement.plan
    if plan is None:
        return f"{measurement.kind}{device}"
    conditions = f"batch {plan.batch_size} at {plan.image_size} px, {plan.precision}"
    return f"{measurement.kind}{device}, {conditions}"


def _relations(store: "Store", record: StudyRecord, trial: Trial) -> Iterator[str]:
    """Return lines on dominance between this trial and the others, and on similar networks."""
    objectives = record.spec.objectives
    own = trial.losses(objectives)
    complete = trial.state is TrialState.COMPLETE and trial.violation(objectives) == 0
    if own is not None and complete:
        outcomes = outcomes_of(store, record.name, objectives)
        losses = outcomes.losses[outcomes.comparable(objectives)]
        if trial.duplicate_of is not None:
            losses = np.vstack([losses, own])
        dominated, dominating = dominators([-np.array(own)], -losses), dominators([own], losses)
        yield (
            f"dominates {dominated[0]} of {len(losses)} feasible trials, "
            f"dominated by {dominating[0]}"
        )
    params_of = {**store.params(record.name), trial.number: trial.params}
    numbers = sorted(params_of)
    params = [params_of[number] for number in numbers]
    choices, index = choices_seen(params), numbers.index(trial.number)
    (nearest,) = neighbours(positions(params, choices), choices, NEIGHBOURS, [index])
    if len(nearest):
        names = [f"trial {numbers[neighbour]}" for neighbour in nearest]
        yield f"most alike: {', '.join(names)}"


def _latency_shares(network: Architecture, classes: int, plan: MeasurementPlan) -> Iterator[str]:
    from nas.measuring.latency_shares import latency_shares
    from nas.measuring.meters import find_meter

    with find_meter() as meter:
        shares, runs = latency_shares(network, classes, replace(plan, runtime="eager"), meter)
        yield (
            f"share of the latency here, on {meter.device.name}, batch {plan.batch_size} at "
            f"{plan.image_size} px, {plan.precision}, eager: median of {runs} runs "
            "[range of nine runs in ten]"
        )
    for name, share in shares.items():
        yield f"{name:12}{share.median:>7.1%}  [{share.low:.1%} to {share.high:.1%}]"


def _read_architecture(path: Path) -> Architecture:
    """Read an architecture from a JSON file. Raises `InvalidValueError` with the path."""
    try:
        return Architecture.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
