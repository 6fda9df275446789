"""Identity of a study: the parts that the names in its file stand for.

A study file names its space, sampler, evaluators, metrics and data. Their identity is recorded when
the study begins, and a study is resumed only with the same parts:

* the choices of the space with their values, and the networks that a few params decode to,
* a digest of each definition in the code of objects that do not ship with osa-nas,
* a digest of the files of each part and class of an image folder.

Comments, docstrings, formatting and definitions that an object does not use are not part of the
identity. Objects that ship with osa-nas are identified by their names, because the record has the
version.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.core import plugins
from nas.core.checks import shortlist
from nas.core.errors import InvalidValueError, StudyConflictError
from nas.core.search_space import Params, SearchSpace, Value, decoded
from nas.core.seeds import derived_seed
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.record.differences import differences
from nas.searching.code_digests import code_digests
from nas.searching.evaluators import EvaluatorPlugin

PROBES = 8
"""Number of params whose networks identify what `decode` does."""
MAX_SHOWN_DIFFERENCES = 5
"""An error names at most this many differences and counts the others."""

Digests = Mapping[str, str]
"""SHA-256 (hex) by the name of what was digested."""
Code = Mapping[str, Digests]
"""Digests of definitions, by the key of the study file that names the object."""


def identity_of(spec: StudySpec, space: SearchSpace, folder: Path) -> dict[str, Any]:
    """Return the identity of a study as plain JSON values, except for the files of its data.
    `folder` is the study file's.

    Raises `InvalidValueError` for a space that cannot decode its own params.
    """
    code = {label: code_digests(group, name, folder) for label, group, name in _named_objects(spec)}
    return {"space": _describe_space(space), "code": code}


def require_same_parts(
    study: str, recorded: Mapping[str, Any], space: SearchSpace, code: Code
) -> None:
    """Raise `StudyConflictError` unless the space and the code of the named objects are those of
    the recorded identity. Objects without digests on either side are not compared.
    """
    before: Code = recorded["code"]
    _require_none(
        study,
        [
            *_space_differences(recorded["space"], space),
            *(
                f"{label}: other code of {', '.join(_changed(before[label], code[label]))}"
                for label in before
                if before[label] and code.get(label) and before[label] != code[label]
            ),
        ],
    )


def require_same_files(study: str, recorded: Digests, now: Digests) -> None:
    """Raise `StudyConflictError` unless the data's files are as they were recorded. Data without
    digests on either side is not compared.
    """
    if recorded and now:
        _require_none(
            study, [_file_difference(each, recorded, now) for each in _changed(recorded, now)]
        )


def require_fitting_trials(study: str, trials: Iterable[Trial], space: SearchSpace) -> None:
    """Raise `StudyConflictError` unless the params of every recorded trial are values of the
    space's choices and decode to the recorded network. For records without an identity.
    """
    values = {choice.name: choice.values for choice in space.choices}
    for trial in trials:
        problem = _misfit(trial, values, space)
        if problem:
            _require_none(study, [f"space: trial {trial.number} is not of it: {problem}"])


def _require_none(study: str, problems: Sequence[str]) -> None:
    if not problems:
        return
    shown = shortlist(problems, MAX_SHOWN_DIFFERENCES, separator="; ", last="; ")
    raise StudyConflictError(
        f"study {study!r} was begun with other parts than its file names now: {shown}; "
        "change them back or give the study another name"
    )


# The space


def _describe_space(space: SearchSpace) -> dict[str, Any]:
    networks = []
    for params in _probes(space):
        network = decoded(space, params)
        networks.append(
            {"params": dict(params), "digest": network.digest, "network": network.to_dict()}
        )
    return {
        "choices": {choice.name: list(choice.values) for choice in space.choices},
        "networks": networks,
    }


def _probes(space: SearchSpace) -> Iterator[Params]:
    """Yield params of the smallest values, the largest values, and values spread over the space."""
    yield {choice.name: choice.values[0] for choice in space.choices}
    yield {choice.name: choice.values[-1] for choice in space.choices}
    for number in range(PROBES - 2):
        yield {
            choice.name: choice.values[
                derived_seed("probe", number, choice.name) % len(choice.values)
            ]
            for choice in space.choices
        }


def _space_differences(recorded: Mapping[str, Any], space: SearchSpace) -> list[str]:
    before: Mapping[str, list[Value]] = recorded["choices"]
    now = {choice.name: list(choice.values) for choice in space.choices}
    changed_choices = [
        _choice_difference(name, before.get(name), now.get(name))
        for name in [*before, *(name for name in now if name not in before)]
        if _text(before.get(name)) != _text(now.get(name))
    ]
    if changed_choices:
        return changed_choices
    for probe in recorded["networks"]:
        difference = _network_difference(probe["digest"], probe["network"], probe["params"], space)
        if difference:
            return [f"space: the same params decode to another network: {difference}"]
    return []


def _choice_difference(name: str, before: list[Value] | None, now: list[Value] | None) -> str:
    if before is None:
        return f"space: choice {name} is new, with the values {_values(now or [])}"
    if now is None:
        return f"space: choice {name} is gone, which had the values {_values(before)}"
    return f"space: choice {name} has the values {_values(now)}, and had {_values(before)}"


def _values(values: Sequence[Value]) -> str:
    return ", ".join(json.dumps(value, default=str) for value in values)


def _text(value: object) -> str:
    """Return JSON, in which 1, 1.0 and true differ."""
    return json.dumps(value, default=str)


def _network_difference(
    digest: str, network: Mapping[str, Any], params: Params, space: SearchSpace
) -> str:
    """Return how the network that these params now decode to differs; nothing if it does not."""
    try:
        network_now = decoded(space, params)
    except InvalidValueError as error:
        return str(error)
    if network_now.digest == digest:
        return ""
    return ", ".join(
        f"{path} is {now}, and was {before}"
        for path, before, now in differences(dict(network), network_now.to_dict())
    )


def _misfit(trial: Trial, values: Mapping[str, tuple[Value, ...]], space: SearchSpace) -> str:
    """Return why a recorded trial cannot be of this space; nothing if it can."""
    if set(trial.params) != set(values):
        difference = ", ".join(sorted(set(trial.params) ^ set(values)))
        return f"only its params or only the choices have {difference}"
    for name, value in trial.params.items():
        if value not in values[name]:
            return f"{name} is {_values([value])}, and may be {_values(values[name])}"
    return _network_difference(
        trial.architecture.digest, trial.architecture.to_dict(), trial.params, space
    )


# Code and files


def _named_objects(spec: StudySpec) -> Iterator[tuple[str, str, str]]:
    """Yield label, group and name of the objects in a study file that are identified by their
    code. A space is identified by what it does.
    """
    yield "sampler", "nas.samplers", spec.sampler
    evaluators: EvaluatorPlugin = plugins.load("nas.evaluators", spec.evaluator)
    for name in ("search", "certify", "replicate", "final"):
        yield f"evaluator {name}", "nas.evaluators", getattr(evaluators, name)
    yield "data.dataset", "nas.datasets", spec.data.dataset
    if spec.data.fallback is not None:
        yield "data.fallback", "nas.datasets", spec.data.fallback
    if ":" in spec.measurement.runtime:
        yield "measurement.runtime", "nas.runtimes", spec.measurement.runtime
    for metric in dict.fromkeys(objective.metric for objective in spec.measured_objectives):
        yield f"metric {metric}", "nas.metrics", metric


def _changed(before: Digests, now: Digests) -> list[str]:
    """Return the names whose digests differ or that are on one side only."""
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def _file_difference(name: str, before: Digests, now: Digests) -> str:
    if name not in now:
        return f"data.folder: {name} is missing"
    return f"data.folder: {name} {'has other files' if name in before else 'is new'}"
