"""`nas search`: a study is searched, or resumed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli import main
from nas.cli.files import check_outputs
from nas.cli.group import INTERRUPTED
from nas.cli.options import (
    FILE,
    FOLDER,
    command_to_paste,
    database_option,
    open_record,
    workers_options,
)
from nas.cli.study_page import PAGE, write_page
from nas.core.errors import InvalidValueError, NasError
from nas.core.foreign import kind_problem

if TYPE_CHECKING:
    from nas.record import Store


@main.command()
@click.argument("study_file", type=FILE)
@database_option
@workers_options
@click.option(
    "--artifacts",
    type=FOLDER,
    help="Folder of the checkpoints. [default: the study's; for a new study NAME-artifacts beside "
    "the database NAME.db; env: NAS_ARTIFACTS]",
)
@click.option(
    "--first",
    multiple=True,
    metavar="NETWORK",
    help="Try this network first, with those under first in the study file: a published VoVNet, an "
    "architecture.json, STUDY:TRIAL, or params as JSON. May be repeated.",
)
@click.option(
    "--report",
    "page",
    type=FILE,
    help="At the end, write the study's page to this file, as nas report does.",
)
@click.option(
    "--events",
    "events_to",
    metavar="FILE",
    help="Write an event for every trial that was recorded to this file or named pipe, as JSON "
    "lines by the schema event; an event file that is there is continued, and - is standard "
    "output. See docs/output.md.",
)
def search(
    *,
    study_file: Path,
    database: str,
    workers: str | None,
    address: str | None,
    artifacts: Path | None,
    first: tuple[str, ...],
    page: Path | None,
    events_to: str | None,
) -> None:
    """Run a study: sample, measure and briefly train networks.

    Press Ctrl-C at any time: all that is finished is kept, and the same command continues. The exit
    code is 2 if no network within the limits was found. A study file that names module:attribute
    runs that module's code.
    """
    from nas.cli.events import EVENT_FILE, STDOUT, EventLog, event_file
    from nas.cli.progress import SearchDisplay
    from nas.searching.run import run_study

    check_outputs([(page, PAGE), (event_file(events_to), EVENT_FILE)])
    events = None if events_to is None else EventLog(events_to)
    display = SearchDisplay(
        database,
        show_artifacts=artifacts is not None,
        events=events,
        stderr=events_to == STDOUT,
    )
    try:
        done = run_study(
            study_file,
            database,
            observer=display,
            kind=workers,
            address=address,
            artifacts=artifacts,
            first=[_network(text) for text in first],
        )
    except KeyboardInterrupt:
        given = {
            "--workers": workers,
            "--address": address,
            "--artifacts": artifacts,
            "--events": events_to,
            "--report": page,
        }
        options = [word for name, value in given.items() if value for word in (name, value)]
        options += [word for text in first for word in ("--first", text)]
        display.interrupted(command_to_paste("search", study_file, *options, database=database))
        raise click.exceptions.Exit(INTERRUPTED) from None
    except NasError as error:
        display.failed(str(error))
        raise
    finally:
        if events is not None:
            events.close()
    with open_record(database) as store:
        display.finished(store)
        if page is not None:
            write_page(store, done.study, database, page, note=events_to == STDOUT)
        failure = done.failure or _nothing_found(store, done.study)
    if failure is not None:
        raise failure


def _network(text: str) -> str | dict[str, Any]:
    """Return the name of a start network, or its params. Raises `InvalidValueError`."""
    if not text.startswith("{"):
        if problem := kind_problem(text, foreign=False):
            raise InvalidValueError(f"--first: {problem}")
        return text
    try:
        params: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InvalidValueError(f"--first: {text} is no JSON: {error}") from error
    return params


def _nothing_found(store: "Store", study: str) -> NasError | None:
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
