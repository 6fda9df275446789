"""`nas export`: networks of a study as folders of files."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.analysis.finals import FinalResult, latest_results
from nas.cli import main
from nas.cli.options import (
    database_option,
    front_numbers,
    open_record,
    pick_study,
    trial_option,
)
from nas.core.errors import ExportError, InvalidValueError
from nas.core.measurement import metric_and_device
from nas.core.moved import import_attribute
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.core.units import format_trained, with_interval
from nas.record import StudyRecord
from nas.report.drawing import draw

if TYPE_CHECKING:
    from nas.export import Manifest


@main.command()
@click.argument("study", required=False)
@database_option
@trial_option("Export this trial.")
@click.option("--front", is_flag=True, help="Export every member of the front.")
@click.option("--knee", is_flag=True, help="Export the front's best compromise.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="A new folder for one network; for several, each is in DIR/trial-N. One that is there "
    "already with the same weights is kept.",
)
@click.option(
    "--license",
    "weights_license",
    metavar="ID",
    help="The licence of the weights, such as cc-by-4.0, for the model card. [default: none]",
)
@click.option("--no-latency", is_flag=True, help="Do not measure the latency of the written files.")
def export(
    *,
    study: str | None,
    database: str,
    numbers: tuple[int, ...],
    front: bool,
    knee: bool,
    output: Path,
    weights_license: str | None,
    no_latency: bool,
) -> None:
    """Write networks of a study as checked files.

    The files are for timm, PyTorch, ONNX (fp32, fp16) and torch.export, with a model card.
    """
    with open_record(database) as store:
        record = pick_study(store, study)
        if bool(numbers) + front + knee != 1:
            raise InvalidValueError("say what to export by one of --trial N, --front and --knee")
        selected = list(dict.fromkeys(numbers))
        if not numbers:
            selected = front_numbers(store, record, front=front, knee=knee)
        trials = [store.trial(record.name, number) for number in selected]
        finals = latest_results(store.finals(record.name), trials)
    several = front or len(trials) > 1
    places = {
        trial.number: output / f"trial-{trial.number}" if several else output for trial in trials
    }
    kept = {
        trial.number
        for trial in trials
        if several and _is_kept(record, trial, finals.get(trial.number), places[trial.number])
    }
    if weights_license is not None:
        for number in kept:
            _check_license(places[number], weights_license)
    for trial in trials:
        if trial.number in kept:
            click.echo(f"{places[trial.number]} is there already, and stays as it is")
            continue
        _export(
            record,
            trial,
            places[trial.number],
            finals.get(trial.number),
            measure=not no_latency,
            weights_license=weights_license,
        )


def _is_kept(record: StudyRecord, trial: Trial, final: FinalResult | None, folder: Path) -> bool:
    """Return whether the trial was exported to this folder before.

    Raises `ExportError` if the folder holds another trial, other weights or other files.
    """
    from nas.searching.launch import recorded_evaluators

    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    plugin = recorded_evaluators(record)
    holds = "nas.export:holds_trial" if plugin.export is None else plugin.holds
    if holds is None or not import_attribute(holds)(record, trial, final, folder):
        training = "search" if final is None else "final training"
        raise ExportError(
            f"{folder} holds something else than trial {trial.number} of {record.name} with the "
            f"weights of its {training}; name a new folder with -o"
        )
    return True


def _check_license(folder: Path, weights_license: str) -> None:
    """Raise `ExportError` if the card of a bundle states another licence, or none."""
    card = folder / "README.md"
    if card.is_file() and f"\nlicense: {weights_license}\n" not in card.read_text(encoding="utf-8"):
        raise ExportError(
            f"{card} does not state the licence {weights_license}; name a new folder with -o"
        )


def _export(
    record: StudyRecord,
    trial: Trial,
    destination: Path,
    final: FinalResult | None,
    *,
    measure: bool,
    weights_license: str | None,
) -> None:
    from nas.export import export_trial
    from nas.searching.launch import recorded_evaluators

    own = recorded_evaluators(record).export
    if own is not None:
        if weights_license is not None:
            raise InvalidValueError("--license is for model cards, which this study's files lack")
        checks = import_attribute(own)(record, trial, final, destination)
        click.echo(f"{destination}: trial {trial.number}, {len(checks)} checks passed")
        for line in (_weights(record.spec, final), *checks):
            click.echo(f"  {line}")
        return
    manifest = export_trial(
        record,
        trial,
        final,
        destination=destination,
        draw=draw,
        measure=measure,
        weights_license=weights_license,
    )
    click.echo(
        f"{destination}: trial {trial.number}, {len(manifest.files)} files, "
        f"{len(manifest.checks)} checks passed, timm: {manifest.timm['timm']}"
    )
    click.echo(f"  {_weights(record.spec, final)}")
    for line in _details(trial, manifest):
        click.echo(f"  {line}")


def _weights(spec: StudySpec, final: FinalResult | None) -> str:
    """Return which training the exported weights come from."""
    if final is None:
        return "weights of the search's brief training; nas train gives better ones"
    first = final.first
    figures = [
        f"{metric.name} {format_trained(metric, first.reached.metrics.get(metric.name))} "
        f"({final.text(metric)})"
        for metric in spec.quality_metrics
    ]
    return (
        f"weights of the final training with seed {first.seed}, on {first.test_images:,} test "
        f"images: {', '.join(figures)}"
    )


def _details(trial: Trial, manifest: "Manifest") -> Iterator[str]:
    """Return lines on the files, their deviations and their latency."""
    for name, file in manifest.files.items():
        yield f"{name:24} {file['size_bytes']:>12,} bytes"
    for check in manifest.checks.values():
        if check.allowed:
            yield f"{check.name}: {check.found:.3g}, at most {check.allowed:.3g} allowed"
    for name, searched in trial.evaluation.measurements.items():
        if metric_and_device(name)[0] == "latency":
            yield f"{name} in the search: {with_interval(searched)}"
    for figure in manifest.figures:
        value = "none" if figure["value"] is None else f"{1e3 * figure['value']:.4g} ms"
        yield f"latency of the files in {figure['plan']['runtime']}: {value}, {figure['status']}"
    for warning in manifest.warnings:
        yield f"WARNING: {warning}"
