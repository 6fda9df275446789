"""`nas serve`: the record as pages in a browser."""

import click

from nas.cli import main
from nas.cli.group import INTERRUPTED
from nas.cli.options import database_option, database_to_paste, open_record

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine, by which a browser may ask for pages."""


@main.command()
@database_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. Any but this machine's shows the record to all who reach it.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 takes any free one.",
)
def serve(database: str, host: str, port: int) -> None:
    """Show the record in a browser, live while a search runs.

    The record is only read. There is no login: on another machine, listen on 127.0.0.1 and look
    through `ssh -L 8080:127.0.0.1:8080`.
    """
    from nas.report.dashboard import create_app
    from nas.report.dashboard.server import listen, run

    hosts = LOOPBACK if host in {"127.0.0.1", "localhost", "::1"} else ("*",)
    with open_record(database) as store, listen(host, port) as listener:
        app = create_app(store, database=database_to_paste(database), hosts=hosts)
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"http://{shown}:{listener.getsockname()[1]} shows {store}; Ctrl-C ends it")
        run(app, listener)  # until Ctrl-C
    raise click.exceptions.Exit(INTERRUPTED)
