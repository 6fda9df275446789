"""`nas study archive` and `nas study list`: studies are hidden from lists, and listed."""

from datetime import UTC, datetime

import click

from nas.cli.json_output import echo_json, json_option
from nas.cli.options import change_record, database_option, open_record
from nas.cli.status import studies_table
from nas.cli.study import study as group
from nas.cli.tables import terminal
from nas.report.study_facts import study_briefs


@group.command()
@click.argument("study")
@click.option("--back", is_flag=True, help="Show the study in lists again.")
@database_option
def archive(study: str, database: str, *, back: bool) -> None:
    """Hide a study from lists.

    It stays in the record with its checkpoints, and all commands take its name.
    """
    with change_record(database) as store:
        store.set_archived(study, None if back else datetime.now(UTC))
    back_again = f"{study} is in lists again"
    click.echo(back_again if back else f"{study} is hidden from lists; nas study list --all")


@group.command("list")
@click.option("--all", "every", is_flag=True, help="Show archived studies too.")
@database_option
@json_option("studies")
def list_studies(database: str, *, every: bool, as_json: bool) -> None:
    """List the studies of the record."""
    with open_record(database) as store:
        briefs = list(study_briefs(store, archived=every))
        hidden = len(store.studies()) - len(briefs)
    if as_json:
        echo_json("studies", {"studies": [each.to_dict() for each in briefs]})
        return
    terminal().print(studies_table(briefs))
    if hidden:
        click.echo(f"{hidden} archived: nas study list --all")
