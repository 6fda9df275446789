"""`nas measure`: figures of single networks."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click
from rich.table import Table

from nas.cli import main
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import (
    Conditions,
    database_option,
    measuring_options,
    open_or_create_record,
    trial_finder,
)
from nas.cli.tables import echo_wide
from nas.core.errors import NasError
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.units import format_duration, format_quantity, with_interval
from nas.measuring.meters import find_meter

if TYPE_CHECKING:
    from nas.measuring.targets import Target

PLAN = MeasurementPlan(image_size=224)
LABELS = {
    "latency": "latency, batch {batch}",
    "hot_latency": "latency, settled under load",
    "energy": "energy per frame",
    "peak_memory": "peak memory",
}
"""Names of the measured metrics in the table, in its order."""


@main.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@database_option
@measuring_options(PLAN, tier="screen", hot=True)
@json_option("measure")
def measure(
    *, targets: Sequence[str], database: str, conditions: Conditions, as_json: bool
) -> None:
    """Measure latency, energy and memory of networks.

    Each figure has a 95 % interval and a status, and is kept in the record. TARGET is a published
    VoVNet (vovnet39), an architecture.json, STUDY:TRIAL, a folder of nas export, a .onnx file,
    timm:NAME, torchvision:NAME, or module:callable (which runs that module's code). With a .onnx
    file the default runtime is onnxruntime.
    """
    from nas.measuring.targets import default_runtime, load_target

    plan = conditions.plan(replace(PLAN, runtime=default_runtime(targets)))
    find_trial = trial_finder(database, classifiers=True)
    loaded = [load_target(text, plan, find_trial) for text in targets]
    measure_targets(loaded, plan, conditions, database, as_json=as_json)


def measure_targets(
    targets: Sequence["Target"],
    plan: MeasurementPlan,
    conditions: Conditions,
    database: str,
    *,
    as_json: bool,
    digest: str | None = None,
    macs: int | None = None,
) -> None:
    """Measure targets as the tier says, record their figures and print them.

    The digest and the MACs are those of each target unless they are given. Raises `NasError` with a
    line for each latency that has no value.
    """
    from nas.measuring.session import certify_targets, measure_all, measure_hot

    rows, failures = [], []
    with find_meter(conditions.device) as meter, open_or_create_record(database) as store:
        if not as_json:
            click.echo(f"{meter.device.name}: {conditions.describe(plan)}")
        measured: Iterable[Sequence[Measurement]]
        if conditions.tier == "certify":
            certified = certify_targets(targets, plan, meter, energy=True)
            measured = [certified[target.name] for target in targets]
        else:
            measured = (measure_hot if conditions.tier == "hot" else measure_all)(
                targets, plan, meter
            )
        for target, figures in zip(targets, measured, strict=True):
            own = target.architecture.digest if target.architecture else None
            store.add_single(target.name, figures, digest=digest or own)
            counted = target.macs(plan.image_size) if macs is None else macs
            for figure in figures:
                rows.append({"target": target.name, "macs": counted, **asdict(figure)})
                if figure.metric in ("latency", "hot_latency") and figure.value is None:
                    failures.append(
                        f"{target.name}: no {figure.metric}, {figure.status}: {figure.reason}"
                    )
            if not as_json:
                echo_wide(figures_table(target.name, figures, counted, plan.batch_size))
    if as_json:
        echo_json("measure", {"figures": rows})
    if failures:
        raise NasError("\n".join(failures))


def figures_table(name: str, figures: Sequence[Measurement], macs: int | None, batch: int) -> Table:
    """Return the measured figures of one target, and those that follow from them."""
    by_metric = {figure.metric: figure for figure in figures}
    table = Table("figure", "value  [95 % interval]", "status", title=name)
    for metric, label in LABELS.items():
        if metric in by_metric:
            table.add_row(label.format(batch=batch), *_cells(by_metric[metric]))
    if "hot_latency" in by_metric:
        table.add_row("load until settled", *_heating(by_metric["hot_latency"]))
    latency = by_metric["latency"]
    if latency.details.get("ratio") is not None:
        table.add_row(*_ratio(latency))
    if "single_call" in by_metric:
        single = by_metric["single_call"]
        table.add_row("single calls, batch 1", _percentiles(single), _cells(single)[1])
    if latency.value is None:
        return table
    table.add_row("throughput", f"{batch / latency.value:.4g} frames/s", "derived")
    if macs is not None:
        rate = format_quantity(macs * batch / latency.value, "1")
        table.add_row("MACs", f"{format_quantity(macs, '1')} per frame, {rate}/s", "counted")
    energy_j = by_metric["energy"].value if "energy" in by_metric else None
    if energy_j is not None:
        power = format_quantity(energy_j * batch / latency.value, "W")
        table.add_row("mean power", power, "derived")
    return table


def _ratio(latency: Measurement) -> tuple[str, str, str]:
    """Return the row of a latency's ratio to the reference network."""
    details = latency.details
    interval = ""
    if "ratio_low" in details:
        interval = f"  [{details['ratio_low']:.4g} to {details['ratio_high']:.4g}]"
    value = f"{details['ratio']:.4g}{interval}"
    return f"ratio to {details['reference']}", value, f"{len(details['ratios'])} cycles"


def _heating(hot: Measurement) -> tuple[str, str]:
    """Return for how long a device was loaded, how warm it became, and how much slower."""
    load, first_s = hot.details["load"], hot.details["first"]["value"]
    warmth = [each for each in load["temperatures_c"] if each is not None]
    shown = [format_duration(load["seconds"])]
    if warmth:
        shown.append(f"{warmth[0]} to {warmth[-1]} °C")
    if hot.value is not None and first_s is not None:
        shown.append(f"{hot.value / first_s:.3g} times the first latency")
    return ", ".join(shown), "derived"


def _percentiles(single: Measurement) -> str:
    """Return the percentiles of single calls, and the reason if there is no p99."""
    percentiles = single.details["percentiles"]
    shown = [f"{name} {format_quantity(value, 's')}" for name, value in percentiles.items()]
    if percentiles and "p99" not in percentiles:
        shown.append(f"p99 needs 1000 calls, there are {len(single.samples)}")
    return ", ".join(shown) or "-"


def _cells(figure: Measurement) -> tuple[str, str]:
    """Return a figure's value and its status with the reason."""
    status = f"{figure.status}: {figure.reason}" if figure.reason else str(figure.status)
    return "-" if figure.value is None else with_interval(figure), status
