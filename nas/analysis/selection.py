"""Which members of a front to show: conditions such as `latency < 4 ms`, and an order."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence

from nas.core.errors import InvalidValueError, UnknownNameError
from nas.core.trial import Trial
from nas.core.units import parse_quantity

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|<|>|=)\s*(.+?)\s*")

Condition = Callable[[Trial], bool]


def condition(text: str, trials: Sequence[Trial]) -> Condition:
    """What `METRIC < VALUE` asks of a trial; a trial without that figure does not fulfil it.

    Raises `InvalidValueError` for what is no condition, `UnknownNameError` for a metric that no
    trial has.
    """
    parts = CONDITION.fullmatch(text)
    if parts is None:
        message = f"{text!r} is no condition; write one as in 'latency < 4 ms' or 'error <= 30 %'"
        raise InvalidValueError(message)
    metric, sign, given = parts.groups()
    try:
        bound = parse_quantity(given, _unit(metric, trials))
    except ValueError as error:
        message = f"{text!r}: {error}"
        raise InvalidValueError(message) from None
    compare = COMPARISONS[sign]

    def holds(trial: Trial) -> bool:
        value = trial.evaluation.value(metric)
        return value is not None and compare(value, bound)

    return holds


def ordered(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """By this figure, the smallest first; trials without it last. Raises `UnknownNameError`."""
    _unit(metric, trials)
    return sorted(
        trials,
        key=lambda trial: (
            trial.evaluation.value(metric) is None,
            trial.evaluation.value(metric) or 0.0,
            trial.number,
        ),
    )


def _unit(metric: str, trials: Sequence[Trial]) -> str:
    units = {
        m.metric: m.unit for trial in trials for m in trial.evaluation.measurements.values()
    } | {"error": "1"}
    if metric not in units:
        raise UnknownNameError("the figures of these trials", metric, list(units))
    return units[metric]
