"""`nas peers`: the networks of the VoVNet paper on this device."""

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas.cli import main
from nas.cli.files import OutputKind, check_outputs, write_files
from nas.cli.options import PRECISIONS, SIZE, THREADS, database_option, open_record, pick_trial
from nas.cli.tables import echo_wide, plain_table
from nas.core.architecture import Architecture
from nas.core.measurement import Device, MeasurementPlan, Precision
from nas.measuring.meters import Meter, find_meter
from nas.paper.peers import HARDWARE, Peer, select_peers
from nas.record import Store

if TYPE_CHECKING:
    from nas.measuring.targets import Target
    from nas.paper.peers_page import Row

PAGE = OutputKind(name="page", command="nas peers", format="html")
TABLE = OutputKind(
    name="table",
    command="nas peers",
    format="csv",
    header="network,family,target,image_size,.*,conditions,.*,paper_hardware",
)
DRAWING = OutputKind(name="drawing", command="nas peers", format="svg")
OUTPUTS = {
    "peers.csv": TABLE,
    "peers.html": PAGE,
    "latency.svg": DRAWING,
    "energy.svg": DRAWING,
}
"""The files that may be written, by name."""


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@database_option
@click.option(
    "--beside", multiple=True, metavar="TARGET", help="A network of yours, as nas measure takes it."
)
@click.option(
    "--meter", "kind", metavar="KIND", help="cpu or cuda. [default: the GPU where there is one]"
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images in a batch."
)
@click.option(
    "--size",
    type=SIZE,
    default=224,
    show_default=True,
    help="Pixels of a side; DenseNet-40 always has 32.",
)
@click.option(
    "--precision", type=PRECISIONS, default="fp32", show_default=True, help="Number formats."
)
@click.option(
    "--runtime",
    default="eager",
    show_default=True,
    metavar="NAME",
    help="eager, graph (CUDA), compile or onnxruntime.",
)
@click.option("--threads", type=THREADS, default=1, show_default=True, help="CPU threads.")
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How often each is measured, in an order drawn anew; 0 shows what the record holds.",
)
@click.option(
    "--tier",
    type=click.Choice(["screen", "certify"]),
    default="screen",
    show_default=True,
    help="certify: latency in turns with a reference network besides; half a minute or more for each.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write peers.csv, peers.html and the drawings there.",
)
def peers(
    *,
    names: Sequence[str],
    database: str,
    beside: Sequence[str],
    kind: str | None,
    batch: int,
    size: int,
    precision: str,
    runtime: str,
    threads: int,
    rounds: int,
    tier: str,
    output: Path | None,
) -> None:
    """Compare the VoVNet paper's networks on this device: counts, memory, latency, power, joules
    per frame.

    NAME is one of them (VoVNet-39, DenseNet-121); without a name all thirty are measured, in one
    session. Figures go to the record, and rounds kept there under the same conditions count too, so
    a comparison can be made in parts. Needs torchvision and timm (extra detection).
    """
    from nas.measuring.rounds import in_cycles, in_rounds

    if output is not None:
        check_outputs((output / name, kind) for name, kind in OUTPUTS.items())
    plan = MeasurementPlan(
        batch_size=batch,
        image_size=size,
        precision=Precision(precision),
        runtime=runtime,
        threads=threads,
        max_time_s=3.0,
    )
    listed = [
        *select_peers(names),
        *(Peer(name=text, family="yours", target=text) for text in beside),
    ]
    with find_meter(kind) as meter:
        plans = {peer.name: replace(plan, image_size=peer.image_size or size) for peer in listed}
        networks = {
            peer.name: (_load(peer, plans[peer.name], database), plans[peer.name])
            for peer in listed
        }
        with Store.open(database) as store, _progress() as bar:
            certify = tier == "certify"
            task = bar.add_task("measuring", total=len(networks) * (rounds + certify))
            sessions = [in_rounds(networks, meter, rounds, random.SystemRandom().randrange(2**31))]
            sessions += [in_cycles(networks, meter)] if certify and rounds else []
            for name, figures in (each for session in sessions for each in session):
                store.add_single(name, figures, digest=_digest(networks[name][0]))
                bar.advance(task)
        rows = _rows(listed, networks, database, meter, certified=certify)
    conditions = (
        f"{meter.device.device_class}: batch {batch}, {precision}, {runtime}, "
        f"{threads} thread(s), {tier}, {datetime.now(UTC):%Y-%m-%d}"
    )
    _show(rows, conditions)
    if output is not None:
        _write(rows, conditions, output)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _load(peer: Peer, plan: MeasurementPlan, database: str) -> "Target":
    from nas.measuring.targets import load_target

    def find_trial(text: str) -> tuple[Architecture, int]:
        with open_record(database) as store:
            record, trial = pick_trial(store, text)
        return trial.architecture, record.classes

    return replace(load_target(peer.target, plan, find_trial), name=peer.name)


def _digest(target: "Target") -> str | None:
    return target.architecture.digest if target.architecture else None


def _rows(
    listed: Sequence[Peer],
    networks: "dict[str, tuple[Target, MeasurementPlan]]",
    database: str,
    meter: Meter,
    *,
    certified: bool,
) -> "list[Row]":
    """From the record: all that was measured of them on this device under these conditions."""
    from nas.measuring.rounds import count_operations
    from nas.paper.peers_page import row

    rows = []
    with open_record(database) as store:
        for peer in listed:
            target, plan = networks[peer.name]
            counts = count_operations(target, plan.image_size)
            kept = [
                figure
                for _, figure in store.singles(peer.name)
                if _same(figure.device, meter.device)
            ]
            rows.append(
                row(
                    name=peer.name,
                    family=peer.family,
                    target=peer.target,
                    plan=plan,
                    measurements=kept,
                    counts=asdict(counts) if counts else {},
                    certified=certified,
                )
            )
    return rows


def _same(one: Device | None, other: Device) -> bool:
    """Whether figures of the two may stand in one table."""
    return one is not None and (one.identity, one.device_class) == (
        other.identity,
        other.device_class,
    )


def _show(rows: "Sequence[Row]", conditions: str) -> None:
    from nas.paper.peers_page import cells, missing, paper_cells

    echo_wide(conditions)
    echo_wide(plain_table(list(cells(rows))))
    for name, reason in missing(rows).items():
        echo_wide(f"no {name}: {reason}")
    printed = list(paper_cells(rows))
    if len(printed) > 1:
        echo_wide(
            f"\nprinted in the paper, of whole detectors at 300 to 320 pixels on a {HARDWARE}:"
        )
        echo_wide(plain_table(printed))


def _write(rows: "Sequence[Row]", conditions: str, folder: Path) -> None:
    from nas.paper.peers_page import as_csv, as_page, drawings
    from nas.paper.scatter import STYLE
    from nas.report.svg import as_file

    files: dict[str, str | bytes] = {
        "peers.csv": as_csv(rows, conditions),
        "peers.html": as_page(rows, conditions, datetime.now(UTC)),
    }
    for name, drawing in drawings(rows).items():
        files[f"{name}.svg"] = as_file(drawing, STYLE)
    write_files(folder, {name: (content, OUTPUTS[name]) for name, content in files.items()})
