"""Every runtime that a CPU has runs the same network: the same outputs as PyTorch's own, one after
the other.
"""

import pytest
import torch

from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import InvalidValueError, TrialFailedError
from nas.core.measurement import MeasurementPlan, Precision, Status
from nas.measuring.methods import OnnxFile, peak_memory, prepare
from nas.measuring.metrics import Subject
from nas.model.onnx_file import to_onnx
from nas.testing.fake_meter import FakeMeter

TINY = Architecture(
    stem_channels=(8, 8, 8),
    stem=Stem.CIFAR,
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 3,
)
METER = FakeMeter()


@pytest.fixture(scope="module")
def model():
    """A calibrated network of the CIFAR space."""
    return Subject(
        architecture=TINY, plan=MeasurementPlan(), num_classes=10, meter=METER
    ).model.eval()


@pytest.fixture(scope="module")
def onnx(model):
    """The same as an ONNX file."""
    pytest.importorskip("onnxruntime")
    return OnnxFile(data=to_onnx(model, 32), name="net.onnx")


def outputs(network, plan):
    """Of all eight inputs, as tensors."""
    with prepare(network, plan, METER) as run:
        found = [run() for _ in run.inputs]
        return [
            each
            if isinstance(each, torch.Tensor)
            else torch.from_numpy(each.copy_outputs_to_cpu()[0])
            for each in found
        ]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


def test_onnx_runtime_gives_torchs_outputs(model, onnx):
    """A network that is exported on the way and an ONNX file that is there already, batch 2."""
    plan = MeasurementPlan(runtime="onnxruntime", batch_size=2)
    expected = outputs(model, MeasurementPlan(batch_size=2))
    assert_same(outputs(model, plan), expected)
    assert_same(outputs(onnx, plan), expected)


@pytest.mark.slow
def test_the_compiled_network_gives_torchs_outputs(model):
    """`torch.compile` with its own C++ code."""
    assert_same(
        outputs(model, MeasurementPlan(runtime="compile")), outputs(model, MeasurementPlan())
    )


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            MeasurementPlan(),
            "net.onnx is an ONNX file: measure it with runtime onnxruntime, not eager",
        ),
        (
            MeasurementPlan(runtime="onnxruntime", image_size=48),
            r"takes images .*48, 48\]; choose --batch and --size",
        ),
        (MeasurementPlan(runtime="onnxruntime", precision=Precision.FP16), "runs in fp32"),
        (MeasurementPlan(runtime="graph"), "needs an NVIDIA GPU"),
    ],
)
def test_what_a_file_cannot_do_is_one_clear_line(onnx, plan, message):
    """Another runtime, an image size that is not the file's, a precision it does not have."""
    with pytest.raises(InvalidValueError, match=message), prepare(onnx, plan, METER):
        pass


def test_rubbish_is_no_onnx_file():
    """The message has the file's name."""
    pytest.importorskip("onnxruntime")
    with (
        pytest.raises(InvalidValueError, match=r"ONNX Runtime cannot load some\.onnx"),
        prepare(
            OnnxFile(data=b"rubbish", name="some.onnx"),
            MeasurementPlan(runtime="onnxruntime"),
            METER,
        ),
    ):
        pass


def test_a_network_that_takes_no_images_fails_in_one_line():
    """A wrong input shape, told by torch."""
    with (
        pytest.raises(TrialFailedError, match="fails on a batch 1 of 32 pixels"),
        prepare(torch.nn.Linear(7, 2), MeasurementPlan(), METER),
    ):
        pass


def test_peak_memory_is_not_guessed_outside_eager(model):
    """Nothing of ONNX Runtime's memory is seen by torch: a reason, and no number."""
    pytest.importorskip("onnxruntime")
    plan = MeasurementPlan(runtime="onnxruntime")
    with prepare(model, plan, METER) as run:
        found = peak_memory(run, METER, plan)
    assert (found.value, found.status) == (None, Status.UNAVAILABLE)
