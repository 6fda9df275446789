"""Rename and delete studies, with their checkpoints and while no search drives them."""

import os
import shutil
from pathlib import Path

from nas.core.errors import InvalidValueError, NasError, WriteError
from nas.record import Store
from nas.searching.study_name import require_usable_name


def rename(store: Store, study: str, name: str) -> None:
    """Give a study another name. Measured targets follow, and checkpoints in its `own_folder`.

    The checkpoints are linked under the new name before the record changes and removed under the
    old one after it, so that a killed call loses nothing and can be repeated. Raises
    `StudyConflictError` if a process drives the study or there is one of the new name,
    `InvalidValueError` for a name that no study may have, and `NasError` if the new folder holds
    other checkpoints.
    """
    require_usable_name(name)
    old, new = own_folder(store, study), Path(store.study(study).artifacts) / name
    if study == name:
        raise InvalidValueError(f"the study is called {name!r} already")
    with store.claim(study), store.claim(name):
        store.require_new(name)
        _link_files(old, new)
        store.rename_study(study, name)
        _remove(old)


def delete(store: Store, study: str) -> bool:
    """Delete a study and its `own_folder`. Return whether the file of the record became smaller,
    which it does unless other processes use it.

    Raises `StudyConflictError` if a process drives the study.
    """
    folder = own_folder(store, study)
    with store.claim(study):
        store.delete_study(study)
        _remove(folder)
    is_driven = any(store.driver(record.name) for record in store.studies())
    return not is_driven and store.give_space_back()


def size_bytes(store: Store, study: str) -> int:
    """Return the size of the files in a study's own folder."""
    return sum(path.stat().st_size for path in _files(own_folder(store, study)))


def checkpoints(store: Store, study: str) -> Path:
    """Return the folder of a study's checkpoints."""
    return Path(store.study(study).artifacts) / study


def own_folder(store: Store, study: str) -> Path | None:
    """Return the folder of a study's checkpoints, None if it is no folder inside that of all.

    Files of others may then be there too, as for the study `..`.
    """
    folder = checkpoints(store, study)
    found, root = folder.resolve(), Path(store.study(study).artifacts).resolve()
    return folder if found.parent == root != found else None


def _files(folder: Path | None) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder else []


def _link_files(source: Path | None, target: Path) -> None:
    """Link every file of a folder into another one, or copy it where files cannot be linked."""
    copies = {path: target / path.relative_to(source) for path in _files(source) if source}
    known = {copy for path, copy in copies.items() if copy.exists() and copy.samefile(path)}
    others = set(_files(target)) - known
    if others:
        raise NasError(
            f"{target} holds other files, such as {min(others).name}; choose another name, or "
            "remove them"
        )
    for path, copy in copies.items():
        if copy not in known:
            link_file(path, copy)


def link_file(path: Path, copy: Path) -> None:
    """Link a file to a new path, or copy it where files cannot be linked."""
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:  # a file system without links
            shutil.copy2(path, copy)
    except OSError as error:
        raise WriteError(copy, error) from error


def _remove(folder: Path | None) -> None:
    try:
        if folder is not None and folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise WriteError(folder, error) from error
