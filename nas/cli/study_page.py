"""The page of a study, as `nas report` and a finished `nas search` write it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.files import OutputKind, write_file
from nas.cli.options import database_to_paste

if TYPE_CHECKING:
    from nas.record import Store


PAGE = OutputKind(name="page", command="nas report", format="html", packages=("jinja2", "plotly"))


def write_page(
    store: "Store", study: str, database: str, output: Path, *, note: bool = False
) -> None:
    """Write the page of a study and print where it is; as a `note`, on standard error.

    Raises `NasError` if the file holds anything but an earlier page, `WriteError` if it cannot be
    written.
    """
    from nas.report.contents import read
    from nas.report.page import report

    text = report(read(store, study, database_to_paste(database)))
    write_file(output, text, PAGE)
    click.echo(f"{output}: {len(text.encode()) / 1e6:.1f} MB, open it in a browser", err=note)
