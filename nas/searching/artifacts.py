"""Folders of checkpoints: the place of a study's own, and checks before a search writes there."""

import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from nas.core.errors import NasError, WriteError
from nas.core.study import StudySpec
from nas.record import Address

if TYPE_CHECKING:
    from nas.record import Store


def artifacts_folder(
    store: "Store | None", spec: StudySpec, database: str, named: Path | None = None
) -> Path:
    """Return the folder for checkpoints: the named one, the recorded one, or the default.

    `store` is None if there is no record yet. Raises `WriteError` if the study trains and its
    checkpoints cannot be written there. Raises `NasError` if the folder of a new study holds
    checkpoints of another record's study of this name, which a search would replace.
    """
    record = store and store.find_study(spec.name)
    folder = named or (Path(record.artifacts) if record else default_artifacts(database))
    if not spec.needs_training:
        return folder
    check_writable(folder / spec.name / "checkpoints")
    if record is None and any((folder / spec.name).rglob("*.safetensors*")):
        raise NasError(
            f"{folder / spec.name} holds checkpoints of a study {spec.name!r} that is not in this "
            "record; name another folder with --artifacts, or remove them if no record needs them"
        )
    return folder


def default_artifacts(database: str) -> Path:
    """Return the folder for the checkpoints of new studies.

    It is $NAS_ARTIFACTS, or `NAME-artifacts` beside an SQLite file NAME.db, so that records in one
    folder do not share it, or `nas-artifacts` in the current folder for a server.
    """
    folder = os.environ.get("NAS_ARTIFACTS")
    if folder:
        return Path(folder)
    path = Address.parse(database).path
    return path.with_name(f"{path.stem}-artifacts") if path else Path("nas-artifacts")


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written; nothing is left behind. Raises `WriteError`."""
    try:
        folder = next(each for each in path.absolute().parents if each.exists())
        with path.open("ab") if path.exists() else TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WriteError(path, error) from error
