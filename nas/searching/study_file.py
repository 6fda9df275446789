"""Study files: YAML in, `StudySpec` out, or every wrong key and value at once, each with its path.

pydantic checks the core's own dataclasses, therefore a study file has exactly their fields. Limits
and references may carry a unit (`4 ms`, `0.3 J`, `2 M`, `5 %`).
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from nas.core import plugins
from nas.core.brief import BriefRecipe
from nas.core.errors import InvalidValueError, NasError, StudyFileError
from nas.core.foreign import kind_problem
from nas.core.large import LargeSpec
from nas.core.measurement import AUTO_RUNTIME, MAX_IMAGE_SIZE
from nas.core.presets import PRESETS
from nas.core.recipe import Recipe
from nas.core.study import (
    PARTS,
    REMOVED_KEYS,
    DataSpec,
    Objective,
    RungSpec,
    StoppingSpec,
    StudySpec,
    TrainedMetric,
    TrainingSpec,
    check_rungs,
    from_rung_mapping,
)
from nas.core.trial import MAX_TRIALS
from nas.core.units import parse_quantity
from nas.measuring.meters import elsewhere
from nas.searching.evaluators import EvaluatorPlugin
from nas.searching.study_name import name_problems
from nas.searching.yaml_file import MAX_CHARACTERS, parse_yaml

SETTINGS = "evaluator_settings"
"""Key of the settings whose class the evaluator names."""
WITHOUT_FOLDER = frozenset({"cifar10", "cifar100", "digits"})
"""Data sets that do not read `data.folder`."""
STRICT = ConfigDict(extra="forbid", strict=True)
"""The way in which pydantic reads the dataclasses."""
LISTS = {"objectives": Objective, "rungs": RungSpec}
"""Keys of a study file that hold a list of mappings, and the dataclass of each."""

for _kind in (
    StudySpec,
    Recipe,
    LargeSpec,
    BriefRecipe,
    Objective,
    RungSpec,
    TrainedMetric,
    *PARTS.values(),
):
    setattr(_kind, "__pydantic_config__", STRICT)  # noqa: B010 - mypy knows no such name
_STUDY_ADAPTER = TypeAdapter(StudySpec)
_RECIPE_ADAPTER = TypeAdapter(Recipe)
_BRIEF_ADAPTER = TypeAdapter(BriefRecipe)

UNIT_OF_SUFFIX = {"_s": "seconds", "_j": "joules"}
"""Units of values, by the last two letters of their keys."""
POSITIVE_METRICS = frozenset(
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
"""Built-in measured metrics that are more than 0 for every network. One of a plugin may have any
value, and a trained metric names its bounds.
"""
EITHER: dict[int | str, str] = {"image_size": "must be a whole number of pixels or auto"}
"""What keys must be that allow values of two types."""
MAX_SHOWN = 80
"""Longest part of a wrong value that a message shows, in characters."""
COMMENT_PREFIX = "x-"
"""Top-level keys that begin so are ignored; they can hold anchors."""


def read_study(path: str | PathLike[str], recorded: StudySpec | None = None) -> StudySpec:
    """Read a study file. Puts its folder on the import path, so that a study can carry its own
    space. `recorded` is that of `parse_study`.

    Raises `StudyFileError` with one line for every problem.
    """
    plugins.add_import_folder(Path(path).parent)
    return parse_study(_read_text(path), str(path), recorded)


def parse_study(text: str, source: str = "study", recorded: StudySpec | None = None) -> StudySpec:
    """Return the study that this YAML text describes; `source` names it in errors.

    Keys that it leaves out have their defaults, or in a study that is resumed the `recorded`
    values, so that a study outlives a change of the defaults. Budget and workers belong to each run
    and have their defaults in any case.
    """
    raw = _parse_mapping(text, source)
    problems = list(_convert_rungs(raw))
    if "trained" in raw:
        problems.append(f"trained: {_unknown_key('trained', _fields([], StudySpec))}")
    if recorded is not None:
        raw = _filled(raw, recorded)
    evaluator = _evaluator(raw)
    trained = {metric.name: metric for metric in evaluator.trained} if evaluator else {}
    problems += [
        *_complete_settings(raw, evaluator),
        *_rung_problems(raw),
        *_unknown_names(raw, trained),
        *_complete_objectives(raw, trained),
        *_unreachable_limits(raw, trained),
        *_network_problems(raw),
    ]
    _set_default_runtime(raw)
    raw["trained"] = [asdict(metric) for metric in trained.values()]
    spec = None
    try:
        spec = _STUDY_ADAPTER.validate_json(json.dumps(raw))
    except ValidationError as error:
        problems += [_problem(dict(each)) for each in error.errors()]
    if spec is not None:
        problems += [*name_problems(spec.name), *_values_out_of_range(spec)]
        if recorded is None or recorded.data.folder is None:
            problems += _unread_folder(spec.data)
        problems += [] if problems else _devices_of_counts(spec)
    if problems or spec is None:
        raise StudyFileError(source, list(dict.fromkeys(problems)))
    return spec


def _filled(raw: Mapping[str, Any], recorded: StudySpec) -> dict[str, Any]:
    """Return the keys of a file, and those that it leaves out as they were recorded."""
    identity = recorded.identity()
    filled = {**identity, **raw}
    for key in (*PARTS, SETTINGS):
        if key in identity and isinstance(raw.get(key), dict):
            filled[key] = {**identity[key], **raw[key]}
    return filled


def read_recipe(path: str | PathLike[str], default: Recipe | None = None) -> Recipe:
    """Read the recipe of this YAML file. Keys that it leaves out are those of the recipe that its
    key `preset` names or else of `default`, or have their defaults. Raises `StudyFileError` as
    `read_study` does.
    """
    source = str(path)
    raw = _parse_mapping(_read_text(path), source)
    if "start" in raw:
        raise StudyFileError(source, ["start: the weights to start from are given by --from"])
    if "preset" in raw:
        default = _preset(raw.pop("preset"), source)
    if default is not None:
        values = default.to_dict()
        for part in ("training", "large"):
            if part in values and isinstance(given := raw.get(part, {}), dict):
                raw[part] = {**values[part], **given}
        raw = {**values, **raw}
    try:
        return _RECIPE_ADAPTER.validate_json(json.dumps(raw))
    except ValidationError as error:
        problems = [_problem(dict(each), Recipe) for each in error.errors()]
        raise StudyFileError(source, list(dict.fromkeys(problems))) from error


def _preset(name: Any, source: str) -> Recipe:
    if not isinstance(name, str) or name not in PRESETS:
        problem = f"preset: must be {', '.join(sorted(PRESETS))}, not {name!r}"
        raise StudyFileError(source, [problem])
    return PRESETS[name]


def read_brief_recipes(path: str | PathLike[str], training: TrainingSpec) -> dict[str, BriefRecipe]:
    """Read the recipes of brief training of this YAML file, by their names.

    Keys of a recipe's `training` that are left out are those of `training`. Raises `StudyFileError`
    as `read_study` does.
    """
    source, recipes, problems = str(path), {}, []
    for name, raw in _parse_mapping(_read_text(path), source).items():
        given = raw if isinstance(raw, dict) else {}
        changes = given.get("training")
        merged = {**asdict(training), **changes} if isinstance(changes, dict) else asdict(training)
        values = {**given, "training": merged}
        try:
            recipes[name] = _BRIEF_ADAPTER.validate_json(json.dumps(values))
        except ValidationError as error:
            problems += [f"{name}: {_problem(dict(each), BriefRecipe)}" for each in error.errors()]
    if not recipes and not problems:
        problems.append("must name at least one recipe, such as `brief: {rungs: [{epochs: 0.5}]}`")
    if problems:
        raise StudyFileError(source, list(dict.fromkeys(problems)))
    return recipes


def _read_text(path: str | PathLike[str]) -> str:
    """Read a file, but of a very large one only as much as shows that it is too long."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(str(path), [f"cannot be read: {error}"]) from error


