"""`nas study retry`: failed trials, given another chance."""

import click

from nas.cli.options import (
    change_record,
    command_to_paste,
    database_option,
    pick_study,
    trial_option,
)
from nas.cli.study import study as group


@group.command()
@click.argument("study", required=False)
@database_option
@trial_option("Retry only this trial.")
def retry(study: str | None, database: str, numbers: tuple[int, ...]) -> None:
    """Let failed trials of a study be tried again.

    The next nas search resumes them from their last rung.
    """
    from nas.searching.retry import retry as retry_trials

    with change_record(database) as store:
        trials = retry_trials(store, pick_study(store, study).name, numbers)
    for trial in trials:
        click.echo(f"trial {trial.number} will be tried again; it had failed: {trial.reason}")
    if not trials:
        click.echo("no trial has failed")
        return
    command = command_to_paste("search", "STUDY.yaml", database=database)
    click.echo(f"{len(trials)} trials; resume with: {command}")
