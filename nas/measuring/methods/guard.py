"""Repetition of figures that the device itself spoiled: it slowed down, or it worked for others.

`nas.measuring.meters.watch` decides what spoils a figure. A figure is tried six times, with pauses
of 1, 2, 4, 8 and 16 s in which a device cools and a neighbour may end. After that it has a status,
a reason and its samples, and no value.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, ParamSpec

from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter, Run
from nas.measuring.meters.watch import Disturbance

P = ParamSpec("P")
Method = Callable[Concatenate[Run, Meter, MeasurementPlan, P], Measurement]
"""A function that measures one figure of a network."""

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses between the tries."""


def watched(method: Method[P]) -> Method[P]:
    """Watch the device while the method measures, and repeat the figure if the device spoiled it.

    The method begins the watch again after its warm-up.
    """

    @functools.wraps(method)
    def watched_method(
        run: Run, meter: Meter, plan: MeasurementPlan, /, *args: P.args, **kwargs: P.kwargs
    ) -> Measurement:
        spoiled: list[str] = []
        while True:
            neighbour = meter.watch.neighbour()
            meter.watch.begin()
            figure = method(run, meter, plan, *args, **kwargs)
            problem = neighbour or meter.watch.problem()
            details = {**figure.details, **meter.watch.details()}
            if spoiled:
                details["spoiled"] = spoiled
            figure = replace(figure, details=details)
            if problem is None or figure.value is None:
                return figure
            if len(spoiled) == len(PAUSES_S):
                return without_value(figure, problem, f" (the last of {len(spoiled) + 1} tries)")
            meter.sleep(PAUSES_S[len(spoiled)])
            spoiled.append(problem.reason)

    return watched_method


def without_value(figure: Measurement, problem: Disturbance, tries: str = "") -> Measurement:
    """Return the figure without its value, with the status and the reason of the disturbance."""
    return replace(
        figure,
        value=None,
        ci_low=None,
        ci_high=None,
        status=problem.status,
        reason=problem.reason + tries,
    )
