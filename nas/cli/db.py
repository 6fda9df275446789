"""`nas db`, `nas retry`, `nas export-optuna`: the record as a whole."""

import click

from nas.cli import main
from nas.cli.options import database_option, open_record, pick_study
from nas.core import plugins
from nas.core.errors import DatabaseError
from nas.record import Store


@main.group()
def db() -> None:
    """Check the record, or copy it to another database."""


@db.command()
@database_option
def check(database: str) -> None:
    """Whether the record is sound: its file, its keys, its trials, fronts and checkpoints. Exit
    code 2 if not.
    """
    with open_record(database) as store:
        problems = store.problems()
        if problems:
            raise DatabaseError("\n".join(problems))
        trials = sum(sum(record.counts.values()) for record in store.studies())
        click.echo(f"{store} is sound: {len(store.studies())} studies, {trials} trials")


@db.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def copy(source: str, target: str) -> None:
    """Copy everything from SRC to the new database DST, bit for bit. Checkpoints stay in their
    folder.
    """
    with open_record(source) as store, Store.open(target) as new:
        rows = store.copy_to(new)
        click.echo(f"{new}: {sum(rows.values()):,} rows of {len(rows)} tables")


@main.command()
@click.argument("study", required=False)
@database_option
@click.option(
    "--trial",
    "numbers",
    type=int,
    multiple=True,
    help="Only this trial; may be given several times.",
)
def retry(study: str | None, database: str, numbers: tuple[int, ...]) -> None:
    """Let the failed trials of STUDY be tried again, from their last rung, by the next `nas
    search`.
    """
    from nas.searching.retry import retry as try_again

    with Store.open(database) as store:
        again = try_again(store, pick_study(store, study).name, numbers)
    for trial in again:
        click.echo(f"trial {trial.number} will be tried again; it had failed: {trial.reason}")
    click.echo(
        f"{len(again)} trials; go on with: nas search STUDY.yaml"
        if again
        else "no trial has failed"
    )


@main.command("export-optuna")
@click.argument("study")
@click.argument("url", metavar="URL")
@database_option
def export_optuna(study: str, url: str, database: str) -> None:
    """Write STUDY as an Optuna study at URL (such as sqlite:///optuna.db), for optuna-dashboard."""
    from nas.sampling.optuna_study import export_study

    with open_record(database) as store:
        record, trials = store.study(study), store.trials(study)
    export_study(record.spec, plugins.load("nas.spaces", record.spec.space), trials, url)
    click.echo(f"{len(trials)} trials; look at them with: optuna-dashboard URL")
