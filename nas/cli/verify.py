"""`nas verify`: an exported folder, checked again."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli import main
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import PRESENT_FOLDER
from nas.core.units import with_interval

if TYPE_CHECKING:
    from nas.export import Verification


@main.command()
@click.argument(
    "folder",
    type=PRESENT_FOLDER,
    metavar="DIR",
)
@click.option("--no-latency", is_flag=True, help="Do not measure latency.")
@json_option("verify")
@click.option("--strict", is_flag=True, help="Let warnings about latency fail too.")
def verify(folder: Path, no_latency: bool, strict: bool, *, as_json: bool) -> None:
    """Check an exported folder on this machine.

    Its files are loaded in new processes in every way, counted and measured again. The exit code is
    1 if a check fails.
    """
    from nas.export import verify_bundle

    result = verify_bundle(folder, measure=not no_latency)
    if as_json:
        checks = [{**asdict(check), "passed": check.passed} for check in result.checks]
        facts = {"passed": not result.failures, "checks": checks}
        echo_json("verify", {**facts, "figures": result.figures, "warnings": result.warnings})
    else:
        _print(result)
    if result.failures or (strict and result.warnings):
        raise click.exceptions.Exit(1)


def _print(result: "Verification") -> None:
    for check in result.checks:
        click.echo(f"{'ok  ' if check.passed else 'FAIL'} {check}")
    for figure in result.figures:
        device = f" on {figure.device.name}" if figure.device else ""
        runtime = f" in {figure.plan.runtime}" if figure.plan else ""
        click.echo(f"latency{runtime}{device}: {with_interval(figure)}")
    if result.failures:
        click.echo("the latency is measured only if no check fails")
    for warning in result.warnings:
        click.echo(f"WARNING: {warning}")
    click.echo(f"{len(result.checks)} checks, {len(result.failures)} failed")
