"""`nas doctor`: what this machine can measure."""

import click

from nas.cli import main
from nas.cli.json_output import echo_json, json_option


@main.command()
@click.option("--device", metavar="NAME", help="Show a device of nas device in place of this one.")
@json_option("doctor")
def doctor(*, device: str | None, as_json: bool) -> None:
    """Show what this machine can measure, and why not the rest."""
    from nas.measuring.doctor import findings, remote_findings

    checks = list(findings() if device is None else remote_findings(device))
    if as_json:
        echo_json("doctor", {"checks": checks})
        return
    for check in checks:
        available = "yes" if check.available else "no"
        click.echo(f"{available:3}  {check.what:20} {check.detail}")
