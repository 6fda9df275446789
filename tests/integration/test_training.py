"""Brief training of real networks: it learns, it is reproducible to the bit and resumable, and it
reports failures.
"""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas.bench.training import bench_training
from nas.core.architecture import Architecture, Attention, OsaStage, Stem
from nas.core.errors import CorruptFileError, InvalidValueError, NasError, TrialFailedError
from nas.core.study import AutoPrecision, DataSpec, TrainingSpec
from nas.data import Dataset, Images, load, split
from nas.data.cifar import CIFAR10
from nas.model import build
from nas.searching.evaluators.classification.evaluator import fails_trial, oom_fails_trial
from nas.training import Numerics, Trainer, choose_numerics, read_checkpoint, write_checkpoint
from nas.training.full import RunningMean
from nas.training.numerics import candidates
from nas.training.trainer import sgd, validation_batch

SPEC = TrainingSpec(batch_size=64, learning_rate=0.1, cutout=8)
DIGEST = "0123456789abcdef"


def architecture(*stages: tuple[int, int], attention: Attention = Attention.NONE) -> Architecture:
    return Architecture(
        stem=Stem.CIFAR,
        stem_channels=(8, 8, 8),
        attention=attention,
        stages=tuple(
            OsaStage(mid_channels=mid, out_channels=out, num_layers=2) for mid, out in stages
        ),
    )


NETWORK = architecture((8, 8), (8, 16), (8, 16), attention=Attention.ALL)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataSpec(dataset="digits", validation_images=200))


def trainer(
    dataset: Dataset,
    *,
    spec: TrainingSpec = SPEC,
    numerics: Numerics | None = None,
    seed: int = 3,
    network: Architecture = NETWORK,
    validation_images: int = 200,
    **settings: object,
) -> Trainer:
    train, validation = split(dataset.train.labels, validation_images, 0)
    torch.manual_seed(seed)
    return Trainer(
        model=build(network, len(dataset.classes)),
        train=dataset.train.take(train),
        validation=dataset.train.take(validation),
        mean=dataset.mean,
        std=dataset.std,
        spec=spec,
        numerics=numerics or Numerics(),
        seed=seed,
        threads=1,
        **settings,
    )


