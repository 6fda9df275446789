"""`nas study rename` and `nas study delete`."""

import sys

import click

from nas.cli.options import change_record, database_option
from nas.cli.study import study as group
from nas.core.units import format_quantity


@group.command()
@click.argument("study")
@click.argument("name")
@database_option
def rename(study: str, name: str, database: str) -> None:
    """Give a study another name.

    Its checkpoints and measured targets follow. Set the same name in its study file before you
    search again.
    """
    from nas.searching.managing import rename as rename_study

    with change_record(database) as store:
        rename_study(store, study, name)
    click.echo(f"{study} is now {name}; set 'name: {name}' in its study file")


@group.command()
@click.argument("study")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_option
def delete(study: str, database: str, *, yes: bool) -> None:
    """Delete a study with its trials, figures and checkpoints.

    Nothing brings them back. Exported bundles stay as they are.
    """
    from nas.searching.managing import delete as delete_study
    from nas.searching.managing import size_bytes

    with change_record(database) as store:
        trials = sum(store.study(study).counts.values())
        held = (
            f"{trials} trials and {format_quantity(size_bytes(store, study), 'B')} of checkpoints"
        )
        if not yes and not sys.stdin.isatty():
            raise click.UsageError(
                f"{study} has {held}; deleting it without a terminal needs --yes"
            )
        if not yes and not click.confirm(f"Delete {study} with {held}?"):
            click.echo("nothing is deleted")
            return
        is_smaller = delete_study(store, study)
    click.echo(f"deleted {study}: {held}")
    if not is_smaller:
        click.echo("other processes use the record, so its file keeps its size for new trials")
