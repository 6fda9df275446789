"""`nas search`: a study is searched, or resumed."""

from dataclasses import replace
from pathlib import Path

import click

from nas.cli import main
from nas.cli.files import check_outputs, check_writable
from nas.cli.group import INTERRUPTED
from nas.cli.options import (
    command_to_paste,
    database_option,
    default_artifacts,
    recorded_artifacts,
    workers_options,
)
from nas.cli.profile import show_profile
from nas.cli.progress import SearchDisplay
from nas.cli.study_page import PAGE, write_page
from nas.cli.training_progress import ReplicateDisplay
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
@workers_options
@click.option(
    "--artifacts",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the checkpoints. [default: the study's; for a new study NAME-artifacts beside "
    "the database NAME.db; env: NAS_ARTIFACTS]",
)
@click.option(
    "--report",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="At the end, write the study's page to this file, as nas report does.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only show the costs on this machine of 64 random networks of the space and of the "
    "published ones in it, and how many are within the limits. Writes nothing.",
)
def search(
    *,
    study_file: Path,
    database: str,
    workers: str | None,
    address: str | None,
    artifacts: Path | None,
    page: Path | None,
    dry_run: bool,
) -> None:
    """Run a study: sample, measure and briefly train networks.

    Press Ctrl-C at any time: all that is finished is kept, and the same command continues. The exit
    code is 2 if no network within the limits was found. A study file that names module:attribute
    runs that module's code.
    """
    spec = read_study(study_file)
    check_outputs([(page, PAGE)])
    if dry_run:
        show_profile(spec, study_file.parent)
        return
    if workers is not None:
        spec = replace(spec, workers=spec.workers.of_kind(workers))
    pool = plugins.load("nas.workers", spec.workers.kind)(address)
    display = SearchDisplay(database)
    display.preparing(spec)
    fetch = display.fetch if address is None else lambda _: None
    prepared = None
    if Address.parse(database).is_new:  # a study that cannot run leaves no empty record
        prepared = prepare(
            spec,
            workers=pool,
            folder=study_file.parent,
            fetch=fetch,
            artifacts=_artifacts_of_new(artifacts or default_artifacts(database), spec),
        )
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
        ) as running,
    ):
        if artifacts is not None:
            click.echo(f"checkpoints are read from and written to {running.context.artifacts}")
        try:
            with display.live(running):
                reason = running.run()
            failure = _certify(running, display)
        except KeyboardInterrupt:
            given = {"--workers": workers, "--address": address, "--artifacts": artifacts}
            options = [word for name, value in given.items() if value for word in (name, value)]
            command = command_to_paste("search", study_file, *options, database=database)
            display.interrupted(command)
            raise click.exceptions.Exit(INTERRUPTED) from None
        display.ended(reason)
    if spec.fresh and failure is None:
        _replicate(study_file, database, address)
    with Store.open(database, read_only=True) as store:
        display.finished(store)
        if page is not None:
            write_page(store, spec.name, database, page)
        failure = failure or _nothing_found(store, spec.name)
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


def _replicate(study_file: Path, database: str, address: str | None) -> None:
    """Spend the share of the budget that is reserved for training front members with new seeds."""
    with Store.open(database) as store:
        spec = store.study(read_study(study_file).name).spec
        todo = final_replicates(spec, store.trials(spec.name))
        if not todo:
            return
        display = ReplicateDisplay(len(todo), 0)
        with open_replicates(
            store,
            spec.name,
            todo,
            workers=plugins.load("nas.workers", spec.workers.kind)(address),
            folder=study_file.parent,
            listener=display.update,
        ) as trainings:
            display.run(trainings)


def _certify(running: Search, display: SearchDisplay) -> NasError | None:
    """Certify the front if the study asks for it.

    Returns the error if that fails, since the front is to be shown before it is reported.
    """
    members = uncertified(running.engine)
    try:
        if members:
            display.certifying(members)
            running.certify(members)
    except NasError as error:
        return error
    return None


def _nothing_found(store: Store, study: str) -> NasError | None:
    """Return why a finished search found no network within the limits; None if it found one."""
    front = store.newest_front(study)
    if front is not None and front.members:
        if front.feasible:
            return None
        return NasError(f"no network of {study} is within every limit; the table has the nearest")
    summary = store.summary(study)
    states = [f"{count} {state}" for state, count in summary.counts.items() if count]
    reason = ""
    if summary.failed:
        number, why = summary.failed[-1]
        reason = f"; trial {number} failed: {why}"
    return NasError(f"no trial of {study} was completed ({', '.join(states) or 'none'}){reason}")
