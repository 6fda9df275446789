"""Conditions of a measurement: keys of old plans, memory layouts, device classes."""

import pytest
import torch

from nas.core.errors import InvalidValueError
from nas.core.measurement import MeasurementPlan, Precision, plan_key, same_class
from nas.measuring.methods import prepare
from nas.testing.fake_meter import FakeMeter
from nas.testing.runtime_contract import SmallNetwork

OLD_KEYS = {
    "93cde68358423698": MeasurementPlan(),
    "4a080c26eb9a2aec": MeasurementPlan(precision="bf16", batch_size=8, channels_last=False),
}
"""Keys of plans in records that were written before plans had a memory layout."""


@pytest.mark.parametrize("key", OLD_KEYS)
def test_old_plans_keep_their_keys(key):
    """Figures of a record stay comparable."""
    assert plan_key(OLD_KEYS[key]) == key


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("channels_last", [None, False, True])
def test_a_recorded_plan_is_read_as_it_was(precision, channels_last):
    """It is equal, and so is its key."""
    plan = MeasurementPlan(precision=precision, channels_last=channels_last)
    read = MeasurementPlan.from_dict(plan.to_dict())
    assert read == plan
    assert plan_key(read) == plan_key(plan)


def test_a_record_without_a_layout_was_measured_in_channels_first():
    """This holds in half precision too, where a new plan has channels last."""
    values = MeasurementPlan(precision="bf16").to_dict()
    assert values.pop("channels_last") is True
    assert not MeasurementPlan.from_dict(values).in_channels_last


@pytest.mark.parametrize(
    ("precision", "channels_last", "expected"),
    [
        ("fp32", None, torch.contiguous_format),
        ("bf16", None, torch.channels_last),
        ("fp32", True, torch.channels_last),
        ("bf16", False, torch.contiguous_format),
    ],
)
def test_inputs_and_weights_have_the_layout_of_the_plan(precision, channels_last, expected):
    """The figure names it."""
    plan = MeasurementPlan(
        precision=precision, channels_last=channels_last, image_size=8, batch_size=2
    )
    seen = []

    class Watched(SmallNetwork):
        """Notes the layouts."""

        def forward(self, images):
            """Note the layouts and return features."""
            seen.extend((images, self.layers[0].weight))
            return super().forward(images)

    with prepare(Watched(0), plan, FakeMeter()) as run:
        layout = run.loaded.layout
    assert all(each.is_contiguous(memory_format=expected) for each in seen)
    assert (layout == "channels_last") is (expected is torch.channels_last)


def test_a_layout_is_yes_or_no():
    """Any other word is refused."""
    with pytest.raises(InvalidValueError, match="channels_last must be true or false, not 'NHWC'"):
        MeasurementPlan(channels_last="NHWC")


@pytest.mark.parametrize(
    ("recorded", "present", "comparable"),
    [
        ("A CPU, torch 2.14.1+cpu", "A CPU, torch 2.14", True),
        ("A CPU, torch 2.13.0", "A CPU, torch 2.14", False),
        ("A CPU, torch 2.14", "A CPU, torch 2.14, onnxruntime 1.32", True),
        ("A CPU, torch 2.14, onnxruntime 1.31", "A CPU, torch 2.14, onnxruntime 1.32", False),
        ("A CPU, torch 2.14, openvino 2026.4", "A CPU, torch 2.14", False),
        ("A CPU", "A CPU with another name", False),
        (None, "A CPU", False),
        (None, None, True),
    ],
)
def test_classes_are_compared_by_major_and_minor_versions(recorded, present, comparable):
    """Older records have the whole version of torch, and none of other runtimes."""
    assert same_class(recorded, present) is comparable