def weights(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.model.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


LAYOUTS = [
    Numerics(channels_last=True),
    Numerics(channels_last=False),
    Numerics(precision=AutoPrecision.BF16),
]


@pytest.mark.parametrize("numerics", LAYOUTS, ids=["fp32 nhwc", "fp32 nchw", "bf16 nhwc"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(digits, numerics):
    """Weights, error and loss of two trainings with one seed are equal."""
    first, again, other = (trainer(digits, numerics=numerics, seed=seed) for seed in (3, 3, 4))
    rungs = [one.run(0, 0.5) for one in (first, again, other)]
    assert_equal(weights(first), weights(again))
    assert (rungs[0].metrics["error"], rungs[0].train_loss) == (
        rungs[1].metrics["error"],
        rungs[1].train_loss,
    )
    assert rungs[0].train_loss != rungs[2].train_loss


def test_a_resumed_training_gives_the_bits_of_an_uninterrupted_one(digits, tmp_path):
    """The rungs end in the middle of epochs, and the weights come from the checkpoint only."""
    whole = trainer(digits)
    for start, end in ((0, 0.4), (0.4, 1.3)):
        expected = whole.run(start, end)
    stopped = trainer(digits)
    stopped.run(0, 0.4)
    stopped.save(tmp_path / "rung", DIGEST)
    resumed = trainer(digits, seed=3)
    resumed.model.apply(
        lambda module: module.reset_parameters() if isinstance(module, nn.Conv2d) else None
    )
    assert resumed.load(tmp_path / "rung", DIGEST) == 0.4
    rung = resumed.run(0.4, 1.3)
    assert (rung.metrics["error"], rung.train_loss) == (
        expected.metrics["error"],
        expected.train_loss,
    )
    assert_equal(weights(resumed), weights(whole))


def test_a_resumed_training_drops_the_same_outputs(digits, tmp_path):
    """Other random numbers are drawn between the two parts, as another process would."""

    def dropping() -> Trainer:
        one = trainer(digits)
        one.model.head.fc = nn.Sequential(nn.Dropout(0.5), one.model.head.fc)
        return one

    whole = dropping()
    whole.run(0, 0.4)
    whole.save(tmp_path / "rung", DIGEST)
    whole.run(0.4, 0.8)
    resumed = dropping()
    resumed.load(tmp_path / "rung", DIGEST)
    torch.rand(7)
    resumed.run(0.4, 0.8)
    assert_equal(weights(resumed), weights(whole))


SHAPES = [((8, 8), (8, 16), (8, 16 + 8 * index)) for index in range(8)]


@pytest.mark.long
@pytest.mark.slow
def test_each_of_eight_networks_of_a_worker_is_trained_compiled(digits, monkeypatch):
    """Each has a graph for training and one for validation, and only graphs run."""
    runs = []

    def backend(graph, _example):
        def run(*values):
            runs.append(graph)
            return graph.forward(*values)

        return run

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    for shape in SHAPES:
        runs.clear()
        one = trainer(digits, numerics=Numerics(compile=True), network=architecture(*shape))
        one.run(0, 0.1)
        one.run(0.1, 0.2)
        steps = round(0.2 * one.steps_per_epoch)
        assert len(runs) == steps + 2  # a batch of validation after each rung
        assert len(set(map(id, runs))) == 2


@pytest.mark.slow
def test_compiled_training_has_the_losses_of_eager_training(digits, monkeypatch):
    """Dynamo's own eager backend leaves the arithmetic as it is, so the losses are equal."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    rungs = [
        trainer(digits, numerics=Numerics(compile=each)).run(0, 0.25) for each in (True, False)
    ]
    assert rungs[0].train_loss == rungs[1].train_loss
    assert rungs[0].numerics["compile"] is True


class Watching(nn.Module):
    """A network that records the settings under which it runs."""

    def __init__(self, seen):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
        self.layers(torch.zeros(1, 3, 32, 32))
        self.seen = seen

    def forward(self, images):
        """Return logits."""
        cudnn = torch.backends.cudnn
        self.seen.append((cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark))
        assert torch.get_float32_matmul_precision() == "highest"
        return self.layers(images)


@pytest.mark.parametrize("conv_tf32", [False, True])
def test_a_training_sets_and_records_tf32_and_restores_it(digits, conv_tf32):
    """Torch allows TF32 in convolutions by default, and then fp32 is not IEEE fp32 on a GPU."""
    before, seen = torch.backends.cudnn.allow_tf32, []
    one = trainer(digits, numerics=Numerics(conv_tf32=conv_tf32))
    one.model = one._forward = Watching(seen)
    rung = one.run(0, 0.1)
    assert set(seen) == {(conv_tf32, True, False)}
    assert rung.numerics["conv_tf32"] is conv_tf32
    assert torch.backends.cudnn.allow_tf32 is before is True


def test_number_formats_are_timed_under_the_settings_of_a_training():
    """With other algorithms of cuDNN another format could be the fastest."""
    seen = []
    choose_numerics(replace(SPEC, batch_size=8), "cpu", lambda: Watching(seen), rounds=1)
    assert set(seen) == {(False, True, False)}


def test_a_step_makes_no_tensor_from_numbers(digits):
    """On a GPU such a tensor is copied from pageable memory, and the host waits for the copy."""
    one = trainer(digits, numerics=Numerics(precision=AutoPrecision.BF16))
    one.step(0, 0.1)
    with Operations() as operations:
        one.step(1, 0.1)
    assert "aten.convolution.default" in operations.names
    assert not {name for name in operations.names if "lift_fresh" in name}


class Operations(TorchDispatchMode):
    """Records the names of operations. Tensors that are made from numbers show as `lift_fresh`."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Record and run it."""
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def test_validation_batches_are_large_on_a_gpu_and_bounded_in_pixels():
    """A GPU judges 5,000 CIFAR images at once. Large images and CPUs have batches of 500."""
    sizes = [validation_batch(*each) for each in (("cpu", 32), ("cuda", 32), ("cuda", 224))]
    assert sizes == [500, 5000, 500]


def test_the_running_mean_is_the_formula_applied_to_each_value():
    """The second way computes value by value and copies BatchNorm's counters. The mean of a resumed
    training continues from the stored one.
    """
    model = build(NETWORK, 10)
    mean = RunningMean(model)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for decay in (0.5, 0.9):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(1)
        mean.update(decay)
        for name, value in model.state_dict().items():
            old = expected[name]
            expected[name] = old + (1 - decay) * (value - old) if old.is_floating_point() else value
    for name, value in expected.items():
        torch.testing.assert_close(mean.values[name], value, rtol=1e-6, atol=1e-6)
    other = RunningMean(model)
    other.load(mean.values)
    assert_equal(other.values, mean.values)
    with pytest.raises(RuntimeError, match="of other weights"):
        other.load({})


def test_an_epoch_uses_every_image_once_in_its_own_order(digits):
    """The order depends on the number of the epoch only."""
    one = trainer(digits)
    orders = [one._epoch_order(epoch).clone() for epoch in (0, 1, 0)]
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[1].sort().values, torch.arange(len(one.train_images)))


def test_a_rung_reports_its_images_and_numerics(digits):
    """1,237 images make 19 batches of 64. Half of them, rounded to even, are 10."""
    rung = trainer(digits).run(0, 0.5)
    assert rung.images == 10 * 64
    assert rung.numerics["precision"] == "fp32"
    assert rung.numerics["threads"] == 1
    assert rung.train_s > 0
    assert rung.validation_s > 0


def test_time_spent_aside_does_not_count(digits):
    """If the clock only moves while the trainer steps aside, training takes no time."""
    now = [0.0]

    def step_aside() -> None:
        now[0] += 5.0

    rung = trainer(digits, step_aside=step_aside, clock=lambda: now[0]).run(0, 0.25)
    assert now[0] == 5.0 * (5 + 1)  # after each of five steps and after one batch of validation
    assert (rung.train_s, rung.validation_s) == (0.0, 0.0)


def test_a_loss_that_is_not_finite_fails_with_its_step_and_learning_rate(digits):
    """A learning rate of 1e30 gives such a loss."""
    spec = replace(SPEC, learning_rate=1e30)
    with pytest.raises(
        TrialFailedError,
        match=r"loss is (nan|inf) at step \d+, \d+ of 19 in its rung, at learning r",
    ):
        trainer(digits, spec=spec).run(0, 1)


def test_validation_outputs_that_are_not_finite_fail_the_trial(digits):
    """A share of wrong answers among NaN would mean nothing."""
    one = trainer(digits)
    one.model.get_buffer("stem.0.bn.running_var").fill_(float("nan"))
    with pytest.raises(TrialFailedError, match="outputs for the validation images are not finite"):
        one._judge(one.validation_images)


def test_a_rung_starts_where_the_model_stands_and_has_at_least_one_step(digits):
    """Any other rung is refused."""
    one = trainer(digits)
    with pytest.raises(InvalidValueError, match=r"stands at 0\.0 epochs, not at 1"):
        one.run(1, 2)
    with pytest.raises(InvalidValueError, match="no whole batch of 64 images"):
        one.run(0, 0.001)


def test_weight_decay_acts_on_convolutions_and_linear_layers_only():
    """BatchNorm and biases have none."""
    model = build(NETWORK, 10)
    groups = sgd(model, SPEC).param_groups
    decayed = {
        id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]
    }
    expected = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    assert decayed == expected
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_one_step_is_nesterov_sgd_on_the_smoothed_loss(digits):
    """The second way are the formulas, with momentum buffers that start as the gradient (Sutskever
    et al., 2013).
    """
    spec = replace(SPEC, flip=False, translate=0, cutout=0)
    one = trainer(digits, spec=spec)
    before = weights(one)
    chosen = one._epoch_order(0)[:64]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (digits.mean, digits.std))
    inputs = (one.train_images.images[chosen] / 255 - mean) / std
    twin = build(NETWORK, 10)
    twin.load_state_dict(before)
    log_shares = twin(inputs).log_softmax(1)
    targets = nn.functional.one_hot(one.train_images.labels[chosen], 10) * 0.9 + 0.01
    (-(targets * log_shares).sum(1).mean()).backward()
    one.step(0, 0.05)
    name = "head.fc.weight"
    gradient = twin.get_parameter(name).grad + spec.weight_decay * before[name]
    torch.testing.assert_close(
        weights(one)[name],
        before[name] - 0.05 * (1 + spec.momentum) * gradient,
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("numerics", LAYOUTS, ids=["fp32 nhwc", "fp32 nchw", "bf16 nhwc"])
def test_momentum_begins_at_zero_and_leaves_the_first_steps_as_they_are(digits, numerics):
    """The second way are buffers that the first step makes."""
    ours, torchs = trainer(digits, numerics=numerics), trainer(digits, numerics=numerics)
    buffers = [state["momentum_buffer"] for state in ours._optimizer.state.values()]
    assert len(buffers) == len(list(ours.model.parameters()))
    assert not any(buffer.any() for buffer in buffers)
    torchs._optimizer.state.clear()
    for step in range(3):
        assert torch.equal(ours.step(step, 0.1), torchs.step(step, 0.1))
    assert_equal(weights(ours), weights(torchs))


def test_a_step_that_fp16_skips_leaves_momentum_at_zero():
    """The loss scaler tells the optimizer of infinite gradients, and weights stay too."""
    model = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = sgd(model, SPEC)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    optimizer.grad_scale, optimizer.found_inf = torch.ones(()), torch.ones(())
    optimizer.step()
    assert not any(state["momentum_buffer"].any() for state in optimizer.state.values())
    assert_equal(dict(model.state_dict()), before)


def test_labels_stay_with_their_images(digits):
    """Each class is one grey, so a network learns them. With labels of other images it stays near
    the error of guessing, which is 0.9; the bound leaves room for the last bits of other CPUs.
    """
    labels = torch.arange(640) % 10
    grey = Images(
        (labels * 25).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32).contiguous(), labels
    )
    spec = replace(SPEC, learning_rate=0.05, cutout=0)
    rung = trainer(replace(digits, train=grey), spec=spec, validation_images=100).run(0, 12)
    assert rung.metrics["error"] < 0.6


