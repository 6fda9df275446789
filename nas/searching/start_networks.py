"""Start networks: networks of the study file that a search tries before it asks its sampler."""

import json
import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError, NasError, foreign_code
from nas.core.search_space import Params, SearchSpace, decoded
from nas.core.study import StudySpec
from nas.record import Store
from nas.record.differences import differences
from nas.searching.networks import named_architecture

OTHER = 1.0
"""Distance of two settings that are no numbers, as of two widths of which one is e times the other.
"""


def start_params(
    spec: StudySpec, space: SearchSpace, store: Store | None, folder: Path
) -> list[Params]:
    """Return the params of the study's start networks, in their order.

    `folder` is that of the study file. Without a `store` there are no trials to name. A name that
    the record of the study has need not stand for a network any more. Raises `InvalidValueError`
    with one line for each other network that is unknown or not in the space.
    """
    record = None if store is None else store.find_study(spec.name)
    recorded: Mapping[str, Params] = {} if record is None else record.start_networks
    found, problems = [], []
    for index, given in enumerate(spec.first):
        try:
            if not isinstance(given, str):
                found.append(checked_params(space, given))
            elif (architecture := _named(given, store, folder, recorded)) is None:
                found.append(checked_params(space, recorded[given]))
            else:
                found.append(params_of_named(space, architecture, given, spec.space))
        except NasError as error:
            problems.append(f"first[{index}]: {error}")
    if problems:
        raise InvalidValueError("\n".join(problems))
    return found


def _named(
    name: str, store: Store | None, folder: Path, recorded: Container[str]
) -> Architecture | None:
    """Return the architecture of this name; None if it is gone and the name is recorded."""
    try:
        return named_architecture(name, store, folder)
    except NasError:
        if name not in recorded:
            raise
    return None


def encoded(space: SearchSpace, architecture: Architecture) -> dict[str, Any]:
    """Return the params of this network in the space, also if it is written in another way there.

    Raises `InvalidValueError` if it is not in the space.
    """
    with foreign_code("the space's encode fails"):
        try:
            return space.encode(architecture)
        except InvalidValueError:
            return space.encode(architecture.canonical)


def nearest_params(space: SearchSpace, architecture: Architecture) -> Params:
    """Return the params of a network of the space to which no other value of one choice makes the
    architecture nearer.

    Numbers are as far apart as their logarithms, and other settings by `OTHER`.
    """
    params = {choice.name: choice.values[0] for choice in space.choices}
    wanted = architecture.to_dict()

    def distance(name: str, value: Any) -> float:
        network = decoded(space, {**params, name: value}).to_dict()
        return sum(_apart(left, right) for _, left, right in differences(wanted, network))

    before = None
    while params != before:
        before = dict(params)
        for choice in space.choices:
            distances = [distance(choice.name, value) for value in choice.values]
            params[choice.name] = choice.values[distances.index(min(distances))]
    return params


def params_of_named(
    space: SearchSpace, architecture: Architecture, name: str, space_name: str
) -> Params:
    """Return the params of this network in the space.

    Raises `InvalidValueError`, with the name and the nearest network, if it is not in the space.
    """
    try:
        return encoded(space, architecture)
    except InvalidValueError as error:
        nearest = json.dumps(nearest_params(space, architecture))
        raise InvalidValueError(
            f"{name} is not in the space {space_name} ({error}); the nearest one that is: {nearest}"
        ) from error


def checked_params(space: SearchSpace, params: Params) -> Params:
    """Return the params. Raises `InvalidValueError` unless they are values of all choices."""
    names = {choice.name for choice in space.choices}
    if unknown := sorted(set(params) - names):
        raise InvalidValueError(f"the space has no choice {', '.join(unknown)}")
    if missing := sorted(names - set(params)):
        raise InvalidValueError(f"no value for {', '.join(missing)}")
    for choice in space.choices:
        _require_value(choice.name, params[choice.name], choice.values)
    return params


def _require_value(name: str, value: Any, values: Sequence[Any]) -> None:
    if not any(value == each and type(value) is type(each) for each in values):
        shown = ", ".join(json.dumps(each) for each in values)
        raise InvalidValueError(f"{name} must be one of {shown}, not {json.dumps(value)}")


def _apart(left: Any, right: Any) -> float:
    numbers = [each for each in (left, right) if type(each) in {int, float} and each > 0]
    return abs(math.log(numbers[0] / numbers[1])) if len(numbers) == 2 else OTHER
