"""What workers do on a device that others use: they work under its lock, return its memory, and try
again alone if a neighbour had taken it.
"""

from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from nas.cli import main
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import TrialFailedError
from nas.core.measurement import MeasurementPlan
from nas.core.preparation import Preparation
from nas.core.study import DataSpec, Objective, RungSpec, StudySpec, TrainingSpec, WorkersSpec
from nas.core.tasks import Task
from nas.data import Images
from nas.measuring.meters.cuda import CudaMeter
from nas.measuring.meters.lock import DeviceLock, Use
from nas.measuring.runtimes.eager import EagerRuntime
from nas.searching.evaluators.classification import evaluator as module
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.evaluators.contract import StudyContext
from nas.testing.fake_meter import FakeMeter
from nas.training import Trainer

NETWORK = Architecture(
    stem_channels=(4, 4, 8),
    stem=Stem.CIFAR,
    stages=(OsaStage(mid_channels=4, out_channels=8, num_layers=1),) * 3,
)
SPEC = StudySpec(
    name="shared",
    space="osa_tiny",
    objectives=(Objective(metric="error"), Objective(metric="latency")),
    data=DataSpec(dataset="digits", validation_images=100, train_images=64),
    training=TrainingSpec(batch_size=32),
    rungs=(RungSpec(steps=1), RungSpec(steps=2)),
    workers=WorkersSpec(kind="tune", count=2),
)
OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
)


class WatchedMeter(FakeMeter):
    """A meter that each reading of its clock moves, and that counts how often it was vacated."""

    def __init__(self):
        super().__init__()
        self.vacated = 0

    def time_s(self):
        """Return the moved clock."""
        self.now_s += 0.001
        return self.now_s

    def vacate(self):
        """Count the call."""
        self.vacated += 1


@pytest.fixture
def meter(monkeypatch, tmp_path):
    """Return the meter that the evaluator finds, with locks of its own."""
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    meter = WatchedMeter()
    monkeypatch.setattr(module, "find_meter", lambda *_: meter)
    return meter


def evaluated(spec, folder):
    """Evaluate one trial, and return its events."""
    classes = tuple(map(str, range(10)))
    preparation = Preparation(data=spec.data, classes=classes, image_size=32, device={})
    context = StudyContext(spec=spec, preparation=preparation, artifacts=str(folder), folder="")
    return list(Evaluator(context).steps(Task(number=0, architecture=NETWORK, seed=0)))


def noting_use(monkeypatch, meter, owner, name, uses):
    """Let a method note for what the device is held when it is called."""
    method = getattr(owner, name)

    def noted(*args, **kwargs):
        uses.append((f"{owner.__name__}.{name}", DeviceLock(meter.device.identity).holders().use))
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, noted)


def test_all_work_on_the_device_is_under_its_lock(meter, monkeypatch, tmp_path):
    """Building and training share it. Latency and memory use one prepared network, while
    the device is held exclusively.
    """
    uses: list[tuple[str, Use]] = []
    for owner, name in (
        (EagerRuntime, "build"),
        (EagerRuntime, "load"),
        (Images, "to"),
        (Trainer, "__init__"),
        (Trainer, "run"),
        (Trainer, "save"),
    ):
        noting_use(monkeypatch, meter, owner, name, uses)
    metrics = ("error", "latency", "peak_memory")
    objectives = tuple(Objective(metric=metric) for metric in metrics)
    spec = replace(
        SPEC,
        objectives=objectives,
        measurement=MeasurementPlan(warmup_s=0.02, block_s=1e-4, min_time_s=0.02, max_time_s=0.1),
    )
    evaluated(spec, tmp_path)
    assert uses == [
        ("EagerRuntime.build", Use.TRAINING),
        ("EagerRuntime.load", Use.MEASURING),
        ("Images.to", Use.TRAINING),
        ("Images.to", Use.TRAINING),
        ("Trainer.__init__", Use.TRAINING),
        ("Trainer.run", Use.TRAINING),
        ("Trainer.save", Use.TRAINING),
        ("Trainer.run", Use.TRAINING),
        ("Trainer.save", Use.TRAINING),
    ]