def _parse_mapping(text: str, source: str) -> dict[str, Any]:
    """Return the mapping in a YAML text, without its ignored keys; an empty one for no text."""
    try:
        raw = parse_yaml(text)
    except InvalidValueError as error:
        raise StudyFileError(source, [str(error)]) from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise StudyFileError(source, ["must be a mapping of keys to values"])
    return {key: value for key, value in raw.items() if not key.startswith(COMMENT_PREFIX)}


def _values_out_of_range(spec: StudySpec) -> Iterator[str]:
    """Yield values that a study file may not have, although records may hold studies with them."""
    if spec.workers.kind == "local" and spec.workers.count > 1:
        yield (
            f"workers.count: local workers are one; for {spec.workers.count} at once use kind: tune"
        )
    for where, value, largest in (
        ("measurement.image_size", spec.measurement.image_size, MAX_IMAGE_SIZE),
        ("budget.trials", spec.budget.trials, MAX_TRIALS),
        ("budget.proposals", spec.budget.proposals or 1, MAX_TRIALS),
    ):
        if value > largest:
            yield f"{where}: must be at most {largest}, not {value}"


def _unread_folder(data: DataSpec) -> Iterator[str]:
    """Yield a line if no data set of the study reads the folder. Older records have such studies,
    which resume.
    """
    if data.folder is not None and {data.dataset, data.fallback or data.dataset} <= WITHOUT_FOLDER:
        yield f"data.folder: {data.dataset} does not read it; say dataset: folder too"


