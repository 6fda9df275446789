"""The conditions of a study's figures, as exports state them and imports compare them.

A figure may share a front with the study's own only if its conditions are equal: the device class
and the measurement plan of a measured figure, and the recipe of a trained one.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from nas.core.measurement import Measurement, plan_key
from nas.core.trial import Trial
from nas.record.records import StudyRecord

RECIPE_KEYS = ("evaluator", "evaluator_settings", "seed", "rungs", "training", "trained")
"""Keys of a study on which trained figures depend, besides its data. The seed chooses the
validation images.
"""


def conditions(record: StudyRecord, trials: Iterable[Trial]) -> dict[str, str]:
    """Return the conditions of a study's objectives by the name of their column.

    They are `recipe`, and METRIC_device, METRIC_plan and METRIC_method of measured figures.
    """
    found = {"recipe": recipe_digest(record)} if record.spec.needs_training else {}
    keys = [objective.key for objective in record.spec.measured_objectives]
    for trial in trials:
        for key in keys:
            figure = trial.evaluation.measurements.get(key)
            if figure is not None and figure.value is not None:
                found = figure_conditions(figure) | found
    return found


def figure_conditions(figure: Measurement) -> dict[str, str]:
    """Return the conditions of one figure, none if it was measured on no device."""
    if figure.device is None:
        return {}
    stated = {f"{figure.metric}_device": figure.device.device_class}
    if figure.plan is not None:
        stated[f"{figure.metric}_plan"] = plan_key(figure.plan)
    if figure.unit == "J":
        stated[f"{figure.metric}_method"] = figure.method
    return stated


def recipe_digest(record: StudyRecord) -> str:
    """Return the beginning of a SHA-256, equal for studies whose trained figures are comparable.

    It is that of the recipe of brief training, the data set, the resolution and the code that the
    study names. An image folder counts by its files, wherever it is.
    """
    settings = record.spec.to_dict()
    identity = record.identity or {}
    data: dict[str, Any] = {**settings["data"], "dataset": record.dataset, "fallback": None}
    if files := identity.get("files"):
        data["folder"] = None
    code = identity.get("code", {})
    parts = {
        **{key: settings[key] for key in RECIPE_KEYS},
        "data": data,
        "classes": record.classes,
        "files": files or {},
        "code": {label: code[label] for label in code if label.startswith(("evaluator", "data"))},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
