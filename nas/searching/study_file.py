"""Study files: YAML in, `StudySpec` out, or every wrong key and value at once, each with its path.

pydantic checks the core's own dataclasses, so a study file has exactly their fields. Limits and
references may carry a unit (`4 ms`, `0.3 J`, `2 M`, `5 %`).
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from nas.core import plugins
from nas.core.errors import NasError, StudyFileError
from nas.core.measurement import MAX_IMAGE_SIZE, MeasurementPlan
from nas.core.recipe import Recipe
from nas.core.study import (
    REMOVED_KEYS,
    Budget,
    DataSpec,
    Objective,
    RungSpec,
    StudySpec,
    TrainingSpec,
    WorkersSpec,
)
from nas.core.trial import MAX_TRIALS
from nas.core.units import parse_quantity

PARTS = {
    "rungs": RungSpec,
    "data": DataSpec,
    "training": TrainingSpec,
    "measurement": MeasurementPlan,
    "budget": Budget,
    "workers": WorkersSpec,
}

for _kind in (StudySpec, Recipe, Objective, *PARTS.values()):
    setattr(_kind, "__pydantic_config__", ConfigDict(extra="forbid", strict=True))  # noqa: B010 - mypy knows no such name
_ADAPTER = TypeAdapter(StudySpec)
_RECIPE = TypeAdapter(Recipe)

UNIT_OF_KEY = {"_s": "seconds", "_j": "joules"}
"""What a key that ends so is in."""
COSTS = frozenset(
    {
        "parameters",
        "macs",
        "memory_access_cost",
        "latency",
        "energy",
        "modelled_energy",
        "peak_memory",
    }
)
"""Of these every network has some; of the built-in metrics only `error` may be 0. Others may be
anything.
"""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the parent's, keys checked."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.MarkedYAMLError(
                problem=f"given twice: {', '.join(sorted(twice))}", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_study(path: str | Path) -> StudySpec:
    """The study of this file. Puts the file's folder on the import path, so that a study can carry
    its own space.

    Raises `StudyFileError` with one line for every problem.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(str(path), [f"cannot be read: {error}"]) from error
    plugins.look_in(path.parent)
    return parse_study(text, str(path))


def parse_study(text: str, source: str = "study") -> StudySpec:
    """The study that this YAML text describes; `source` names it in errors."""
    try:
        raw = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise StudyFileError(source, [_yaml_problem(error)]) from error
    if not isinstance(raw, dict):
        raise StudyFileError(source, ["must be a mapping with at least name, space and objectives"])
    problems = [*_unknown_names(raw), *_convert_quantities(raw), *_limits_out_of_reach(raw)]
    spec = None
    try:
        spec = _ADAPTER.validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        problems += [_problem(dict(each)) for each in error.errors()]
    if spec is not None:
        problems += _beyond(spec)
    if problems or spec is None:
        raise StudyFileError(source, list(dict.fromkeys(problems)))
    return spec


def _beyond(spec: StudySpec) -> Iterator[str]:
    """What a file may not ask for; a record that was begun when it could still be asked for stays
    readable.
    """
    if spec.workers.kind == "local" and spec.workers.count > 1:
        yield f"workers.count: local workers are one; for {spec.workers.count} at once use kind: tune"
    if spec.name in {".", ".."}:
        yield f"name must be more than dots, for it names the folder of checkpoints, not {spec.name!r}"
    for where, value, most in (
        ("measurement.image_size", spec.measurement.image_size, MAX_IMAGE_SIZE),
        ("budget.trials", spec.budget.trials, MAX_TRIALS),
        ("budget.proposals", spec.budget.proposals or 1, MAX_TRIALS),
    ):
        if value > most:
            yield f"{where}: must be at most {most}, not {value}"


def read_recipe(path: str | Path) -> Recipe:
    """The recipe of this YAML file; what it leaves out has its default. Raises `StudyFileError` as
    `read_study`.
    """
    source = str(path)
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader) or {}  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyFileError(source, [f"cannot be read: {_yaml_problem(error)}"]) from error
    try:
        return _RECIPE.validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        problems = [_problem(dict(each), Recipe) for each in error.errors()]
        raise StudyFileError(source, list(dict.fromkeys(problems))) from error


