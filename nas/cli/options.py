"""Options and arguments that several commands share, and the way from them to the record."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nas.core.errors import InvalidValueError, NasError
from nas.core.measurement import MAX_IMAGE_SIZE, Precision
from nas.core.trial import Trial
from nas.measuring.meters.host import affinity
from nas.record import Store, StudyRecord

DATABASE = "nas.db"
PRECISIONS = click.Choice([each.value for each in Precision])
"""Given the enumeration itself, click would ask for the names of its members."""
SIZE = click.IntRange(1, MAX_IMAGE_SIZE)


class Threads(click.IntRange):
    """At least 1 and no more than cores, whose number is not in the help, which is the same on
    every machine.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        threads, cores = super().convert(value, param, ctx), len(affinity())
        if threads > cores:
            self.fail(f"there are {cores} cores, so at most {cores}, not {threads}", param, ctx)
        return threads


THREADS = Threads(min=1)


def database_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--database URL`."""
    return click.option(
        "--database",
        metavar="URL",
        envvar="NAS_DATABASE",
        default=DATABASE,
        show_default=True,
        help="The record: a SQLite file, or postgresql://… [env: NAS_DATABASE]",
    )(command)


def open_record(database: str) -> Store:
    """The record, read-only."""
    return Store.open(database, read_only=True)


def recorded_artifacts(store: Store, study: str) -> Path | None:
    """Return the folder of a study's checkpoints; None for a study that is not recorded yet."""
    for record in store.studies():
        if record.name == study:
            return Path(record.artifacts)
    return None


def default_artifacts(database: str) -> Path:
    """Return the folder for the checkpoints of new studies.

    It is $NAS_ARTIFACTS, or `NAME-artifacts` beside an SQLite file NAME.db, so that records in one
    folder do not share it, or `nas-artifacts` in the current folder for a server.
    """
    folder = os.environ.get("NAS_ARTIFACTS")
    if folder:
        return Path(folder)
    path = database.removeprefix("sqlite:///")
    if "://" in path:
        return Path("nas-artifacts")
    return Path(path).with_name(f"{Path(path).stem}-artifacts")


def pick_study(store: Store, name: str | None) -> StudyRecord:
    """The study of this name, or the only one there is."""
    if name is not None:
        return store.study(name)
    studies = store.studies()
    if len(studies) == 1:
        return studies[0]
    if not studies:
        raise NasError(
            "there is no study in this database yet; start one with: nas search STUDY.yaml"
        )
    raise NasError(
        f"there are several studies, name one of: {', '.join(record.name for record in studies)}"
    )


def pick_trial(store: Store, text: str) -> tuple[StudyRecord, Trial]:
    """The trial that `STUDY:NUMBER`, or `NUMBER` where there is one study, names."""
    study, _, number = text.rpartition(":")
    if not number.isdecimal():
        message = (
            f"{text!r} is no trial; name one as STUDY:NUMBER, or as NUMBER where there is one study"
        )
        raise InvalidValueError(message)
    record = pick_study(store, study or None)
    return record, store.trial(record.name, int(number))
