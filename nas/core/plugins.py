"""Plugins, found by name.

The plugins of this repository are registered in the same way as those of any other package: as
entry points of the groups `nas.spaces`, `nas.samplers`, `nas.metrics`, `nas.meters`,
`nas.runtimes`, `nas.datasets`, `nas.evaluators` and `nas.workers`. A name `module:attribute` stands
for anything importable, and importing it runs the code of that module.
"""

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from nas.core.errors import InvalidValueError, UnknownNameError
from nas.core.moved import current_name, import_attribute

REQUIRED_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "nas.spaces": ("choices", "cardinality", "decode", "encode"),
    "nas.metrics": ("name", "unit", "kind", "phase", "measure"),
    "nas.datasets": ("prepare", "load"),
    "nas.runtimes": ("package", "reads_onnx", "one_copy", "obstacle", "build", "load"),
    "nas.evaluators": (
        *("search", "certify", "replicate", "final", "trained"),
        *("settings", "final_recipe", "network", "measured", "export"),
    ),
}
"""Attributes that the objects of a group must have."""
CALL_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "nas.samplers": ("seed",),
    "nas.meters": (),
    "nas.workers": ("address",),
}
"""Parameters with which the objects of the other groups are called."""
GROUPS = (*REQUIRED_ATTRIBUTES, *CALL_PARAMETERS)
"""The entry point groups."""


def names(group: str) -> list[str]:
    """Return the registered names of a group, sorted."""
    return sorted(_registered(group, tuple(sys.path)))


def entry_point(group: str, name: str) -> EntryPoint | None:
    """Return the entry point of this name, if it is registered.

    Entry points are read once for an import path, since that takes tens of milliseconds; again for
    a name that is not among them, whose package may have been installed in the meantime.
    """
    path = tuple(sys.path)
    if name not in _registered(group, path):
        _registered.cache_clear()
    return _registered(group, path).get(name)


@cache
def _registered(group: str, path: tuple[str, ...]) -> Mapping[str, EntryPoint]:  # noqa: ARG001
    """Return the entry points of a group by name, the first of each name, as `path` is now."""
    return {entry.name: entry for entry in reversed(list(entry_points(group=group)))}


def add_import_folder(folder: str | Path) -> None:
    """Put this folder first on the import path, so that a study can bring its own code."""
    path = str(Path(folder).resolve())
    if path not in sys.path:
        sys.path.insert(0, path)


def load(group: str, name: str) -> Any:
    """Return the object registered under `name`, or the attribute named by `module:attribute`.

    Raises `UnknownNameError`, which lists the registered names, and `InvalidValueError` for an
    object that does not fit the group.
    """
    entry = None if ":" in name else entry_point(group, name)
    if entry is None and ":" not in name:
        raise UnknownNameError(group, name, names(group))
    try:
        plugin = entry.load() if entry else import_attribute(name)
    except (Exception, SystemExit) as error:  # a foreign module may raise anything
        reason = f"{type(error).__name__}: {error}"
        module, _, _ = name.partition(":")
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            reason += ", neither installed nor in the folder of the study file"
        if isinstance(error, SystemExit):
            reason += ", when it is imported; call its main function only if __name__ is __main__"
        raise UnknownNameError(f"{group} ({reason})", name, names(group)) from error
    _require(group, name, plugin)
    return plugin


def _require(group: str, name: str, plugin: object) -> None:
    """Raise `InvalidValueError` unless the object has what its group requires."""
    required = REQUIRED_ATTRIBUTES.get(group, ())
    missing = [attribute for attribute in required if not hasattr(plugin, attribute)]
    if missing:
        raise InvalidValueError(
            f"{name!r} is of type {type(plugin).__name__} and no plugin of {group}: it has no "
            f"{', '.join(missing)}"
        )
    if group not in CALL_PARAMETERS:
        return
    mismatch = f"no plugin of {group}, which are called with ({', '.join(CALL_PARAMETERS[group])})"
    if not callable(plugin):
        raise InvalidValueError(f"{name!r} is of type {type(plugin).__name__} and {mismatch}")
    try:
        signature = inspect.signature(plugin)
    except ValueError:  # some objects written in C have no signature
        return
    try:
        signature.bind(*CALL_PARAMETERS[group])
    except TypeError as error:
        raise InvalidValueError(f"{name!r} is {mismatch}: {error}") from error


def code_outside(names: Iterable[str], folder: Path) -> list[Path]:
    """Return the files of the modules in `module:attribute` names that lie outside the folder."""
    modules = [
        importlib.import_module(current_name(name).partition(":")[0])
        for name in names
        if ":" in name
    ]
    places = [getattr(module, "__file__", None) for module in modules]  # none if part of Python
    files = dict.fromkeys(Path(place).resolve() for place in places if place)
    return [file for file in files if not file.is_relative_to(folder.resolve())]