def _yaml_problem(error: Exception) -> str:
    """One line; the file, which PyYAML does not know, is named before it."""
    return " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")


def _objectives(raw: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    listed = raw.get("objectives")
    for index, objective in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(objective, dict) and isinstance(objective.get("metric"), str):
            yield index, objective


def _unknown_names(raw: Mapping[str, Any]) -> Iterator[str]:
    """One line for every plugin that is named and cannot be loaded."""
    named = [
        ("space", raw.get("space"), "nas.spaces"),
        ("sampler", raw.get("sampler"), "nas.samplers"),
    ]
    for key, field, group in (
        ("data", "dataset", "nas.datasets"),
        ("data", "fallback", "nas.datasets"),
        ("workers", "kind", "nas.workers"),
    ):
        part = raw.get(key)
        if isinstance(part, dict):
            named.append((f"{key}.{field}", part.get(field), group))
    named += [
        (f"objectives[{index}].metric", o["metric"], "nas.metrics") for index, o in _objectives(raw)
    ]
    for where, name, group in named:
        if isinstance(name, str):
            try:
                plugins.load(group, name)
            except NasError as error:
                yield f"{where}: {error}"


def _convert_quantities(raw: Mapping[str, Any]) -> Iterator[str]:
    """Turns `4 ms` into 0.004 in place; one line for every quantity that cannot be."""
    for index, objective in _objectives(raw):
        for key in ("limit", "reference"):
            if isinstance(objective.get(key), str):
                try:
                    unit = plugins.load("nas.metrics", objective["metric"]).unit
                    objective[key] = parse_quantity(objective[key], unit)
                except NasError:
                    objective[key] = None  # the unknown metric has its own line
                except ValueError as error:
                    yield f"objectives[{index}].{key}: {error}"
                    objective[key] = None


def _limits_out_of_reach(raw: Mapping[str, Any]) -> Iterator[str]:
    """One line for every limit that no network can be within; quantities are numbers by now."""
    for index, objective in _objectives(raw):
        metric, limit = objective["metric"], objective.get("limit")
        if (
            not isinstance(limit, int | float)
            or objective.get("direction", "minimize") != "minimize"
        ):
            continue
        if (limit <= 0 and metric in COSTS) or (limit < 0 and metric == "error"):
            least = "more than 0" if metric in COSTS else "at least 0"
            yield f"objectives[{index}].limit: must be {least}, not {limit:g}, within which no network's {metric} is"


def _problem(error: Mapping[str, Any], kind_of_file: Any = StudySpec) -> str:
    """One line for one of pydantic's errors."""
    location = [part for part in error["loc"] if isinstance(part, int | str)]
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location
    ).lstrip(".")
    kind = error["type"]
    if kind in {"unexpected_keyword_argument", "extra_forbidden"}:
        if kind_of_file is StudySpec and where in REMOVED_KEYS:
            return f"{where}: this key {REMOVED_KEYS[where]}; delete it"
        known = _fields(location[:-1], kind_of_file)
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
        return f"{where}: unknown key; {hint}"
    if kind in {"missing", "missing_argument"}:
        return f"{where}: missing"
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    if kind == "float_type" and (unit := UNIT_OF_KEY.get(where[-2:])):
        message = f"must be a number, in {unit}"
    elif kind == "tuple_type" and isinstance(given, int | float | str | dict):
        message = f"must be a list, such as [{json.dumps(given)}]"
    shown = (
        f", not {given!r}" if kind != "value_error" and not isinstance(given, dict | list) else ""
    )
    return f"{where}: {message}{shown}" if where else message


def _fields(location: list[int | str], kind_of_file: Any) -> list[str]:
    """The keys that may stand at this place of a file."""
    kind: Any = kind_of_file
    if location:
        kind = (
            Objective if location[0] == "objectives" else PARTS.get(str(location[0]), kind_of_file)
        )
    return list(kind.__dataclass_fields__)
