"""Conditions such as `latency < 4 ms` that select members of a front, and an order for them."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from nas.core.errors import InvalidValueError, UnknownNameError
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.core.units import parse_quantity

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
CONDITION_PATTERN = re.compile(r"\s*([\w.@:-]+?)\s*(<=|>=|<|>|=)\s*(.+?)\s*")

Condition = Callable[[Trial], bool]


def condition(text: str, trials: Sequence[Trial], spec: StudySpec) -> Condition:
    """Return the condition `METRIC < VALUE` as a function of a trial.

    A trial without that figure does not fulfil it. Raises `InvalidValueError` for a text that is no
    condition, and `UnknownNameError` for a metric that no trial has.
    """
    match = CONDITION_PATTERN.fullmatch(text)
    if match is None:
        raise InvalidValueError(
            f"{text!r} is no condition; write one as in 'latency < 4 ms' or 'error <= 30 %'"
        )
    metric, sign, quantity = match.groups()
    try:
        bound = parse_quantity(quantity, _unit(metric, trials, spec))
    except ValueError as error:
        raise InvalidValueError(f"{text!r}: {error}") from None
    compare = COMPARISONS[sign]

    def holds(trial: Trial) -> bool:
        value = trial.evaluation.value(metric)
        return value is not None and compare(value, bound)

    return holds


def ordered(trials: Sequence[Trial], metric: str, spec: StudySpec) -> list[Trial]:
    """Sort the trials by this figure, the smallest first and trials without it last.

    Raises `UnknownNameError` for a metric that no trial has.
    """
    _unit(metric, trials, spec)

    def key(trial: Trial) -> tuple[bool, float, int]:
        value = trial.evaluation.value(metric)
        return (value is None, value or 0.0, trial.number)

    return sorted(trials, key=key)


def metric_units(trials: Iterable[Trial], spec: StudySpec) -> dict[str, str]:
    """Return the SI unit of every trained metric, and of those of which a trial has a figure."""
    units = {each.name: each.unit for each in spec.trained or ()}
    for trial in trials:
        units |= {figure.metric: figure.unit for figure in trial.evaluation.measurements.values()}
    return units


def _unit(metric: str, trials: Sequence[Trial], spec: StudySpec) -> str:
    units = metric_units(trials, spec)
    if metric not in units:
        raise UnknownNameError("the figures of these trials", metric, list(units))
    return units[metric]