# checkpoints


@pytest.fixture
def checkpoint(digits, tmp_path) -> Path:
    one = trainer(digits)
    one.run(0, 0.25)
    path = tmp_path / "study" / "rung.safetensors"
    one.save(path, DIGEST)
    return path


def test_a_checkpoint_holds_epochs_digest_weights_and_momentum(digits, checkpoint):
    """Its folder holds no other file."""
    found = read_checkpoint(checkpoint, DIGEST)
    assert (found.epochs, found.digest) == (0.25, DIGEST)
    model = trainer(digits).model
    assert found.weights.keys() == model.state_dict().keys()
    assert found.momentum.keys() == dict(model.named_parameters()).keys()
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def damage_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 200)


def replace_by_foreign_file(path: Path) -> None:
    save_file({"weights.x": torch.zeros(1)}, path)


def remove_metadata(path: Path) -> None:
    save_file({"weights.x": torch.zeros(1)}, path, {"format": "osa-nas training 1"})


def diverge(path: Path) -> None:
    saved = read_checkpoint(path)
    weights = {name: value * torch.nan for name, value in saved.weights.items()}
    write_checkpoint(path, replace(saved, weights=weights))


@pytest.mark.parametrize(
    "damage",
    [damage_end, damage_header, replace_by_foreign_file, remove_metadata, diverge, Path.unlink],
)
def test_a_damaged_foreign_or_missing_checkpoint_gives_one_line_with_its_path(
    digits, checkpoint, damage
):
    damage(checkpoint)
    with pytest.raises(CorruptFileError) as caught:
        trainer(digits).load(checkpoint, DIGEST)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_architecture_is_refused(digits, checkpoint):
    """The message has both digests."""
    with pytest.raises(CorruptFileError, match="holds architecture 0123456789ab instead of fedc"):
        trainer(digits).load(checkpoint, "fedcba9876543210")


