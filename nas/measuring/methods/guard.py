"""Figures taken again where the device itself spoiled them: it slowed down, or it worked for
others.

What `nas.measuring.meters.watch` sees decides. A figure is tried six times, with pauses of 1, 2, 4,
8 and 16 s in which a device cools and a neighbour may end; then it has a status, a reason and its
samples, and no value.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, ParamSpec

from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.meters.watch import Disturbance

P = ParamSpec("P")
Run = Callable[[], object]
Take = Callable[Concatenate[Run, Meter, MeasurementPlan, P], Measurement]

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)


def watched(take: Take[P]) -> Take[P]:
    """The way to take a figure with the device watched; `take` begins the watch again after its
    warm-up.
    """

    @functools.wraps(take)
    def taken(
        run: Run, meter: Meter, plan: MeasurementPlan, /, *args: P.args, **kwargs: P.kwargs
    ) -> Measurement:
        spoiled: list[str] = []
        while True:
            neighbour = meter.watch.neighbour()
            meter.watch.begin()
            figure = take(run, meter, plan, *args, **kwargs)
            problem = neighbour or meter.watch.problem()
            figure = replace(
                figure,
                details={**figure.details, **meter.watch.details()}
                | ({"spoiled": spoiled} if spoiled else {}),
            )
            if problem is None or figure.value is None:
                return figure
            if len(spoiled) == len(PAUSES_S):
                return _without_value(figure, problem, len(spoiled) + 1)
            meter.sleep(PAUSES_S[len(spoiled)])
            spoiled.append(problem.reason)

    return taken


def _without_value(figure: Measurement, problem: Disturbance, tries: int) -> Measurement:
    return replace(
        figure,
        value=None,
        ci_low=None,
        ci_high=None,
        status=problem.status,
        reason=f"{problem.reason} (the last of {tries} tries)",
    )
