"""`nas report`: a study as one HTML file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli import main
from nas.cli.files import OutputKind, check_outputs, write_file, write_files
from nas.cli.options import database_option, database_to_paste, open_record, pick_study

if TYPE_CHECKING:
    from nas.report.contents import Study

PAGE = OutputKind(name="page", command="nas report", format="html")
PICTURE = OutputKind(name="picture", command="nas report --png", format="png")


@main.command()
@click.argument("study", required=False)
@database_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="The file to write; an earlier page is replaced.",
)
@click.option(
    "--png",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the main plots to this folder instead, as pictures for papers.",
)
def report(study: str | None, database: str, output: Path, folder: Path | None) -> None:
    """Write a study as one HTML page.

    It has the front, networks, history, importances and cost. It opens anywhere, offline.
    """
    from nas.report.contents import read

    if folder is None:
        check_outputs([(output, PAGE)])
    with open_record(database) as store:
        content = read(store, pick_study(store, study).name, database_to_paste(database))
    if folder is not None:
        from nas.report.pictures import pictures

        files = {name: (picture, PICTURE) for name, picture in pictures(content).items()}
        write_files(folder, files)
        return
    write_page(content, output)


def write_page(content: "Study", output: Path) -> None:
    """Write the page of a study and print where it is. Raises `WriteError` for a file that is no
    earlier page.
    """
    from nas.report.page import report as page

    text = page(content, datetime.now(UTC))
    write_file(output, text, PAGE)
    click.echo(f"{output}: {len(text.encode()) / 1e6:.1f} MB, open it in a browser")
