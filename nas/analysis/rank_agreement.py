"""How far the figures of a study can be trusted: statuses, widths of intervals, and whether rungs
agree.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core.measurement import Kind, Status
from nas.core.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Kendall's tau (b) between the errors at two rungs, over the `trials` that reached both;
    `top_tau` over the `top` trials that are the best quarter at the second one, None where there
    are fewer than `FEWEST_TOP` or no order.
    """

    first: float
    second: float
    tau: float
    trials: int
    top_tau: float | None
    top: int


FEWEST_TOP = 5


def agreement(first: float, second: float, errors: NDArray[np.float64]) -> Agreement | None:
    """Of the errors (n, 2) at two rungs; None for fewer than three trials or errors that are all
    the same.
    """
    tau = _tau(errors)
    if len(errors) < 3 or tau is None:
        return None
    best = errors[np.argsort(errors[:, 1], kind="stable")[: -(-len(errors) // 4)]]
    return Agreement(
        first=first,
        second=second,
        tau=tau,
        trials=len(errors),
        top=len(best),
        top_tau=_tau(best) if len(best) >= FEWEST_TOP else None,
    )


def _tau(errors: NDArray[np.float64]) -> float | None:
    from scipy.stats import kendalltau

    return (
        float(kendalltau(*errors.T).statistic)
        if len(errors) and (np.ptp(errors, axis=0) > 0).all()
        else None
    )


def agreements(trials: Sequence[Trial]) -> list[Agreement]:
    """Every pair of rungs that at least three trials reached, and whose errors are not all the
    same.
    """
    return agreements_of(
        [
            {rung.epochs: rung.error for rung in t.evaluation.rungs}
            for t in trials
            if t.duplicate_of is None
        ]
    )


def agreements_of(errors: Sequence[Mapping[float, float]]) -> list[Agreement]:
    """The same, of each network's errors by epochs."""
    epochs = sorted({epoch for known in errors for epoch in known})
    found = []
    for index, first in enumerate(epochs):
        for second in epochs[index + 1 :]:
            both = np.array(
                [(known[first], known[second]) for known in errors if {first, second} <= set(known)]
            )
            found.append(agreement(first, second, both.reshape(-1, 2)))
    return [each for each in found if each is not None]


def half_width(low: float | None, high: float | None, value: float | None) -> float | None:
    """The interval's half width as a share of the value; None without a value or an interval."""
    return None if not value or low is None or high is None else abs((high - low) / 2 / value)


def measured(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Of each metric that is not counted: statuses, readings, relative half widths, rejected cycles
    of certified latencies, method, devices, plan.
    """
    figures = [
        m
        for t in trials
        if t.duplicate_of is None
        for m in t.evaluation.measurements.values()
        if m.kind is not Kind.COUNTED
    ]
    rows = []
    for metric in dict.fromkeys(m.metric for m in figures):
        own = [m for m in figures if m.metric == metric]
        widths = [
            w for w in (half_width(m.ci_low, m.ci_high, m.value) for m in own) if w is not None
        ]
        statuses = Counter(m.status for m in own)
        rows.append(
            {
                "metric": metric,
                "kinds": ", ".join(sorted({m.kind.value for m in own})),
                "statuses": {status.value: statuses[status] for status in Status},
                "median_half_width": float(np.median(widths)) if widths else None,
                "largest_half_width": max(widths, default=None),
                "samples": int(np.median([len(m.samples) for m in own])),
                "methods": sorted({m.method for m in own if m.value is not None}),
                "devices": sorted({m.device.device_class for m in own if m.device}),
                "plan": next((m.plan.to_dict() for m in own if m.plan), None),
                "rejected": sum(len(m.details.get("rejected", ())) for m in own),
                "reasons": dict(Counter(m.reason for m in own if m.reason).most_common(5)),
            }
        )
    return rows
