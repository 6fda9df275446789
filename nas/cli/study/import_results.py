"""`nas study import`: networks with figures of elsewhere come into a study."""

from datetime import UTC, datetime
from pathlib import Path

import click

from nas.cli.options import PRESENT_FILE, change_record, database_option
from nas.cli.study import study as group
from nas.cli.study.export_optuna import optuna_url
from nas.core.errors import DatabaseError


@group.command("import")
@click.argument("study")
@click.argument("file", type=PRESENT_FILE, required=False)
@click.option(
    "--optuna",
    "url",
    metavar="ADDRESS",
    help="Read a database of Optuna in place of a file: its file, or postgresql://…",
)
@click.option(
    "--study", "name", metavar="NAME", help="The study of Optuna. [default: the name STUDY]"
)
@click.option(
    "--same-device",
    is_flag=True,
    help="Say that figures without METRIC_device were measured on the device class and under the "
    "plan of the study.",
)
@click.option(
    "--same-recipe",
    is_flag=True,
    help="Say that figures without recipe come from the training, data set and resolution of the "
    "study.",
)
@database_option
def import_command(
    *,
    study: str,
    file: Path | None,
    url: str | None,
    name: str | None,
    same_device: bool,
    same_recipe: bool,
    database: str,
) -> None:
    """Add networks with figures of elsewhere to a study.

    FILE is CSV with a heading, a JSON array, or JSON lines: what nas front prints with --json or
    --format csv, or your own. An entry has its network as 'architecture' or as a value of each
    choice, and every objective in SI units. Networks that the study has are skipped. The others
    teach the sampler and count in no budget. If an entry is wrong, nothing is written.
    """
    from nas.searching.importing import Confirmed, import_results
    from nas.searching.result_files import Entry, Results, read_results

    if (file is None) == (url is None):
        raise click.UsageError("name either a FILE or --optuna ADDRESS")
    if url is None and name is not None:
        raise click.UsageError("--study names a study of Optuna, so it needs --optuna")
    if file is not None:
        results = read_results(file)
    else:
        from nas.core.passwords import without_password
        from nas.sampling.optuna_study import read_study

        entries = read_study(_present(url or ""), name or study)
        results = Results(
            source=without_password(url or ""),
            entries=[Entry(place=f"trial {number}", values=values) for number, values in entries],
            folder=Path.cwd(),
        )
    confirmed = Confirmed(same_device=same_device, same_recipe=same_recipe)
    with change_record(database) as store:
        imported = import_results(store, study, results, confirmed, datetime.now(UTC))
    click.echo(f"{study}: {imported.trials} networks of {results.source}, which count in no budget")
    if imported.duplicates:
        click.echo(f"skipped, because the study has them: {imported.duplicates}")
    if imported.left_out:
        click.echo(f"not imported, as no objectives: {', '.join(imported.left_out)}")


def _present(target: str) -> str:
    """Return the address of Optuna's database. Raises `DatabaseError` if its file is missing."""
    url = optuna_url(target)
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not (path.is_file() and path.stat().st_size):
        raise DatabaseError(f"there is no database of Optuna at {path}")
    return url
