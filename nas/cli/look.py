"""`nas status`, `nas front`, `nas show`: what the record says."""

import json
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from nas.architecture import Architecture
from nas.cli import main
from nas.cli.options import database_option, open_record, pick_study, pick_trial
from nas.cli.tables import front_table
from nas.errors import InvalidValueError
from nas.pareto import front as front_of
from nas.published import PUBLISHED, published
from nas.report import fronts
from nas.report.drawing import draw
from nas.report.quantities import duration, quantity, sparkline, with_interval
from nas.search.engine import searched_s
from nas.store import Store, StudyRecord
from nas.trial import Trial, TrialState


@main.command()
@click.argument("study", required=False)
@database_option
def status(study: str | None, database: str) -> None:
    """Studies with their trials by state; with STUDY, its hypervolume and time too."""
    console = Console(highlight=False)
    with open_record(database) as store:
        if study is not None:
            _study_status(console, store, store.study(study))
            return
        table = Table(box=box.SIMPLE)
        table.add_column("study")
        for state in TrialState:
            table.add_column(state, justify="right")
        table.add_column("data")
        table.add_column("begun")
        for record in store.studies():
            table.add_row(record.name, *(str(record.counts.get(state, 0)) for state in TrialState), record.dataset,
                          f"{record.created_at:%Y-%m-%d %H:%M} UTC")
        console.print(table)


@main.command()
@click.argument("study", required=False)
@database_option
@click.option("--format", "form", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True)
def front(study: str | None, database: str, form: str) -> None:
    """The Pareto front of STUDY (or of the only one there is)."""
    with open_record(database) as store:
        record = pick_study(store, study)
        trials = {trial.number: trial for trial in store.trials(record.name)}
    found = front_of(list(trials.values()), record.spec.objectives)
    if form == "text":
        Console(highlight=False).print(front_table(record.spec, trials, found))
    else:
        write = fronts.as_json if form == "json" else fronts.as_csv
        click.echo(write(record.spec, trials, found).rstrip("\n"))


@main.command()
@click.argument("target", metavar="TRIAL")
@database_option
@click.option("--size", type=click.IntRange(min=1), help="Image size for the counts. [default: the study's, or 224]")
def show(target: str, database: str, size: int | None) -> None:
    """One network drawn and counted, with its measurements and rungs.

    TRIAL is STUDY:NUMBER (or NUMBER), the name of a published VoVNet such as vovnet39, or an architecture.json.
    """
    if target in PUBLISHED:
        click.echo(draw(published(target), size or 224, 1000))
    elif target.endswith(".json"):
        click.echo(draw(read_architecture(Path(target)), size or 224, 1000))
    else:
        with open_record(database) as store:
            record, trial = pick_trial(store, target)
        _show_trial(record, trial, size or record.spec.measurement.image_size)


def read_architecture(path: Path) -> Architecture:
    """The architecture of a JSON file. Raises `InvalidValueError` with the path."""
    try:
        return Architecture.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidValueError(f"{path}: {error}") from error


def _study_status(console: Console, store: Store, record: StudyRecord) -> None:
    trials = store.trials(record.name)
    distinct = [t for t in trials if t.duplicate_of is None]
    volumes = [snapshot.hypervolume for snapshot in store.fronts(record.name) if snapshot.hypervolume is not None]
    objectives = ", ".join(o.metric for o in record.spec.objectives)
    spec = record.spec
    console.print(f"{record.name}: {objectives} over {spec.space} by {spec.sampler}, data {record.dataset}")
    states = ", ".join(f"{sum(t.state is state for t in distinct)} {state}" for state in TrialState)
    console.print(f"{len(distinct)} of {record.spec.budget.trials} architectures ({states}), "
                  f"{len(trials) - len(distinct)} repeated proposals")
    measuring = sum(t.evaluation.measure_s for t in distinct)
    rungs = [rung for t in distinct for rung in t.evaluation.rungs]
    training = sum(r.train_s + r.validation_s for r in rungs)
    console.print(f"{duration(searched_s(trials))} of searching: {duration(measuring)} measuring and "
                  f"{duration(training)} training on all workers together")
    if volumes:
        console.print(f"hypervolume {volumes[-1]:.5g}  {sparkline(volumes)}")
    for t in trials:
        if t.state is TrialState.FAILED and t.duplicate_of is None:
            console.print(f"trial {t.number} failed: {t.reason}")


def _show_trial(record: StudyRecord, trial: Trial, size: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"trial {trial.number} of {record.name}: {trial.state}{f', {trial.reason}' if trial.reason else ''}")
    if trial.duplicate_of is not None:
        console.print(f"the same network as trial {trial.duplicate_of}, whose figures these are")
    click.echo(draw(trial.architecture, size, record.classes))
    for measurement in trial.evaluation.measurements.values():
        device = f" on {measurement.device.name}" if measurement.device else ""
        plan = measurement.plan
        context = f", batch {plan.batch_size} at {plan.image_size} px, {plan.precision}" if plan else ""
        console.print(f"{measurement.metric:20} {with_interval(measurement)}  ({measurement.kind}{device}{context})")
    for rung in trial.evaluation.rungs:
        console.print(f"error after {rung.epochs:g} epochs: {quantity(rung.error, '1', metric='error')} "
                      f"({duration(rung.train_s)} of training)")
    console.print(f"digest {trial.architecture.digest}")
