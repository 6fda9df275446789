"""Settings that are built in Python refuse what is no number of their kind, in one line."""

import math

import pytest

from nas.core.errors import InvalidValueError
from nas.core.measurement import MeasurementPlan
from nas.core.recipe import Recipe
from nas.core.study import Budget, DataSpec, Objective, RungSpec, TrainingSpec, WorkersSpec

WRONG = (math.inf, -math.inf, math.nan, 10**400, -(10**400), 10**5000, "1", [1], True, {}, b"1")
WHOLE = {
    RungSpec: ("steps", "images"),
    Budget: ("trials", "proposals"),
    DataSpec: ("validation_images", "train_images"),
    MeasurementPlan: ("batch_size", "image_size", "threads", "min_blocks"),
    Recipe: ("teacher",),
    TrainingSpec: ("batch_size", "translate", "cutout"),
    WorkersSpec: ("count", "cpus", "retries"),
}
REAL = {
    RungSpec: ("epochs",),
    Budget: ("wall_time_s", "epochs", "device_s", "energy_j", "fresh"),
    MeasurementPlan: ("warmup_s", "block_s", "min_time_s", "max_time_s", "busy_wait_s"),
    Objective: ("limit", "reference"),
    Recipe: ("epochs", "average", "distillation", "temperature"),
    TrainingSpec: ("learning_rate", "momentum", "weight_decay", "label_smoothing", "warmup"),
    WorkersSpec: ("gpus",),
}


def fields(kinds):
    return [(kind, name) for kind, names in kinds.items() for name in names]


def require_refused(kind, name, value):
    others = {"metric": "error"} if kind is Objective else {}
    with pytest.raises(InvalidValueError) as caught:
        kind(**others, **{name: value})
    text = str(caught.value)
    assert text.startswith(name)
    assert len(text) < 200
    assert "\n" not in text


@pytest.mark.parametrize(("kind", "name"), fields(WHOLE) + fields(REAL))
def test_what_is_no_finite_number_is_refused(kind, name):
    """A rung after infinitely many epochs would never be reached."""
    for value in WRONG:
        require_refused(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), fields(WHOLE))
def test_a_count_is_a_whole_number(kind, name):
    for value in (1.5, 2.0):
        require_refused(kind, name, value)
