"""`nas db`, `nas retry`, `nas export-optuna`: the record as a whole."""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import click

from nas.cli import main
from nas.cli.files import check_no_sidecar, is_sqlite
from nas.cli.options import database_option, open_record, pick_study
from nas.core import plugins
from nas.core.errors import DatabaseError
from nas.record import Address, Store


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
    address = Address.parse(target)
    if address.path is not None:
        check_no_sidecar(address.path)
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


OPTUNA_TABLE = "version_info"
"""A table of every database of Optuna."""


@main.command("export-optuna")
@click.argument("study")
@click.argument("target", metavar="URL")
@database_option
def export_optuna(study: str, target: str, database: str) -> None:
    """Write STUDY as an Optuna study to URL, for optuna-dashboard.

    URL is an SQLite file, new or of Optuna, or an address such as postgresql://….
    """
    from nas.sampling.optuna_study import export_study

    url = _optuna_url(target)
    with open_record(database) as store:
        record, trials = store.study(study), store.trials(study)
    export_study(record.spec, plugins.load("nas.spaces", record.spec.space), trials, url)
    shown = url if url.startswith("sqlite:") else "URL"
    click.echo(f"{len(trials)} trials; look at them with: optuna-dashboard {shlex.quote(shown)}")


def _optuna_url(target: str) -> str:
    """Return the address of Optuna's database as SQLAlchemy writes it, from a file name or address.

    Raises `NasError` for a file that holds anything but a database of Optuna.
    """
    if "://" in target and not target.startswith("sqlite"):
        return target
    path = Address.parse(target).path
    if path is None or "?" in path.name:
        raise DatabaseError(
            f"{target} is no file that Optuna can write to; name a file like opt.db"
        )
    check_no_sidecar(path)
    if path.is_file() and path.stat().st_size and not _is_optuna(path):
        raise DatabaseError(
            f"{target} is not a database of Optuna, so it is left as it is; name another file"
        )
    return f"sqlite:///{path}"


def _is_optuna(path: Path) -> bool:
    if not is_sqlite(path):
        return False
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return OPTUNA_TABLE in tables and "trials" in tables and "nas_schema_version" not in tables
