"""Parts found by name. The ones of this repository are registered like a stranger's, as entry points of the groups
`nas.spaces`, `nas.samplers`, `nas.scores`, `nas.metrics`, `nas.meters`, `nas.datasets` and `nas.workers`;
`module:attribute` names anything importable, which runs that module's code."""

import importlib
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from nas.errors import UnknownNameError

GROUPS = ("nas.spaces", "nas.samplers", "nas.scores", "nas.metrics", "nas.meters", "nas.datasets", "nas.workers")


def names(group: str) -> list[str]:
    """The registered names, sorted."""
    return sorted({entry.name for entry in entry_points(group=group)})


def look_in(folder: str | Path) -> None:
    """Put this folder on the import path, so that a study can carry its own code."""
    place = str(Path(folder).resolve())
    if place not in sys.path:
        sys.path.insert(0, place)


def load(group: str, name: str) -> Any:
    """The object registered under `name`, or the attribute that `module:attribute` names.

    Raises `UnknownNameError`, which says what there is.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a stranger's module may raise anything while it is imported
            raise UnknownNameError(f"{group} ({type(error).__name__}: {error})", name, names(group)) from error
    found = entry_points(group=group, name=name)
    if not found:
        raise UnknownNameError(group, name, names(group))
    return next(iter(found)).load()


def code_outside(names: Iterable[str], folder: Path) -> list[Path]:
    """The files of the modules that `module:attribute` names, as far as they lie outside the folder."""
    modules = [importlib.import_module(name.partition(":")[0]) for name in names if ":" in name]
    files = dict.fromkeys(Path(module.__file__).resolve() for module in modules if module.__file__)
    return [file for file in files if not file.is_relative_to(folder.resolve())]
