"""`nas doctor`: what this machine can measure."""

import json
from dataclasses import asdict

import click

from nas.cli import main


@main.command()
@click.option("--device", metavar="NAME", help="Show a device of nas device in place of this one.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def doctor(*, device: str | None, as_json: bool) -> None:
    """Show what this machine can measure, and why not the rest."""
    from nas.measuring.doctor import findings, remote_findings

    checks = list(findings() if device is None else remote_findings(device))
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=2))
        return
    for check in checks:
        available = "yes" if check.available else "no"
        click.echo(f"{available:3}  {check.what:20} {check.detail}")
