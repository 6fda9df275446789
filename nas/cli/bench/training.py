"""`nas bench training`: speed of the training loop."""

import click

from nas.cli.bench import bench
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import THREADS


@bench.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=20.0,
    show_default=True,
    help="Time for each figure.",
)
@click.option("--threads", type=THREADS, default=1, show_default=True, help="CPU threads.")
@click.option(
    "--device", metavar="KIND", help="Train on cpu or cuda. [default: the GPU if there is one]"
)
@json_option("bench training")
def training(*, seconds: float, threads: int, device: str | None, as_json: bool) -> None:
    """Measure images per second of the training loop.

    It is compared with bare steps on one resident batch, and with a plain loop with a DataLoader.
    """
    from nas.bench.training import bench_training
    from nas.measuring.meters import find_trainer

    with find_trainer(device) as meter:
        name, torch_device = meter.device.name, meter.torch_device
    rows = bench_training(seconds=seconds, threads=threads, device=torch_device)
    if as_json:
        echo_json("bench training", {"device": name, "networks": list(rows)})
        return
    click.echo(f"on {name}")
    for row in rows:
        layout = "channels last" if row.numerics.channels_last else "contiguous"
        click.echo(
            f"{row.network}, {row.macs / 1e6:.1f} MMACs, ours in {row.numerics.precision}, "
            f"{layout}: images per second, median (lowest to highest round)\n"
            f"  one worker         ours {row.ours:,.0f}, bare {row.bare:,.0f}, "
            f"plain {row.plain:,.0f}\n"
            f"                     ours/bare {row.ours_to_bare:.2f}, "
            f"ours/plain {row.ours_to_plain:.2f}\n"
            f"  the whole machine  ours on each core {row.machine:,.0f}, "
            f"plain with torch's threads {row.machine_plain:,.0f}\n"
            f"                     ours/plain {row.machine_to_plain:.2f}"
        )
