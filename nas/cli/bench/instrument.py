"""`nas bench instrument`: quality of the measurements on this machine."""

from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.table import Table

from nas.cli.bench import bench
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import THREADS, device_option
from nas.cli.tables import print_table
from nas.core.measurement import MeasurementPlan
from nas.measuring.meters import find_meter

NAMES = ("coverage", "energy", "copy", "repeat", "rank", "neighbour")


@bench.command("instrument")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(NAMES),
    metavar="NAME",
    help=f"{', '.join(NAMES)}; may be repeated. [default: all, 20 to 50 min]",
)
@click.option(
    "--sessions",
    type=click.IntRange(min=1),
    help="Number of repetitions. [default: each part's own number]",
)
@device_option()
@click.option(
    "--runtime",
    default="eager",
    show_default=True,
    metavar="NAME",
    help="eager, compile, onnxruntime, openvino or graph (CUDA).",
)
@click.option("--threads", type=THREADS, default=1, show_default=True, help="CPU threads.")
@json_option("bench instrument")
def instrument(
    *,
    parts: Sequence[str],
    sessions: int | None,
    device: str | None,
    runtime: str,
    threads: int,
    as_json: bool,
) -> None:
    """Measure the quality of measurements.

    The parts are: coverage of the interval, energy, A/A, spread, ranks, and the effect of other
    processes. The parts coverage and energy are simulated. All others need an idle machine.
    """
    from nas.bench.instrument import PARTS, Bench

    table = Table("figure", "measured", "required", "holds")
    with find_meter(device) as meter:
        plan = MeasurementPlan(image_size=32, runtime=runtime, threads=threads)
        settings = Bench(meter=meter, plan=plan, sessions=sessions)
        if not as_json:
            click.echo(
                f"{meter.device.name}: batch 1 at 32 px, fp32, {runtime}, {threads} thread(s)"
            )
        for name in parts or NAMES:
            for check in PARTS[name](settings):
                if as_json:
                    echo_json("bench instrument", asdict(check), one_line=True)
                holds = {None: "", True: "yes", False: "NO"}[check.holds]
                table.add_row(check.what, check.found, check.asked, holds)
    if not as_json:
        print_table(table)
