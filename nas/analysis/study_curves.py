"""The curves of a recorded study for the futility rule, read as columns of figures.

Loading thousands of trials as objects takes seconds, and these columns milliseconds.
"""

from typing import TYPE_CHECKING

import numpy as np

from nas.core.stopping import SIZE_METRICS, Curves
from nas.core.study import StudySpec
from nas.core.trial import TrialState

if TYPE_CHECKING:
    from nas.record import Store


def study_curves(store: "Store", spec: StudySpec) -> Curves:
    """Return the curves of the complete trials, as `Curves.of` returns them."""
    metric = spec.modelled
    if metric is None:
        return Curves.of_curves([])
    costs = spec.measured_objectives
    columns = store.columns(spec.name, {*(cost.key for cost in costs), *SIZE_METRICS})
    sizes = np.stack([columns.figures[name].value for name in SIZE_METRICS], axis=1)
    losses = [cost.loss(1.0) * columns.figures[cost.key].value for cost in costs]
    rungs = store.rungs(spec.name, metric.name)
    is_complete = columns.states == TrialState.COMPLETE.value
    usable = np.flatnonzero(is_complete & (sizes > 0).all(axis=1)).tolist()
    planned = len(spec.rungs)  # imported trials may have the last one only
    rows = [row for row in usable if len(rungs.get(int(columns.numbers[row]), ())) >= planned]
    if not rows:
        return Curves.of_curves([])
    errors = [
        [metric.shortfall(value) for value in rungs[number]]
        for number in columns.numbers[rows].tolist()
    ]
    return Curves(
        numbers=columns.numbers[rows],
        errors=np.array(errors, dtype=float),
        costs=np.array(losses).T.reshape(len(columns.numbers), len(costs))[rows],
        sizes=sizes[rows],
    )
