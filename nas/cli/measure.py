"""`nas measure` and `nas doctor`: the instrument alone."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from nas.cli import main
from nas.cli.db import check
from nas.cli.options import PRECISIONS, SIZE, THREADS, database_option, open_record, pick_trial
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.measurement import Measurement, MeasurementPlan, Precision
from nas.core.units import format_quantity, with_interval
from nas.measuring.meters import find_meter
from nas.record import Store


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of a table.")
@click.option(
    "--db", "of_record", is_flag=True, help="Whether the record is sound instead, as nas db check."
)
@database_option
@click.pass_context
def doctor(context: click.Context, *, as_json: bool, of_record: bool, database: str) -> None:
    """What this machine can measure, and why not the rest."""
    if of_record:
        context.invoke(check, database=database)
        return
    from nas.measuring.doctor import findings

    found = list(findings())
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    for each in found:
        click.echo(f"{'yes' if each.available else 'no ':3}  {each.what:20} {each.detail}")


@main.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@database_option
@click.option(
    "--meter", "kind", metavar="KIND", help="cpu or cuda. [default: the GPU where there is one]"
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images in a batch."
)
@click.option("--size", type=SIZE, default=224, show_default=True, help="Pixels of a side.")
@click.option(
    "--precision", type=PRECISIONS, default="fp32", show_default=True, help="Number formats."
)
@click.option(
    "--runtime",
    metavar="NAME",
    help="eager, graph (CUDA), compile or onnxruntime.  [default: eager; onnxruntime if a target "
    "is a .onnx file]",
)
@click.option("--threads", type=THREADS, default=1, show_default=True, help="CPU threads.")
@click.option(
    "--tier",
    type=click.Choice(["screen", "certify"]),
    default="screen",
    show_default=True,
    help="certify: latency and joules in turns with a reference network, all targets together.",
)
@click.option("--json", "as_json", is_flag=True, help="Every figure with all samples as JSON.")
def measure(
    *,
    targets: Sequence[str],
    database: str,
    kind: str | None,
    batch: int,
    size: int,
    precision: str,
    runtime: str | None,
    threads: int,
    tier: str,
    as_json: bool,
) -> None:
    """Measure networks: latency, joules per frame, peak memory, with intervals and a status; kept
    in the record.

    TARGET is a published VoVNet (vovnet39), an architecture.json, STUDY:TRIAL, a folder of nas
    export, a .onnx file, timm:NAME, torchvision:NAME, or module:callable (which runs that module's
    code).
    """
    from nas.measuring.session import certify_targets, measure_all
    from nas.measuring.targets import default_runtime, load_target

    def find_trial(text: str) -> tuple[Architecture, int]:
        with open_record(database) as store:
            record, trial = pick_trial(store, text)
        return trial.architecture, record.classes

    plan = MeasurementPlan(
        batch_size=batch,
        image_size=size,
        precision=Precision(precision),
        runtime=runtime or default_runtime(targets),
        threads=threads,
    )
    loaded = [load_target(text, plan, find_trial) for text in targets]
    shown: list[dict[str, Any]] = []
    without: list[str] = []
    with find_meter(kind) as meter, Store.open(database) as store:
        if not as_json:
            click.echo(
                f"{meter.device.name}: batch {batch} at {size} px, {precision}, {plan.runtime}, "
                f"{threads} thread(s)"
            )
        taken: Iterable[tuple[Measurement, ...]]
        if tier == "certify":
            known = certify_targets(loaded, plan, meter, energy=True)
            taken = [known[target.name] for target in loaded]
        else:
            taken = measure_all(loaded, plan, meter)
        for target, figures in zip(loaded, taken, strict=True):
            digest = target.architecture.digest if target.architecture else None
            store.add_single(target.name, figures, digest=digest)
            without += [
                f"{target.name}: no latency, {figure.status}: {figure.reason}"
                for figure in figures
                if figure.metric == "latency" and figure.value is None
            ]
            macs = target.macs(size)
            if as_json:
                shown += [
                    {"target": target.name, "macs": macs, **asdict(figure)} for figure in figures
                ]
            else:
                Console(highlight=False, soft_wrap=True).print(
                    _table(target.name, figures, macs, batch)
                )
    if as_json:
        click.echo(json.dumps(shown, indent=2, default=_plain))
    if without:
        raise NasError("\n".join(without))


def _table(name: str, figures: Sequence[Measurement], macs: int | None, batch: int) -> Table:
    """What one measured target looks like."""
    by_metric = {figure.metric: figure for figure in figures}
    table = Table(title=name, box=box.SIMPLE, title_justify="left")
    for heading in ("figure", "value  [95 % interval]", "status"):
        table.add_column(heading)
    seconds = by_metric["latency"].value
    joules = by_metric["energy"].value if "energy" in by_metric else None
    labels = {
        "latency": f"latency, batch {batch}",
        "energy": "energy per frame",
        "peak_memory": "peak memory",
    }
    for metric in [metric for metric in labels if metric in by_metric]:
        table.add_row(labels[metric], *_cells(by_metric[metric]))
    if (ratio := by_metric["latency"].details.get("ratio")) is not None:
        found = by_metric["latency"].details
        between = (
            f"  [{found['ratio_low']:.4g} to {found['ratio_high']:.4g}]"
            if "ratio_low" in found
            else ""
        )
        table.add_row(
            f"ratio to {found['reference']}",
            f"{ratio:.4g}{between}",
            f"{len(found['ratios'])} cycles",
        )
    if "single_call" in by_metric:
        single = by_metric["single_call"]
        table.add_row("single calls, batch 1", _percentiles(single), _cells(single)[1])
    if seconds is not None:
        table.add_row("throughput", f"{batch / seconds:.4g} frames/s", "derived")
        if macs is not None:
            rate = format_quantity(macs * batch / seconds, "1")
            table.add_row("MACs", f"{format_quantity(macs, '1')} per frame, {rate}/s", "counted")
    if seconds is not None and joules is not None:
        table.add_row("mean power", format_quantity(joules * batch / seconds, "W"), "derived")
    return table


def _percentiles(single: Measurement) -> str:
    """Those that there are; why there is no p99."""
    found = single.details["percentiles"]
    shown = [f"{name} {format_quantity(value, 's')}" for name, value in found.items()]
    if found and "p99" not in found:
        shown.append(f"p99 needs 1000 calls, there are {len(single.samples)}")
    return ", ".join(shown) or "-"


def _cells(figure: Measurement) -> tuple[str, str]:
    """Value and status, the reason with it."""
    if figure.value is None:
        return "-", f"{figure.status}: {figure.reason}"
    return with_interval(figure), f"{figure.status}{f': {figure.reason}' if figure.reason else ''}"


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
