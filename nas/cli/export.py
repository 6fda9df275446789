"""`nas export`: a trial as files."""

from pathlib import Path

import click

from nas.cli import main
from nas.cli.options import database_option, open_record, pick_study
from nas.evaluation import Preparation


@main.command()
@click.argument("study", required=False)
@database_option
@click.option("--trial", "number", type=int, required=True, help="The trial to export.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder.")
def export(study: str | None, database: str, number: int, output: Path) -> None:
    """Write one network of STUDY as a checked bundle: architecture, weights, stand-alone module, ONNX."""
    from nas.export import export_trial  # noqa: PLC0415 - torch and ONNX take seconds to import

    with open_record(database) as store:
        record = pick_study(store, study)
        trial = store.trial(record.name, number)
    prepared = Preparation.from_dict(record.numerics)
    manifest = export_trial(trial, study=record.name, dataset=record.dataset, classes=prepared.classes,
                            mean=prepared.mean, std=prepared.std, image_size=prepared.image_size,
                            artifacts=Path(record.artifacts), destination=output)
    click.echo(f"{output}: {len(manifest.files)} files, checked")
    for file in manifest.files:
        click.echo(f"  {file.name:24} {file.size_bytes:>12,} bytes")
    for check in manifest.checks.values():
        click.echo(f"  {check.name}: {check.found:.3g}, at most {check.allowed:.3g} allowed")