def test_a_worker_returns_unused_memory(meter, tmp_path):
    """It does so at the end of every piece of work in which others may wait for the device."""
    evaluated(replace(SPEC, objectives=(Objective(metric="error"),)), tmp_path)
    assert meter.vacated == 5  # beginning, and training and saving for each of two rungs


def test_the_cuda_meter_empties_torchs_cache(monkeypatch):
    """First it waits for the work that still needs the memory."""
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: calls.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty_cache"))
    meter = CudaMeter.__new__(CudaMeter)
    meter._index = 0
    meter.vacate()
    assert calls == ["synchronize", "empty_cache"]


def failing_once(monkeypatch, meter, error, at_run):
    """Let the trainer's run of this number fail. Return the uses of the device in all runs."""
    run, uses = Trainer.run, []

    def failing(trainer, start, end):
        uses.append(DeviceLock(meter.device.identity).holders().use)
        if len(uses) == at_run:
            trainer.model.requires_grad_(requires_grad=False)  # this trainer is of no more use
            raise error
        return run(trainer, start, end)

    monkeypatch.setattr(Trainer, "run", failing)
    return uses


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("at_run", [1, 2])
def test_a_lack_of_memory_beside_others_is_tried_again_alone(
    meter, monkeypatch, tmp_path, error, at_run
):
    """The trial has the errors that it has without the interruption."""
    spec = replace(SPEC, objectives=(Objective(metric="error"),))
    rungs = [event.rung for event in evaluated(spec, tmp_path / "a") if hasattr(event, "rung")]
    uses = failing_once(monkeypatch, meter, error, at_run)
    again = [event.rung for event in evaluated(spec, tmp_path / "b") if hasattr(event, "rung")]
    alone = [Use.TRAINING] * 3
    alone[at_run] = Use.MEASURING
    assert uses == alone
    results = [[(rung.metrics, rung.train_loss) for rung in each] for each in (rungs, again)]
    assert results[0] == results[1]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_lack_of_memory_of_a_single_worker_fails_the_trial(meter, monkeypatch, tmp_path, error):
    """No neighbour can have taken the memory."""
    uses = failing_once(monkeypatch, meter, error, 1)
    spec = replace(SPEC, objectives=(Objective(metric="error"),), workers=WorkersSpec())
    with pytest.raises(TrialFailedError, match="too little memory for this network"):
        evaluated(spec, tmp_path)
    assert uses == [Use.TRAINING]


@pytest.mark.parametrize(
    ("workers", "warned"),
    [
        (WorkersSpec(kind="tune", count=4), True),
        (WorkersSpec(kind="tune", count=4, gpus=0.25), False),
        (WorkersSpec(), False),
    ],
)
def test_workers_without_a_gpu_on_a_machine_with_one_are_a_warning(meter, workers, warned):
    """It says what to write into the study file."""
    meter.device = replace(meter.device, kind="cuda")
    spec = replace(SPEC, objectives=(Objective(metric="macs"),), workers=workers)
    context = StudyContext(spec=spec, artifacts="", folder="")
    warnings = Evaluator.prepare(context).warnings
    assert len(warnings) == warned
    assert all("workers.gpus is 0" in each and "gpus: 0.25" in each for each in warnings)


def test_the_bench_of_training_runs_on_the_device_that_is_named(monkeypatch):
    """A device that is not there is refused before any training."""
    devices = []
    monkeypatch.setattr(
        "nas.bench.training.bench_training",
        lambda **options: devices.append(options["device"]) or (),
    )
    named = CliRunner().invoke(main, ["bench", "training", "--device", "cpu"])
    assert devices == ["cpu"], named.output
    if not torch.cuda.is_available():
        missing = CliRunner().invoke(main, ["bench", "training", "--device", "cuda"])
        assert (missing.exit_code, devices) == (2, ["cpu"])
        assert "no CUDA device" in missing.output
