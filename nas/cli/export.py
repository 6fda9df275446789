"""`nas export`: trials as files; `nas verify`: such files checked again, here and now."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from nas.analysis.finals import latest_results
from nas.analysis.posterior import front_now
from nas.cli import main
from nas.cli.options import database_option, open_record, pick_study
from nas.core.errors import InvalidValueError, NasError
from nas.core.pareto import knee as knee_of
from nas.core.recipe import FinalTraining
from nas.core.trial import Trial
from nas.core.units import with_interval
from nas.record import StudyRecord
from nas.report.drawing import draw
from nas.searching.evaluators import Preparation


@main.command()
@click.argument("study", required=False)
@database_option
@click.option("--trial", "number", type=int, help="Export this trial.")
@click.option(
    "--front", is_flag=True, help="Export every member of the front, each to DIR/trial-N."
)
@click.option("--knee", is_flag=True, help="Export the front's best compromise.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="A new folder.",
)
@click.option("--no-latency", is_flag=True, help="Do not measure the latency of the written files.")
@click.option(
    "--license",
    "weights_license",
    metavar="ID",
    help="The licence of the weights, such as cc-by-4.0, for the model card.  [default: none]",
)
def export(  # noqa: PLR0917
    study: str | None,
    database: str,
    number: int | None,
    front: bool,
    knee: bool,
    output: Path,
    no_latency: bool,
    weights_license: str | None,
) -> None:
    """Write networks of STUDY as checked bundles: timm, PyTorch, ONNX (fp32, fp16), torch.export,
    model card.
    """
    with open_record(database) as store:
        record = pick_study(store, study)
        trials = {trial.number: trial for trial in store.trials(record.name)}
        if number is not None:
            trials[number] = store.trial(record.name, number)
        finals = store.finals(record.name)
    chosen = _chosen(record, trials, number, front=front, knee=knee)
    for trial in chosen:
        destination = output / f"trial-{trial.number}" if front else output
        if front and (destination / "manifest.json").exists():
            click.echo(f"{destination} is there already")
            continue
        _export(
            record,
            trial,
            destination,
            finals,
            measure=not no_latency,
            weights_license=weights_license,
        )


@main.command()
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR"
)
@click.option("--no-latency", is_flag=True, help="Do not measure latency.")
@click.option("--strict", is_flag=True, help="Let warnings about latency fail too.")
def verify(folder: Path, no_latency: bool, strict: bool) -> None:
    """Check an exported bundle: loaded in fresh processes every way, counted, measured again.

    The exit code is 1 where a check fails.
    """
    from nas.export import verify_bundle

    found = verify_bundle(folder, measure=not no_latency)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for check in found.checks:
        console.print(f"{'ok  ' if check.passed else 'FAIL'} {check}")
    for figure in found.figures:
        where = f" on {figure.device.name}" if figure.device else ""
        runtime = f" in {figure.plan.runtime}" if figure.plan else ""
        console.print(f"latency{runtime}{where}: {with_interval(figure)}")
    for warning in found.warnings:
        console.print(f"WARNING: {warning}")
    console.print(f"{len(found.checks)} checks, {len(found.failures)} failed")
    if found.failures or (strict and found.warnings):
        raise click.exceptions.Exit(1)


def _chosen(
    record: StudyRecord, trials: dict[int, Trial], number: int | None, *, front: bool, knee: bool
) -> list[Trial]:
    """The trials that exactly one of the options names."""
    if (number is not None) + front + knee != 1:
        raise InvalidValueError("say what to export by one of --trial N, --front and --knee")
    if number is not None:
        return [trials[number]]
    objectives = record.spec.objectives
    found, means = front_now(trials.values(), objectives)
    if not found.feasible:
        raise NasError(
            f"nothing of {record.name} is within every limit yet; see nas front {record.name}"
        )
    if front:
        return [trials[member] for member in found.members]
    return [trials[knee_of([means[member] for member in found.members], objectives).number]]


def _export(
    record: StudyRecord,
    trial: Trial,
    destination: Path,
    finals: Sequence[FinalTraining],
    *,
    measure: bool,
    weights_license: str | None,
) -> None:
    from nas.export import export_trial

    prepared = Preparation.from_dict(record.numerics)
    result = latest_results(finals, [trial]).get(trial.number)
    final = next((f for f in finals if result and f.reached.checkpoint == result.weights), None)
    manifest = export_trial(
        trial,
        spec=record.spec,
        dataset=record.dataset,
        classes=prepared.classes,
        mean=prepared.mean,
        std=prepared.std,
        image_size=prepared.image_size,
        artifacts=Path(record.artifacts),
        destination=destination,
        measure=measure,
        weights_license=weights_license,
        final=final,
        final_errors=result.errors if result else (),
        drawing=draw(trial.architecture, prepared.image_size, len(prepared.classes)),
    )
    click.echo(
        f"{destination}: trial {trial.number}, {len(manifest.files)} files, {len(manifest.checks)} checks "
        f"passed, timm: {manifest.timm['timm']}"
    )
    click.echo(
        "  weights of the search's brief training; nas train gives better ones"
        if final is None
        else f"  weights of the final training with seed {final.seed}: error {100 * final.reached.error:.2f} % on "
        f"{final.test_images:,} test images ({result})"
    )
    for file in manifest.files:
        click.echo(f"  {file.name:24} {file.size_bytes:>12,} bytes")
    for check in manifest.checks.values():
        if check.allowed:
            click.echo(f"  {check.name}: {check.found:.3g}, at most {check.allowed:.3g} allowed")
    searched = trial.evaluation.measurements.get("latency")
    if searched is not None:
        click.echo(f"  latency in the search: {with_interval(searched)}")
    for figure in manifest.figures:
        value = "none" if figure["value"] is None else f"{1e3 * figure['value']:.4g} ms"
        click.echo(
            f"  latency of the files in {figure['plan']['runtime']}: {value}, {figure['status']}"
        )
    for warning in manifest.warnings:
        click.echo(f"  WARNING: {warning}")
