"""Parts found by name. The ones of this repository are registered like a stranger's, as entry
points of the groups `nas.spaces`, `nas.samplers`, `nas.metrics`, `nas.meters`, `nas.datasets`
and `nas.workers`; `module:attribute` names anything importable, which runs that
module's code.
"""

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from nas.core.errors import InvalidValueError, UnknownNameError

REQUIRED_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "nas.spaces": ("choices", "decode", "encode"),
    "nas.metrics": ("name", "unit", "kind", "phase", "measure"),
    "nas.datasets": ("prepare", "load"),
}
"""What the objects of a group have."""
CALL_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "nas.samplers": ("seed",),
    "nas.meters": (),
    "nas.workers": ("address",),
}
"""What those of the other groups are called with."""
GROUPS = (*REQUIRED_ATTRIBUTES, *CALL_PARAMETERS)


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

    Raises `UnknownNameError`, which says what there is, and `InvalidValueError` for an object of
    another kind.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a stranger's module may raise anything while it is imported
            raise UnknownNameError(
                f"{group} ({type(error).__name__}: {error})", name, names(group)
            ) from error
    else:
        entries = entry_points(group=group, name=name)
        if not entries:
            raise UnknownNameError(group, name, names(group))
        found = next(iter(entries)).load()
    _require(group, name, found)
    return found


def _require(group: str, name: str, found: object) -> None:
    missing = [each for each in REQUIRED_ATTRIBUTES.get(group, ()) if not hasattr(found, each)]
    if missing:
        raise InvalidValueError(
            f"{name!r} is of type {type(found).__name__} and none of {group}: it has no "
            f"{', '.join(missing)}"
        )
    if group not in CALL_PARAMETERS:
        return
    wanted = f"none of {group}, which are called with ({', '.join(CALL_PARAMETERS[group])})"
    if not callable(found):
        raise InvalidValueError(f"{name!r} is of type {type(found).__name__} and {wanted}")
    try:
        signature = inspect.signature(found)
    except ValueError:  # of what is written in C nobody knows
        return
    try:
        signature.bind(*CALL_PARAMETERS[group])
    except TypeError as error:
        raise InvalidValueError(f"{name!r} is {wanted}: {error}") from error


def code_outside(names: Iterable[str], folder: Path) -> list[Path]:
    """The files of the modules that `module:attribute` names, as far as they lie outside the
    folder.
    """
    modules = [importlib.import_module(name.partition(":")[0]) for name in names if ":" in name]
    files = dict.fromkeys(Path(module.__file__).resolve() for module in modules if module.__file__)
    return [file for file in files if not file.is_relative_to(folder.resolve())]
