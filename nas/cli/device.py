"""`nas device`: the devices elsewhere that this user knows, and the agent that runs on them."""

from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.table import Table

from nas.cli import main
from nas.cli.files import OutputKind, check_outputs
from nas.cli.json_output import echo_json, json_option
from nas.cli.tables import echo_wide
from nas.measuring.devices import book

AGENT = OutputKind(name="packed agent", command="nas device agent", format="pyz")

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Execution providers of ONNX Runtime by the names that users type."""


@main.group()
def device() -> None:
    """Manage the devices elsewhere that measure for this machine.

    A device runs a small agent, which needs Python 3.8, NumPy and ONNX Runtime. Its name then
    stands for it in --device and in a study file's measurement.device.
    """


@device.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("agent.pyz"),
    show_default=True,
    help="The file to write.",
)
def agent(output: Path) -> None:
    """Write the agent as one file, to be copied to a device.

    It is started there with: python3 agent.pyz serve --token-file token
    """
    from nas.measuring.devices.archive import write_agent

    check_outputs([(output, AGENT)])
    write_agent(output)
    click.echo(f"{output}: {output.stat().st_size / 1e3:.0f} kB")


@device.command()
@click.argument("name")
@click.argument("address")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A copy of the agent's token. A Unix socket needs none.",
)
@click.option(
    "--provider",
    type=click.Choice(list(PROVIDERS)),
    default="cpu",
    show_default=True,
    help="Execution provider of the device's ONNX Runtime.",
)
def add(*, name: str, address: str, token_file: Path | None, provider: str) -> None:
    """Add the device at ADDRESS, whose agent must answer.

    ADDRESS is ssh://USER@HOST[:PORT], or with /SOCKET behind it the path of a Unix socket there;
    unix:PATH; or http://127.0.0.1:PORT.
    """
    from nas.measuring.devices.client import Client
    from nas.measuring.devices.meter import device_of

    entry = book.Entry(
        address=address,
        token_file=str(token_file.resolve()) if token_file else None,
        provider=PROVIDERS[provider],
    )
    book.check_name(name)
    with Client(name, entry, retry_s=0) as client:
        described = device_of(name, entry, client.device())
    book.add(name, replace(entry, identity=described.identity))
    click.echo(f"{name}: {described.device_class}")


@device.command("list")
@json_option("devices")
def list_devices(*, as_json: bool) -> None:
    """List the devices, without asking them."""
    entries = book.entries()
    if as_json:
        devices = [{"name": name, **asdict(entry)} for name, entry in entries.items()]
        echo_json("devices", {"devices": devices})
        return
    if not entries:
        click.echo(f"no devices in {book.book_file()}; add one with: nas device add NAME ADDRESS")
        return
    table = Table("device", "address", "provider")
    for name, entry in entries.items():
        table.add_row(name, entry.address, entry.provider)
    echo_wide(table)


@device.command()
@click.argument("name")
@json_option("device", always=True)
def show(name: str) -> None:
    """Show what a device is and what it can measure, as JSON with or without --json."""
    from nas.measuring.devices.client import Client

    entry = book.find_entry(name)
    with Client(name, entry, retry_s=0) as client:
        facts = client.device()
    echo_json("device", {"name": name, **asdict(entry), "facts": facts})


@device.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a device from the book. Figures that it measured stay in the record."""
    book.remove(name)
    click.echo(f"{name} removed")