def test_a_checkpoint_whose_shapes_do_not_fit_is_refused(digits, checkpoint):
    """PyTorch's lines are joined to one."""
    other = trainer(digits, network=architecture((8, 8), (8, 16), (8, 24)))
    with pytest.raises(CorruptFileError, match="does not fit this network") as caught:
        other.load(checkpoint, DIGEST)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_cannot_be_written_is_an_error_with_its_path(digits):
    """A device is no folder."""
    with pytest.raises(NasError, match=r"/dev/full/rung cannot be written"):
        trainer(digits).save(Path("/dev/full/rung"), DIGEST)


# numerics


def figures_of_costs(costs: list[float]) -> tuple[Numerics, list[float]]:
    """Return the choice and the figures if the timed steps take these seconds, in their order."""
    left, now, calls = iter(costs), [0.0], [0]

    def clock() -> float:
        calls[0] += 1
        if calls[0] % 2 == 0:
            now[0] += next(left)
        return now[0]

    chosen, figures = choose_numerics(
        replace(SPEC, batch_size=8), "cpu", lambda: build(NETWORK, 10), rounds=2, clock=clock
    )
    assert next(left, None) is None
    return chosen, [figure.images_per_s for figure in figures]


WARM_UP = [1.0, 9.0, 50.0, 9.0]
"""Compiling and loading kernels take what they take, and decide nothing."""


def test_the_fastest_candidate_is_chosen_and_all_figures_are_given():
    """All four are timed to the end. The third, bf16 in channels_last, is made the fastest."""
    steps = [2.75, 2.5, 2.0, 2.25]
    chosen, figures = figures_of_costs([*WARM_UP, *steps, *steps])
    assert figures == [8 / seconds for seconds in steps]
    assert chosen == Numerics(precision=AutoPrecision.BF16, channels_last=True)