def _objectives(raw: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objectives that name a metric, with their places in the list."""
    listed = raw.get("objectives")
    for index, objective in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(objective, dict) and isinstance(objective.get("metric"), str):
            yield index, objective


def _evaluator(raw: Mapping[str, Any]) -> EvaluatorPlugin | None:
    """Return the study's evaluator, None for an unknown one."""
    name = raw.get("evaluator", StudySpec.evaluator)
    try:
        return plugins.load("nas.evaluators", name) if isinstance(name, str) else None
    except NasError:
        return None  # the unknown evaluator has its own line


def _complete_settings(raw: dict[str, Any], evaluator: EvaluatorPlugin | None) -> Iterator[str]:
    """Fill in the defaults of the evaluator's settings, and its defaults of other keys, in place.

    Yield one line for every wrong setting.
    """
    given = raw.get(SETTINGS, {})
    if evaluator is None:
        return
    if evaluator.settings is None:
        if given:
            name = raw.get("evaluator", StudySpec.evaluator)
            yield f"{SETTINGS}: the evaluator {name} has none; delete this key"
        return
    setattr(evaluator.settings, "__pydantic_config__", STRICT)  # noqa: B010 - as above
    try:
        settings = TypeAdapter(evaluator.settings).validate_json(json.dumps(given))
    except ValidationError as error:
        for each in error.errors():
            located = {**each, "loc": (SETTINGS, *each["loc"])}
            yield _problem(located, evaluator.settings)
        return
    except NasError as error:
        yield f"{SETTINGS}: {error}"
        return
    raw[SETTINGS] = asdict(settings)  # type: ignore[call-overload] # a dataclass
    for key, values in settings.defaults().items():
        own = raw.get(key, {})
        if isinstance(own, dict):
            raw[key] = {**values, **own}


def _unknown_names(raw: Mapping[str, Any], trained: Mapping[str, TrainedMetric]) -> Iterator[str]:
    """Yield one line for every name of a plugin that cannot be loaded."""
    named = [
        ("space", raw.get("space"), "nas.spaces"),
        ("sampler", raw.get("sampler"), "nas.samplers"),
        ("evaluator", raw.get("evaluator"), "nas.evaluators"),
    ]
    for key, field, group in (
        ("data", "dataset", "nas.datasets"),
        ("data", "fallback", "nas.datasets"),
        ("workers", "kind", "nas.workers"),
        ("measurement", "runtime", "nas.runtimes"),
    ):
        part = raw.get(key)
        if isinstance(part, dict):
            named.append((f"{key}.{field}", part.get(field), group))
    yield from _unknown_device("measurement.device", raw.get("measurement"))
    for index, objective in _objectives(raw):
        yield from _unknown_device(f"objectives[{index}].device", objective)
    named += [
        (f"objectives[{index}].metric", o["metric"], "nas.metrics")
        for index, o in _objectives(raw)
        if o["metric"] not in trained
    ]
    for where, name, group in named:
        if isinstance(name, str) and (where, name) != ("measurement.runtime", AUTO_RUNTIME):
            try:
                plugins.load(group, name)
            except NasError as error:
                given = f"; training gives {', '.join(trained)}" if group == "nas.metrics" else ""
                yield f"{where}: {error}{given}"


def _unknown_device(where: str, part: Any) -> Iterator[str]:
    """Yield one line for a device that is neither of this machine nor in the device book."""
    name = part.get("device") if isinstance(part, dict) else None
    if isinstance(name, str):
        try:
            elsewhere(name)
        except NasError as error:
            yield f"{where}: {error}"


def _devices_of_counts(spec: StudySpec) -> Iterator[str]:
    """Yield one line for every objective that names a device although its metric is counted."""
    from nas.measuring.metrics import Phase, find_metric

    for index, objective in enumerate(spec.objectives):
        if objective.device is not None and objective in spec.measured_objectives:
            metric = find_metric(objective.metric)
            if metric.phase is Phase.COUNTED:
                yield (
                    f"objectives[{index}].device: {objective.metric} is the same on every device; "
                    "delete this key"
                )


def _convert_rungs(raw: dict[str, Any]) -> Iterator[str]:
    """Turn the older form of `rungs`, one mapping with a list of epochs, into a list in place.

    Yield one line for every wrong key or value in it.
    """
    rungs = raw.get("rungs")
    if not isinstance(rungs, dict):
        return
    epochs = rungs.get("epochs", [1.0])
    problems = list(_epochs_problems(epochs))
    yield from problems
    keys = ["epochs", *StoppingSpec.__dataclass_fields__]
    for key in rungs:
        if f"stopping.{key}" in REMOVED_KEYS:
            yield f"rungs.{key}: this key {REMOVED_KEYS[f'stopping.{key}']}; delete it"
        elif key not in keys:
            yield f"rungs.{key}: {_unknown_key(key, keys)}"
    values = {key: value for key, value in rungs.items() if key in keys}
    raw["rungs"], stopping = from_rung_mapping({**values, "epochs": [1.0] if problems else epochs})
    if "epochs" not in rungs:
        del raw["rungs"]
    if isinstance(raw.get("stopping", {}), dict):
        raw["stopping"] = {**stopping, **raw.get("stopping", {})}


def _epochs_problems(epochs: Any) -> Iterator[str]:
    """Yield what is wrong with the list of epochs in the older form of `rungs`."""
    if not isinstance(epochs, list):
        yield f"rungs.epochs: must be a list, such as [{json.dumps(epochs)}], not {epochs!r}"
        return
    for index, value in enumerate(epochs):
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"rungs.epochs[{index}]: must be a number, not {value!r}"


def _network_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for every baseline or start network with a name that no such network has."""
    name = raw.get("evaluator", StudySpec.evaluator)
    try:
        foreign = isinstance(name, str) and plugins.load("nas.evaluators", name).foreign
    except NasError:
        return  # the unknown evaluator has its own line
    for key, other_packages in (("baselines", foreign), ("first", False)):
        listed = raw.get(key)
        for index, text in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(text, str) and (problem := kind_problem(text, foreign=other_packages)):
                yield f"{key}[{index}]: {problem}"


def _set_default_runtime(raw: dict[str, Any]) -> None:
    """Let a study that names no runtime measure in the one that people deploy."""
    measurement = raw.setdefault("measurement", {})
    if isinstance(measurement, dict):
        measurement.setdefault("runtime", AUTO_RUNTIME)


def _rung_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the rungs together, if each of them is right."""
    if "rungs" not in raw:
        return
    try:
        check_rungs([RungSpec(**rung) for rung in raw["rungs"]])
    except InvalidValueError as error:
        if str(error).startswith("rungs "):
            yield str(error)
    except (TypeError, ValueError):
        return  # each wrong rung has its own line


def _unknown_key(key: str, keys: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, keys, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(keys)}"
    return f"unknown key; {hint}"


def _complete_objectives(
    raw: Mapping[str, Any], trained: Mapping[str, TrainedMetric]
) -> Iterator[str]:
    """Turn `4 ms` into 0.004 in place, and give a trained objective its metric's direction.

    Yield one line for every text that is no quantity.
    """
    for index, objective in _objectives(raw):
        metric = trained.get(objective["metric"])
        if metric is not None:
            objective.setdefault("direction", metric.direction.value)
        for key in ("limit", "reference"):
            if isinstance(objective.get(key), str):
                try:
                    unit = (metric or plugins.load("nas.metrics", objective["metric"])).unit
                    objective[key] = parse_quantity(objective[key], unit)
                except NasError:
                    objective[key] = None  # the unknown metric has its own line
                except ValueError as error:
                    yield f"objectives[{index}].{key}: {error}"
                    objective[key] = None


def _unreachable_limits(
    raw: Mapping[str, Any], trained: Mapping[str, TrainedMetric]
) -> Iterator[str]:
    """Yield one line for every limit that no network can satisfy. Quantities must be numbers."""
    for index, objective in _objectives(raw):
        name, limit = objective["metric"], objective.get("limit")
        minimizes = objective.get("direction", "minimize") == "minimize"
        if not isinstance(limit, int | float):
            continue
        metric = trained.get(name)
        low, high = (metric.low, metric.high) if metric else (None, None)
        if name in POSITIVE_METRICS and minimizes and limit <= 0:
            bound = "more than 0"
        elif minimizes and low is not None and limit < low:
            bound = f"at least {low:g}"
        elif not minimizes and high is not None and limit > high:
            bound = f"at most {high:g}"
        else:
            continue
        yield (
            f"objectives[{index}].limit: must be {bound}, not {limit:g}, "
            f"because no network has such a {name}"
        )


def _problem(error: Mapping[str, Any], kind_of_file: Any = StudySpec) -> str:
    """Return one line for one of pydantic's errors."""
    location = [part for part in error["loc"] if isinstance(part, int | str)]
    either = location[-2] if len(location) > 1 and location[-2] in EITHER else None
    if either is not None:
        location.pop()  # pydantic adds the type that it tried
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location
    ).lstrip(".")
    kind = error["type"]
    if kind in {"unexpected_keyword_argument", "extra_forbidden"}:
        if kind_of_file is StudySpec and where in REMOVED_KEYS:
            return f"{where}: this key {REMOVED_KEYS[where]}; delete it"
        keys = _fields(location[:-1], kind_of_file)
        return f"{where}: {_unknown_key(str(location[-1]), keys)}"
    if kind in {"missing", "missing_argument"}:
        return f"{where}: missing"
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    if either is not None:
        message = EITHER[either]
    elif kind == "float_type" and (unit := UNIT_OF_SUFFIX.get(where[-2:])):
        message = f"must be a number, in {unit}"
    elif kind == "tuple_type" and isinstance(given, int | float | str | dict):
        message = f"must be a list, such as [{json.dumps(given)}]"
    if kind != "value_error" and not isinstance(given, dict | list):
        shown = repr(given)
        message += f", not {shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + '...'}"
    return f"{where}: {message}" if where else message


def _fields(location: list[int | str], kind_of_file: Any) -> list[str]:
    """Return the keys that are allowed at this place of a file."""
    kind: Any = kind_of_file
    if location:
        kind = {**PARTS, **LISTS, "large": LargeSpec}.get(str(location[0]), kind_of_file)
    return [name for name in kind.__dataclass_fields__ if (kind, name) != (StudySpec, "trained")]
