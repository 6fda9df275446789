"""`nas report`: a study as one HTML file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli import main
from nas.cli.files import OutputKind, check_outputs, write_files
from nas.cli.options import (
    FILE,
    FOLDER,
    database_option,
    database_to_paste,
    open_record,
    pick_study,
)
from nas.cli.study_page import PAGE, write_page

if TYPE_CHECKING:
    from nas.record import Store


PICTURE = OutputKind(
    name="picture", command="nas report --png", format="png", packages=("matplotlib",)
)


@main.command()
@click.argument("study", required=False)
@database_option
@click.option(
    "-o",
    "--output",
    type=FILE,
    default="report.html",
    show_default=True,
    help="The file to write; an earlier page is replaced.",
)
@click.option(
    "--png",
    "folder",
    type=FOLDER,
    help="Write the main plots to this folder instead, as pictures for papers.",
)
def report(study: str | None, database: str, output: Path, folder: Path | None) -> None:
    """Write a study as one HTML page.

    It has the front, networks, history, importances and cost. It opens anywhere, offline.
    """
    if folder is None:
        check_outputs([(output, PAGE)])
    with open_record(database) as store:
        name = pick_study(store, study).name
        if folder is None:
            write_page(store, name, database, output)
        else:
            _write_pictures(store, name, database, folder)


def _write_pictures(store: "Store", study: str, database: str, folder: Path) -> None:
    from nas.report.contents import read
    from nas.report.pictures import pictures

    content = read(store, study, database_to_paste(database))
    write_files(folder, {name: (png, PICTURE) for name, png in pictures(content).items()})
