"""`nas search`: run a study, or go on with it."""

from dataclasses import replace
from pathlib import Path

import click

from nas.cli import main
from nas.cli.files import check_writable
from nas.cli.options import database_option, default_artifacts, recorded_artifacts
from nas.cli.profile import show_profile
from nas.cli.progress import SearchDisplay
from nas.cli.replicate import Display
from nas.core import plugins
from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.record import Address, Store
from nas.searching.closing import uncertified
from nas.searching.launch import Search, open_search, prepare
from nas.searching.replicates import final_replicates, open_replicates
from nas.searching.study_file import read_study


@main.command()
@click.argument("study_file", type=click.Path(dir_okay=False, path_type=Path))
@database_option
@click.option(
    "--workers",
    metavar="KIND",
    help="Who works, instead of the study file's workers.kind: local or tune.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="The Ray cluster to work on (tune only), as ray.init takes it.",
)
@click.option(
    "--artifacts",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where checkpoints go. [default: where the study's are; for a new study NAME-artifacts beside "
    "the database NAME.db; env: NAS_ARTIFACTS]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only show what 64 random networks of the space, and the published ones it holds, cost on this "
    "machine, and how many are within the limits. Writes nothing.",
)
def search(
    *,
    study_file: Path,
    database: str,
    workers: str | None,
    address: str | None,
    artifacts: Path | None,
    dry_run: bool,
) -> None:
    """Search as STUDY_FILE asks: sample OSA networks, measure them, train them briefly.

    Press Ctrl-C at any time: everything finished is kept, and the same command goes on. A study
    file that names module:attribute runs that module's code.
    """
    spec = read_study(study_file)
    if dry_run:
        show_profile(spec, study_file.parent)
        return
    if workers is not None:
        spec = replace(spec, workers=spec.workers.of_kind(workers))
    pool = plugins.load("nas.workers", spec.workers.kind)(address)
    display = SearchDisplay(database)
    display.preparing(spec)
    fetch = display.fetch if address is None else lambda _: None
    prepared = (
        prepare(
            spec,
            workers=pool,
            folder=study_file.parent,
            fetch=fetch,
            artifacts=_artifacts_of_new(artifacts or default_artifacts(database), spec),
        )
        if Address.parse(database).is_new
        else None
    )  # so that a study that cannot run leaves no empty record
    with (
        Store.open(database) as store,
        open_search(
            spec,
            store=store,
            workers=pool,
            folder=study_file.parent,
            listener=display.update,
            fetch=fetch,
            artifacts=_artifacts(store, spec, artifacts, database),
            prepared=prepared,
        ) as found,
    ):
        if artifacts is not None:
            click.echo(f"checkpoints go to {found.context.artifacts}, and are looked for there")
        try:
            with display.live(found):
                reason = found.run()
            failure = _certify(found, display)
        except KeyboardInterrupt:
            display.interrupted(study_file)
            raise click.exceptions.Exit(130) from None
        display.ended(reason)
    if spec.fresh and failure is None:
        _fresh_seeds(study_file, database, address)
    with Store.open(database, read_only=True) as store:
        display.finished(store)
    if failure is not None:
        raise failure


def _artifacts(store: Store, spec: StudySpec, named: Path | None, database: str) -> Path:
    """Return the folder for checkpoints: the named one, the recorded one, or the default.

    Raises `WriteError` if the study trains and its checkpoints cannot be written there.
    """
    recorded = recorded_artifacts(store, spec.name)
    if recorded is None:
        return _artifacts_of_new(named or default_artifacts(database), spec)
    if spec.needs_training:
        check_writable((named or recorded) / spec.name / "checkpoints")
    return named or recorded


def _artifacts_of_new(artifacts: Path, spec: StudySpec) -> Path:
    """Return the folder of checkpoints for a study that is not recorded yet.

    Raises `NasError` if it holds checkpoints of another record's study of this name, which this
    search would replace; `WriteError` if checkpoints cannot be written there.
    """
    if not spec.needs_training:
        return artifacts
    folder = artifacts / spec.name
    check_writable(folder / "checkpoints")
    if any(folder.rglob("*.safetensors*")):
        raise NasError(
            f"{folder} holds checkpoints of a study {spec.name!r} that is not in this record; name "
            "another folder with --artifacts, or remove them if no record needs them"
        )
    return artifacts


def _fresh_seeds(study_file: Path, database: str, address: str | None) -> None:
    """Spend the share of the budget that was kept for training the front's members again."""
    with Store.open(database) as store:
        spec = store.study(read_study(study_file).name).spec
        todo = final_replicates(spec, store.trials(spec.name))
        if todo:
            display, pool = (
                Display(len(todo), 0),
                plugins.load("nas.workers", spec.workers.kind)(address),
            )
            with open_replicates(
                store,
                spec.name,
                todo,
                workers=pool,
                folder=study_file.parent,
                listener=display.update,
            ) as found:
                display.run(found)


def _certify(found: Search, display: SearchDisplay) -> NasError | None:
    """Certify the front where the study asks for it; why it failed, to be told after the front has
    been shown.
    """
    members = uncertified(found.engine)
    try:
        if members:
            display.certifying(members)
            found.certify(members)
    except NasError as error:
        return error
    return None
