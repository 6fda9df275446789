"""`nas paper peers`: the networks of the VoVNet paper on this device."""

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas.cli.files import OutputKind, check_outputs, write_files
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import (
    FOLDER,
    Conditions,
    database_option,
    measuring_options,
    open_or_create_record,
    open_record,
    trial_finder,
)
from nas.cli.paper import paper as group
from nas.cli.tables import echo_wide, plain_table
from nas.core.measurement import Device, MeasurementPlan, same_class
from nas.measuring.meters import Meter, find_meter
from nas.paper.peers import DETECTORS, HARDWARE, PEERS, Peer, select_peers

if TYPE_CHECKING:
    from nas.measuring.targets import Target
    from nas.paper.peers_page import Row

PLAN = MeasurementPlan(image_size=224, max_time_s=3.0)
PAGE = OutputKind(name="page", command="nas peers", format="html", packages=("jinja2",))
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


@group.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@database_option
@click.option(
    "--beside",
    multiple=True,
    metavar="TARGET",
    help="Add a network of yours, as nas measure takes it. May be repeated.",
)
@click.option(
    "--detectors",
    is_flag=True,
    help="Compare the detectors of the paper's tables 2 to 5, without their post-processing.",
)
@measuring_options(PLAN, tier="screen")
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How often each network is measured, in a new order each time; 0 shows the record.",
)
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    metavar="FOLDER",
    help="Write peers.csv, peers.html and the drawings to this folder.",
)
@json_option("peers")
def peers(
    *,
    names: Sequence[str],
    database: str,
    beside: Sequence[str],
    detectors: bool,
    conditions: Conditions,
    rounds: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compare the VoVNet paper's networks on this device.

    The table has counts, memory, latency, power and energy per frame. NAME is one of the networks
    (VoVNet-39, DenseNet-121). Without a name all thirty are measured, in one session. DenseNet-40
    always has images of 32 pixels. Figures are recorded, and earlier rounds under the same
    conditions count too, so a comparison can be made in parts. It needs torchvision and timm (extra
    detection).
    """
    from nas.measuring.rounds import in_cycles, in_rounds

    if output is not None:
        check_outputs((output / name, kind) for name, kind in OUTPUTS.items())
    plan = conditions.plan(PLAN)
    own = [Peer(name=text, family="yours", target=text) for text in beside]
    listed = [*select_peers(names, DETECTORS if detectors else PEERS), *own]
    with find_meter(conditions.device) as meter:
        networks = {peer.name: _load(peer, plan, database) for peer in listed}
        certifies = conditions.certify
        with open_or_create_record(database) as store, _progress() as bar:
            task = bar.add_task("measuring", total=len(networks) * (rounds + certifies))
            seed = random.SystemRandom().randrange(2**31)
            sessions = [in_rounds(networks, meter, rounds, seed)]
            if certifies and rounds:
                sessions.append(in_cycles(networks, meter))
            for name, figures in (each for session in sessions for each in session):
                architecture = networks[name][0].architecture
                digest = architecture.digest if architecture else None
                store.add_single(name, figures, digest=digest)
                bar.advance(task)
        rows = _rows(listed, networks, database, meter, certified=certifies)
    threads = "thread" if plan.threads == 1 else "threads"
    described = (
        f"{meter.device.device_class}: batch {plan.batch_size}, {plan.precision}, {plan.runtime}, "
        f"{plan.threads} {threads}, {'certify' if certifies else 'screen'}, "
        f"{datetime.now(UTC):%Y-%m-%d}"
    )
    if as_json:
        facts = {"device": meter.device, "plan": plan, "certified": certifies}
        echo_json("peers", {**facts, "networks": rows})
    else:
        _show(rows, described)
    if output is not None:
        _write(rows, described, output, note=as_json)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _load(peer: Peer, plan: MeasurementPlan, database: str) -> "tuple[Target, MeasurementPlan]":
    """Load a network with the plan for its image size."""
    from nas.measuring.targets import load_target

    own_plan = replace(plan, image_size=peer.image_size or plan.image_size)
    target = load_target(peer.target, own_plan, trial_finder(database))
    return replace(target, name=peer.name), own_plan


def _rows(
    listed: Sequence[Peer],
    networks: "dict[str, tuple[Target, MeasurementPlan]]",
    database: str,
    meter: Meter,
    *,
    certified: bool,
) -> "list[Row]":
    """Return all recorded figures of the networks on this device under these conditions."""
    from nas.measuring.rounds import count_operations
    from nas.paper.peers_page import row

    rows = []
    with open_record(database) as store:
        for peer in listed:
            target, plan = networks[peer.name]
            counts = count_operations(target, plan.image_size)
            figures = [
                figure
                for _, figure in store.singles(peer.name)
                if _is_same(figure.device, meter.device)
            ]
            rows.append(
                row(
                    name=peer.name,
                    family=peer.family,
                    target=peer.target,
                    plan=plan,
                    measurements=figures,
                    counts=asdict(counts) if counts else {},
                    certified=certified,
                )
            )
    return rows


def _is_same(one: Device | None, other: Device) -> bool:
    """Return whether figures of two devices may be in one table."""
    if one is None:
        return False
    return one.identity == other.identity and same_class(one.device_class, other.device_class)


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


def _write(rows: "Sequence[Row]", conditions: str, folder: Path, *, note: bool) -> None:
    """Write the page, the table and the drawings; as a `note`, name them on standard error."""
    from nas.paper.peers_page import as_csv, as_page, drawings
    from nas.paper.scatter import STYLE
    from nas.report.svg import as_file

    files: dict[str, str | bytes] = {
        "peers.csv": as_csv(rows, conditions),
        "peers.html": as_page(rows, conditions),
    }
    for name, drawing in drawings(rows).items():
        files[f"{name}.svg"] = as_file(drawing, STYLE)
    contents = {name: (content, OUTPUTS[name]) for name, content in files.items()}
    write_files(folder, contents, note=note)
