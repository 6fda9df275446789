"""`nas show`: one network drawn and counted."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli import main
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import (
    IMAGE_SIZE,
    database_option,
    database_to_paste,
    open_record,
    password_note,
    pick_trial,
)
from nas.core.architecture import Architecture
from nas.core.architecture_file import read_architecture
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.published import PUBLISHED
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.core.units import format_trained, with_interval
from nas.report.drawing import draw
from nas.report.fronts import rung_figures
from nas.report.trial_facts import NO_TRIAL, TrialFacts, network_values, trial_facts

if TYPE_CHECKING:
    from nas.measuring.latency_shares import Share

MIN_NAME_WIDTH = 20
"""Columns for the name of a figure, at least."""
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
@json_option("show")
def show(target: str, database: str, size: int | None, *, timed: bool, as_json: bool) -> None:
    """Show one network: its drawing, counts and figures.

    Of a trial it also shows the rungs, the rank among the others, and the command that exports it.
    TRIAL is STUDY:NUMBER (or NUMBER), the name of a published VoVNet such as vovnet39, or an
    architecture.json.
    """
    facts: TrialFacts | None = None
    plan = MeasurementPlan(image_size=size or 224)
    if target in PUBLISHED or target.endswith(".json"):
        network, num_classes = (
            (PUBLISHED[target], None) if target in PUBLISHED else read_architecture(Path(target))
        )
        classes = num_classes or CLASSES
    else:
        with open_record(database) as store:
            record, trial = pick_trial(store, target)
            facts = trial_facts(store, record, trial, database_to_paste(database))
        network, classes = trial.architecture, record.classes
        plan = replace(
            record.spec.measurement, image_size=size or record.spec.measurement.image_size
        )
    if not as_json:
        for line in _lines(network, classes, plan, facts):
            click.echo(line)
        if facts is not None and facts.export and (note := password_note(database)):
            click.echo(note)
    shares = _latency_shares(network, classes, plan, quiet=as_json) if timed else None
    if as_json:
        values = NO_TRIAL if facts is None else facts.to_dict()
        values = {"network": network_values(network, plan.image_size, classes), **values}
        echo_json("show", {**values, "latency_shares": shares})


def _lines(
    network: Architecture, classes: int, plan: MeasurementPlan, facts: TrialFacts | None
) -> Iterator[str]:
    """Return the drawing of a network, and all that the record holds of its trial."""
    drawing = draw(network, plan.image_size, classes)
    if facts is None:
        yield drawing
        return
    record, trial = facts.record, facts.trial
    reason = f", {trial.reason}" if trial.reason else ""
    yield f"trial {trial.number} of {record.name}: {trial.state}{reason}"
    if trial.origin:
        yield f"evaluated elsewhere: {trial.origin}"
    if trial.duplicate_of is not None:
        yield f"the same network as trial {trial.duplicate_of}, whose figures these are"
    yield drawing
    yield from _figures(record.spec, trial)
    for result in facts.finals:
        epochs = result.first.recipe.epochs
        figures = [f"{m.name} {result.text(m)}" for m in record.spec.trained or ()]
        yield f"trained fully, {epochs:g} epochs: {', '.join(figures)} on the test images"
    if facts.rank is not None:
        yield (
            f"dominates {facts.rank.dominates} of {facts.rank.compared} feasible trials, "
            f"dominated by {facts.rank.dominated_by}"
        )
    if facts.similar:
        yield f"most alike: {', '.join(f'trial {number}' for number in facts.similar)}"
    if facts.export:
        yield f"take it away: {facts.export}"


def _figures(spec: StudySpec, trial: Trial) -> Iterator[str]:
    width = max([MIN_NAME_WIDTH, *map(len, trial.evaluation.measurements)])
    for measurement in trial.evaluation.measurements.values():
        context = _context(measurement)
        yield f"{measurement.metric:{width}} {with_interval(measurement)}  ({context})"
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


def _latency_shares(
    network: Architecture, classes: int, plan: MeasurementPlan, *, quiet: bool
) -> Mapping[str, "Share"]:
    """Measure the share of each part in the latency, and print it unless `quiet`."""
    from nas.measuring.latency_shares import latency_shares
    from nas.measuring.meters import find_meter

    with find_meter() as meter:
        shares, runs = latency_shares(network, classes, replace(plan, runtime="eager"), meter)
        heading = (
            f"share of the latency here, on {meter.device.name}, batch {plan.batch_size} at "
            f"{plan.image_size} px, {plan.precision}, eager: median of {runs} runs "
            "[range of nine runs in ten]"
        )
    lines = [
        f"{name:12}{share.median:>7.1%}  [{share.low:.1%} to {share.high:.1%}]"
        for name, share in shares.items()
    ]
    for line in [] if quiet else [heading, *lines]:
        click.echo(line)
    return shares