def test_a_slow_candidate_is_timed_once_and_has_its_figure():
    """The last two take ten times as long in the first round and have no second one."""
    chosen, figures = figures_of_costs([*WARM_UP, 1.0, 1.25, 10.0, 10.0, 1.0, 1.25])
    assert figures == [8 / 1.0, 8 / 1.25, 8 / 10.0, 8 / 10.0]
    assert chosen == Numerics(precision=AutoPrecision.FP32, channels_last=True)


def test_number_formats_are_timed_with_shifts_of_larger_images():
    """A rung of 8 pixels shifts by less than the study says. All shifts take the same time."""
    spec = replace(SPEC, batch_size=8, translate=8)
    _, figures = choose_numerics(spec, "cpu", lambda: build(NETWORK, 10), image_size=8, rounds=1)
    assert len(figures) == 4


def test_nothing_is_measured_if_the_spec_leaves_one_candidate():
    """No network is built either."""
    spec = replace(SPEC, precision=AutoPrecision.FP32, channels_last=False)
    assert choose_numerics(spec, "cpu", pytest.fail) == (Numerics(channels_last=False), ())


@pytest.mark.parametrize("precision", [AutoPrecision.FP16, AutoPrecision.TF32])
def test_precisions_of_gpus_are_refused_on_a_cpu(precision):
    """The message names the precisions to take instead."""
    with pytest.raises(InvalidValueError, match="needs a CUDA device, not cpu; take bf16"):
        choose_numerics(replace(SPEC, precision=precision), "cpu", pytest.fail)


def test_numerics_are_the_same_after_storing_and_loading():
    """They are stored as plain JSON values."""
    numerics = Numerics(precision=AutoPrecision.BF16, channels_last=False)
    assert Numerics.from_dict(numerics.to_dict()) == numerics


def test_numerics_of_older_records_have_tf32_in_convolutions():
    """Those studies trained by torch's default, and continue so."""
    assert Numerics.from_dict({"precision": "fp32", "channels_last": True}).conv_tf32


@pytest.mark.parametrize(
    ("precision", "capability", "expected"),
    [
        ("fp32", (9, 0), [("fp32", False)]),
        ("tf32", (9, 0), [("fp32", True)]),
        ("auto", (9, 0), [("fp32", True), ("bf16", False), ("fp16", False)]),
        ("auto", (7, 5), [("fp32", False), ("fp16", False)]),
    ],
)
def test_fp32_on_a_gpu_is_ieee_and_auto_offers_tf32(monkeypatch, precision, capability, expected):
    """GPUs before Ampere have no TF32."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capability >= (8, 0))
    spec = replace(SPEC, precision=AutoPrecision(precision), channels_last=True)
    found = candidates(spec, torch.device("cuda"))
    assert [(str(each.precision), each.conv_tf32) for each in found] == expected


@pytest.mark.long
def test_the_training_benchmark_times_three_loops(digits):
    """These are the trainer's, the bare steps and the plain loop."""
    pytest.importorskip("torchvision")
    threads = torch.get_num_threads()
    [row] = bench_training(seconds=0.01, rounds=2, data=digits, networks={"tiny": NETWORK})
    torch.set_num_threads(threads)
    for figure in (
        row.ours,
        row.bare,
        row.plain,
        row.machine,
        row.ours_to_bare,
        row.ours_to_plain,
        row.machine_to_plain,
    ):
        assert 0 < figure.low <= figure.median <= figure.high


# the real data set


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(os.environ.get("NAS_DATA_DIR", "")) / CIFAR10.layout).is_dir(),
    reason=f"NAS_DATA_DIR does not name a folder with {CIFAR10.layout}",
)
def test_half_an_epoch_of_reduced_cifar10_gives_an_error_below_six_tenths():
    """The error on 1,000 validation images is 0.9 by chance."""
    cifar10 = load(DataSpec())
    network = architecture((16, 32), (24, 64), (32, 96))
    train, validation = split(cifar10.train.labels, 5000, 0)
    torch.manual_seed(0)
    one = Trainer(
        model=build(network, 10),
        train=cifar10.train.take(train).reduced(16),
        validation=cifar10.train.take(validation[::5]).reduced(16),
        mean=cifar10.mean,
        std=cifar10.std,
        spec=TrainingSpec(),
        numerics=Numerics(),
        threads=1,
    )
    assert one.run(0, 0.5).metrics["error"] < 0.6


def test_a_network_too_large_for_the_device_fails_its_trial():
    """This holds for measuring and for training, and the search continues without it."""
    for context in (fails_trial, oom_fails_trial):
        with (
            pytest.raises(
                TrialFailedError, match="too little memory for this network: CUDA out of memory"
            ),
            context(),
        ):
            raise torch.OutOfMemoryError("CUDA out of memory")
