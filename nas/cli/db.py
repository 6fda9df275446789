"""`nas db`: the record as a whole."""

import click

from nas.cli import main
from nas.cli.files import check_no_sidecar
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import database_option, open_or_create_record, open_record
from nas.core.errors import DatabaseError
from nas.record import Address


@main.group()
def db() -> None:
    """Check the record, or copy it to another database."""


@db.command()
@database_option
@json_option("record")
def check(database: str, *, as_json: bool) -> None:
    """Check that the record is sound.

    It checks the file, its keys, its trials, fronts and checkpoints. The exit code is 2 if one of
    them is not sound.
    """
    with open_record(database) as store:
        problems, studies = store.problems(), store.studies()
        trials = sum(sum(record.counts.values()) for record in studies)
        if as_json:
            facts = {"record": str(store), "studies": len(studies), "trials": trials}
            echo_json("record", {**facts, "problems": problems})
        if problems:
            raise DatabaseError("\n".join(problems))
        if not as_json:
            click.echo(f"{store} is sound: {len(studies)} studies, {trials} trials")


@db.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def copy(source: str, target: str) -> None:
    """Copy a record to a new database, bit for bit.

    SRC and DST are what --database takes. Checkpoints stay in their folder.
    """
    address = Address.parse(target)
    if address.path is not None:
        check_no_sidecar(address.path)
    with open_record(source) as store, open_or_create_record(target) as new:
        rows = store.copy_to(new)
        click.echo(f"{new}: {sum(rows.values()):,} rows of {len(rows)} tables")
