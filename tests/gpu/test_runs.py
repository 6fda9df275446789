"""What the existing code promises on a GPU beyond its meter: precisions and layouts against eager's
outputs, training without waits and with the same bits, a whole trial, and workers that share a GPU.
"""

from dataclasses import replace

import pytest
import torch

from nas.core import plugins
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.measurement import MeasurementPlan, Precision
from nas.core.preparation import Preparation
from nas.core.study import (
    Budget,
    DataSpec,
    Objective,
    RungSpec,
    StudySpec,
    TrainingSpec,
    WorkersSpec,
)
from nas.core.tasks import Measured, Task, Trained
from nas.core.trial import TrialState
from nas.data import Images
from nas.measuring.meters import find_meter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods import build, prepare
from nas.measuring.metrics import seeded_network
from nas.measuring.runtimes import runtime_problem
from nas.model import build as build_model
from nas.record import Store
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.evaluators.contract import StudyContext
from nas.searching.launch import open_search
from nas.training import Numerics, Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

NETWORK = Architecture(
    stem=Stem.CIFAR,
    stem_channels=(16, 16, 16),
    stages=(OsaStage(mid_channels=16, out_channels=32, num_layers=2),) * 3,
)
TOLERANCES = {
    Precision.FP32: 1e-4,
    Precision.TF32: 5e-3,
    Precision.FP16: 2e-2,
    Precision.BF16: 1e-1,
}
"""Largest difference from eager's outputs in fp32, as a share of the largest output: several times
the rounding of a mantissa of 23, 10, 10 and 7 bits, through about ten layers.
"""
NUMERICS = (
    Numerics(),
    Numerics(conv_tf32=True),
    Numerics(precision="bf16", channels_last=True),
)
STEPS = 6
SPEC = StudySpec(
    name="gpu",
    space="osa_tiny",
    objectives=(Objective(metric="error"), Objective(metric="latency")),
    data=DataSpec(dataset="digits", validation_images=100, train_images=256),
    training=TrainingSpec(batch_size=64),
    rungs=(RungSpec(steps=2), RungSpec(steps=4)),
    measurement=MeasurementPlan(runtime="graph"),
)


def outputs(plan):
    """Return the network's outputs for all inputs under the plan, in fp32 on the CPU."""
    network = seeded_network(NETWORK, 10, plan.image_size)
    with find_meter("cuda") as meter:
        built = build(network, plan, meter)
        with (
            DeviceLock(meter.device.identity).exclusive(),
            prepare(built, plan, meter) as run,
        ):
            return torch.stack([run().float().cpu() for _ in run.inputs])


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["eager", "graph", "compile"])
@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_runtime_and_precision_gives_eagers_outputs(runtime, precision, channels_last):
    """The reference is eager PyTorch in fp32, channels first."""
    plan = MeasurementPlan(
        runtime=runtime, precision=precision, batch_size=4, channels_last=channels_last
    )
    if problem := runtime_problem("cuda", plan):
        pytest.skip(problem)
    expected = outputs(MeasurementPlan(batch_size=4))
    difference = (outputs(plan) - expected).abs().max()
    assert difference <= TOLERANCES[precision] * expected.abs().max()


def trainer(numerics):
    """Return a trainer on random images, which is the same each time."""
    generator = torch.Generator().manual_seed(0)
    images = Images(
        torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8, generator=generator),
        torch.randint(0, 10, (256,), generator=generator),
    ).to("cuda")
    torch.manual_seed(0)
    return Trainer(
        model=build_model(NETWORK, 10),
        train=images,
        validation=images,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        spec=TrainingSpec(batch_size=64),
        numerics=numerics,
        device="cuda",
    )


def weights(trained):
    """Return all numbers of the trained network."""
    return {name: value.cpu() for name, value in trained.model.state_dict().items()}


@pytest.mark.parametrize("numerics", NUMERICS, ids=str)
def test_a_resumed_training_has_the_same_bits(numerics, tmp_path):
    """One training runs to its end, the other one stops in the middle and resumes."""
    whole, first, second = trainer(numerics), trainer(numerics), trainer(numerics)
    middle, end = 2 / 4, 4 / 4  # epochs of four steps
    for each in (whole, first):
        each.run(0.0, middle)
    first.save(tmp_path / "middle.safetensors", "digest")
    second.load(tmp_path / "middle.safetensors", "digest")
    for each in (whole, second):
        each.run(middle, end)
    resumed = weights(second)
    assert all(value.equal(resumed[name]) for name, value in weights(whole).items())


@pytest.mark.parametrize("numerics", NUMERICS, ids=str)
def test_a_training_step_waits_for_nothing(numerics):
    """Torch raises an error if the host waits for the device."""
    trained = trainer(numerics)
    trained.model.train()
    with numerics.settings(1):
        trained.step(0, 1e-3)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step in range(1, STEPS):
                trained.step(step, 1e-3)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
def test_a_trial_from_start_to_end(tmp_path):
    """It is measured in a CUDA graph, trained to both rungs, and every figure is the GPU's."""
    context = StudyContext(spec=SPEC, artifacts=str(tmp_path), folder="")
    context = replace(context, preparation=Evaluator.prepare(context))
    assert isinstance(context.preparation, Preparation)
    events = list(Evaluator(context).steps(Task(number=0, architecture=NETWORK, seed=0)))
    figures = [
        figure for event in events if isinstance(event, Measured) for figure in event.measurements
    ]
    (latency,) = (figure for figure in figures if figure.metric == "latency")
    assert latency.value is not None, latency.reason
    assert latency.device is not None
    assert latency.device.kind == "cuda"
    assert latency.details["runtime"]["name"] == "graph"
    assert len([event for event in events if isinstance(event, Trained)]) == 2


@pytest.mark.long
def test_two_workers_on_half_a_gpu_each(tmp_path):
    """Four trials are complete, and none was measured while the other worker used the GPU."""
    pytest.importorskip("ray")
    spec = replace(
        SPEC,
        sampler="random",
        budget=Budget(trials=4, certify=False, fresh=0),
        workers=WorkersSpec(kind="tune", count=2, gpus=0.5),
    )
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=plugins.load("nas.workers", "tune")(None),
            folder=tmp_path,
            artifacts=tmp_path,
        ) as search,
    ):
        search.run()
        trials = store.trials("gpu")
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert not any(
        trial.evaluation.measurements["latency"].details.get("spoiled") for trial in trials
    )
