"""`nas study export-optuna`: a study for the tools of Optuna."""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import click

from nas.cli.files import check_no_sidecar, is_sqlite
from nas.cli.options import database_option, open_record
from nas.cli.study import study as group
from nas.core import plugins
from nas.core.errors import DatabaseError
from nas.record import Address

OPTUNA_TABLES = frozenset({"version_info", "trials"})
"""Tables of every database of Optuna."""
RECORD_TABLE = "nas_schema_version"
"""A table of every record of ours."""


@group.command("export-optuna")
@click.argument("study")
@click.argument("target", metavar="URL")
@database_option
def export_optuna(study: str, target: str, database: str) -> None:
    """Write a study to an Optuna database.

    URL is a file, new or written by Optuna, or an address such as postgresql://…. Look at the study
    with optuna-dashboard.
    """
    from nas.record.conditions import conditions
    from nas.sampling.optuna_study import export_study
    from nas.searching.launch import code_folder

    url = optuna_url(target)
    with open_record(database) as store:
        record, trials = store.study(study), store.trials(study)
    code_folder(record)
    space = plugins.load("nas.spaces", record.spec.space)
    export_study(record.spec, space, trials, url, conditions(record, trials))
    shown = shlex.quote(url) if url.startswith("sqlite:") else "URL"
    click.echo(f"{len(trials)} trials; look at them with: optuna-dashboard {shown}")


def optuna_url(target: str) -> str:
    """Return the address of an Optuna database as SQLAlchemy writes it, from a file or an address.

    Raises `DatabaseError` for a file that holds anything but a database of Optuna.
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
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError:  # it is cut short or damaged
        return False
    return tables >= OPTUNA_TABLES and RECORD_TABLE not in tables
