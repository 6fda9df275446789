"""`nas compare`: two trials side by side."""

from collections.abc import Iterator

import click
from rich.table import Table

from nas.cli import main
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import database_option, open_record, pick_trial
from nas.cli.tables import print_table
from nas.core.trial import Trial
from nas.core.units import with_interval
from nas.report.fronts import rung_figures
from nas.report.trial_facts import different_choices, trial_values


@main.command()
@click.argument("first", metavar="TRIAL")
@click.argument("second", metavar="TRIAL")
@database_option
@json_option("compare")
def compare(first: str, second: str, database: str, *, as_json: bool) -> None:
    """Compare two trials side by side.

    The figures, the rungs and the choices that differ are shown. TRIAL is STUDY:NUMBER, or NUMBER
    if there is one study.
    """
    with open_record(database) as store:
        pairs = [pick_trial(store, text) for text in (first, second)]
    left, right = trials = [trial for _, trial in pairs]
    different = different_choices(trials)
    is_same = left.architecture.digest == right.architecture.digest
    if as_json:
        values = [trial_values(record.spec, trial) for record, trial in pairs]
        facts = {"trials": values, "different": different, "same_network": is_same}
        echo_json("compare", facts)
        return
    rungs = [dict(rung_figures(record.spec, trial)) for record, trial in pairs]
    table = Table("", *(f"{record.name}:{trial.number}" for record, trial in pairs))
    for row in _figures(left, right):
        table.add_row(*row)
    for name in dict.fromkeys(name for each in rungs for name in each):
        table.add_row(name, *(each.get(name, "-") for each in rungs))
    for name in different:
        table.add_row(name, *(str(trial.params.get(name, "-")) for trial in trials))
    print_table(table)
    if is_same:
        click.echo("the same network")


def _figures(*trials: Trial) -> Iterator[list[str]]:
    """Return a row for every figure that one of the trials has: its name, then each trial's."""
    metrics = [name for trial in trials for name in trial.evaluation.measurements]
    for metric in dict.fromkeys(metrics):
        figures = [trial.evaluation.measurements.get(metric) for trial in trials]
        yield [metric, *("-" if figure is None else with_interval(figure) for figure in figures)]
