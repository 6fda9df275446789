"""Modules of this package that once had another name.

Records and study files name networks and plugins as `module:attribute`, and keep the name that the
module had then. Such names stay valid.
"""

import importlib
from collections.abc import Mapping
from typing import Any

MOVED: Mapping[str, str] = {
    **{
        f"nas.{name}": f"nas.core.{name}"
        for name in (
            "architecture",
            "complexity",
            "errors",
            "measurement",
            "pareto",
            "plugins",
            "published",
            "recipe",
            "search_space",
            "study",
            "trial",
        )
    },
    "nas.rungs": "nas.core.stopping",
    "nas.task": "nas.core.tasks",
    "nas.study_file": "nas.searching.study_file",
    "nas.model.cifar_osa": "nas.paper.cifar_osa",
    "nas.model.width_resnet": "nas.bench.width_resnet",
    "nas.peers": "nas.paper.peers",
    "nas.connections": "nas.paper.connections",
    "nas.benchmark": "nas.measuring.methods",
    "nas.meters": "nas.measuring.meters",
    "nas.metrics": "nas.measuring.metrics",
    "nas.store": "nas.record",
    "nas.schema": "nas.record.schema",
    "nas.dashboard": "nas.report.dashboard",
    "nas.evaluation": "nas.searching.evaluators.classification",
}
"""The present name of each module or package by its former one."""


def current_name(name: str) -> str:
    """Return the present form of a module's name or of `module:attribute`."""
    for former, present in MOVED.items():
        if _is_in(name, former):
            return present + name.removeprefix(former)
    return name


def equivalent_names(name: str) -> tuple[str, ...]:
    """Return the present form of a name, and then every former one."""
    current = current_name(name)
    former = [
        former + current.removeprefix(present)
        for former, present in MOVED.items()
        if _is_in(current, present)
    ]
    return (current, *former)


def import_attribute(name: str) -> Any:
    """Return what `module:attribute` names, which runs the code of the module.

    Raises `ModuleNotFoundError` with the present name of a module that this code still imports by
    its former name, and whatever else the module raises.
    """
    module, _, attribute = current_name(name).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if current_name(missing) == missing:
            raise
        raise ModuleNotFoundError(
            f"{error}, which is now {current_name(missing)}", name=missing
        ) from error


def _is_in(name: str, module: str) -> bool:
    """Return True for the name of the module, of a part of it, or of an attribute."""
    return name == module or name.startswith((f"{module}.", f"{module}:"))
