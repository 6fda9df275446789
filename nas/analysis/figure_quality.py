"""Trustworthiness of the figures of a study: their statuses and the widths of their intervals."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.core.measurement import Kind, Measurement, Status
from nas.core.trial import Trial

MAX_REASONS = 5
"""Largest number of reasons that are listed for the missing figures of a metric."""


def figure_quality(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return a summary of the figures of each metric that is not counted, without duplicates.

    A summary holds statuses, numbers of samples, relative half widths of the intervals, rejected
    cycles of certified latencies, methods, devices and the plan, as JSON values.
    """
    figures: dict[str, list[Measurement]] = {}
    for trial in trials:
        if trial.duplicate_of is None:
            for figure in trial.evaluation.measurements.values():
                if figure.kind is not Kind.COUNTED:
                    figures.setdefault(figure.metric, []).append(figure)
    return [_summary(metric, of_metric) for metric, of_metric in figures.items()]


def _summary(metric: str, figures: Sequence[Measurement]) -> dict[str, Any]:
    widths = [width for figure in figures if (width := _relative_half_width(figure)) is not None]
    statuses = Counter(figure.status for figure in figures)
    reasons = Counter(figure.reason for figure in figures if figure.reason)
    return {
        "metric": metric,
        "kinds": ", ".join(sorted({figure.kind.value for figure in figures})),
        "statuses": {status.value: statuses[status] for status in Status},
        "median_half_width": float(np.median(widths)) if widths else None,
        "largest_half_width": max(widths, default=None),
        "samples": int(np.median([len(figure.samples) for figure in figures])),
        "methods": sorted({figure.method for figure in figures if figure.value is not None}),
        "devices": sorted({figure.device.device_class for figure in figures if figure.device}),
        "plan": next((figure.plan.to_dict() for figure in figures if figure.plan), None),
        "rejected": sum(len(figure.details.get("rejected", ())) for figure in figures),
        "reasons": dict(reasons.most_common(MAX_REASONS)),
    }


def _relative_half_width(figure: Measurement) -> float | None:
    """Return the interval's half width as a share of the value, None without either."""
    if not figure.value or figure.ci_low is None or figure.ci_high is None:
        return None
    return abs((figure.ci_high - figure.ci_low) / 2 / figure.value)
