"""`nas report`: a study as one HTML file."""

from datetime import UTC, datetime
from pathlib import Path

import click

from nas.cli import main
from nas.cli.options import database_option, open_record, pick_study
from nas.cli.progress import shown_url
from nas.errors import NasError


@main.command()
@click.argument("study", required=False)
@database_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default="report.html",
              show_default=True, metavar="FILE", help="The file to write; an older one is replaced.")
def report(study: str | None, database: str, output: Path) -> None:
    """Write STUDY as one HTML page: front, networks, history, importances, cost. It opens anywhere, offline."""
    from nas.report.contents import read  # noqa: PLC0415 - Optuna takes a second to import
    from nas.report.page import report as page  # noqa: PLC0415

    with open_record(database) as store:
        text = page(read(store, pick_study(store, study).name, shown_url(database)), datetime.now(UTC))
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NasError(f"{output} cannot be written: {error.strerror}") from error
    click.echo(f"{output}: {len(text.encode()) / 1e6:.1f} MB, open it in a browser")
