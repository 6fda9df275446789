"""`nas serve`: the record as pages in a browser."""

import click

from nas.cli import main
from nas.cli.options import database_option, open_record
from nas.cli.progress import shown_url

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@main.command()
@database_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen; anything but this machine shows the record to whoever can reach it.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0 takes any free one.",
)
def serve(database: str, host: str, port: int) -> None:
    """Show the record in a browser, and go on showing it while a search runs. The record is only
    read.

    There is no login: on another machine, listen on 127.0.0.1 and look through `ssh -L
    8080:127.0.0.1:8080`.
    """
    from nas.report.dashboard import create_app
    from nas.report.dashboard.server import run

    hosts = LOOPBACK if host in {"127.0.0.1", "localhost", "::1"} else ("*",)
    with open_record(database) as store:
        click.echo(
            f"http://{f'[{host}]' if ':' in host else host}:{port} shows {store}; Ctrl-C ends it"
        )
        run(create_app(store, database=shown_url(database), hosts=hosts), host=host, port=port)
