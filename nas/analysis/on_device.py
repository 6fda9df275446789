"""The front of a study as it stands on another device, by figures that were measured there.

They are those of `nas remeasure`, or the study's own if it measures on that device. Trained and
counted figures hold on every device. Only members of the study's front are compared, and only
figures of one device class and one plan.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nas.analysis.remeasured import RemainingFront
from nas.core.errors import InvalidValueError, next_command
from nas.core.measurement import Kind, Measurement, figure_name, plan_key, same_class
from nas.core.pareto import ParetoFront, Standing
from nas.core.study import Objective, StudySpec
from nas.core.trial import Trial


@dataclass(frozen=True, kw_only=True)
class FrontOnDevice:
    """A front with the figures of one device.

    `spec` is the study with the objectives of that device. `trials` are the members that were
    measured there, by number, and `front` has those of them that stay on the front. `fallen` gives
    the reason why each of the others leaves it. `missing` are the numbers of the members that were
    not measured there.
    """

    spec: StudySpec
    trials: Mapping[int, Trial]
    front: ParetoFront
    standings: Mapping[int, Standing]
    fallen: Mapping[int, str]
    missing: tuple[int, ...]


def one_of_each(objectives: Iterable[Objective], preferred: Collection[str]) -> list[Objective]:
    """Return one objective for each metric: one of the preferred keys, or else the first one."""
    chosen: dict[str, Objective] = {}
    for objective in objectives:
        if objective.metric not in chosen or objective.key in preferred:
            chosen[objective.metric] = objective
    return list(chosen.values())


def limit_on(objective: Objective, *, own: bool) -> float | None:
    """Return the limit of an objective on a device; `own` says whether it is the objective's.

    A limit that is meant for another device by its name is none of this one.
    """
    return objective.limit if own or not objective.device else None


def front_on_device(
    spec: StudySpec,
    members: Sequence[Trial],
    figures: Mapping[int, Sequence[Measurement]],
    device: str,
) -> FrontOnDevice:
    """Return the front of these members on a device. `figures` are those of `nas remeasure` and
    `nas measure` by trial, the oldest first. A limit that the study sets on another named device is
    left out.

    Raises `InvalidValueError` if no member was measured there.
    """
    own = {
        objective.key
        for objective in spec.objectives
        if device in {objective.device, *map(_device_of, _recorded(objective, members))}
    }
    objectives = one_of_each(spec.objectives, own)
    here = {
        objective: _newest(objective.metric, figures, device)
        for objective in objectives
        if objective.key not in own and _depends_on_device(objective, members)
    }
    complete = [t for t in members if all(t.number in newest for newest in here.values())]
    if not complete:
        raise InvalidValueError(_nothing_there(spec, figures, device))
    on_device = tuple(
        replace(o, device=device, limit=limit_on(o, own=False)) if o in here else o
        for o in objectives
    )
    trials = {}
    for trial in complete:
        renamed = [
            replace(newest[trial.number], metric=figure_name(objective.metric, device))
            for objective, newest in here.items()
        ]
        evaluation = trial.evaluation.with_measurements(renamed)
        trials[trial.number] = replace(trial, evaluation=evaluation)
    remaining = RemainingFront.of(list(trials.values()), on_device)
    return FrontOnDevice(
        spec=replace(spec, objectives=on_device),
        trials=trials,
        front=remaining.front,
        standings=remaining.standings,
        fallen=remaining.fallen,
        missing=tuple(trial.number for trial in members if trial.number not in trials),
    )


def _recorded(objective: Objective, members: Sequence[Trial]) -> list[Measurement]:
    """Return the study's own figures of an objective."""
    figures = [trial.evaluation.measurements.get(objective.key) for trial in members]
    return [figure for figure in figures if figure is not None]


def _depends_on_device(objective: Objective, members: Sequence[Trial]) -> bool:
    """Return whether an objective is neither trained nor counted."""
    return any(figure.kind is not Kind.COUNTED for figure in _recorded(objective, members))


def _newest(
    metric: str, figures: Mapping[int, Sequence[Measurement]], device: str
) -> dict[int, Measurement]:
    """Return each trial's newest figure of a metric there, all of one device class and plan."""
    usable = [
        (number, figure)
        for number, of_trial in figures.items()
        for figure in of_trial
        if figure.metric == metric and figure.value is not None and _device_of(figure) == device
    ]
    if not usable:
        return {}
    _, newest = max(usable, key=lambda each: each[1].started_at)
    return {number: figure for number, figure in usable if _comparable(figure, newest)}


def _nothing_there(
    spec: StudySpec, figures: Mapping[int, Sequence[Measurement]], device: str
) -> str:
    """Return the line for a front of which no member has all figures on this device."""
    everything = [figure for of_trial in figures.values() for figure in of_trial]
    there = [figure for figure in everything if _device_of(figure) == device]
    names = {_device_of(figure) for figure in everything if figure.value is not None} - {device}
    why = f", but on {', '.join(sorted(names))}" if names else ""
    if there and there[-1].value is None:
        why = f": {there[-1].metric} is {there[-1].status}"
    return (
        f"no member of the front of {spec.name!r} has its figures on {device}{why}; measure them "
        f"with: {next_command('remeasure', spec.name, '--device', device)}"
    )


def _device_of(figure: Measurement) -> str:
    """Return the name of a figure's device elsewhere, or the kind of this machine's device.

    It is an empty text for counted figures.
    """
    if figure.device is None:
        return ""
    return str(figure.device.details.get("device", figure.device.kind))


def _comparable(figure: Measurement, newest: Measurement) -> bool:
    """Return whether two figures of one metric have one device class, plan, kind and method."""
    classes = [each.device.device_class if each.device else None for each in (figure, newest)]
    contexts = [
        (each.plan and plan_key(each.plan), each.kind, each.method if each.unit == "J" else None)
        for each in (figure, newest)
    ]
    return same_class(*classes) and contexts[0] == contexts[1]
