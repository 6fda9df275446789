"""Full training on image files: resumable within an epoch to the bit, each image once an epoch,
exported with the data's own classes, and on several devices.

NAS_TEST_KILLS sets how often a process of two devices is killed in a longer run, and
NAS_TEST_IMAGES the folder of images that it trains on.
"""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch.nn import functional as F  # noqa: N812 - torch's own habit

import nas
from nas.cli import main
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import CorruptFileError, DataNotFoundError, InvalidValueError
from nas.core.large import LargeSpec
from nas.core.presets import PRESETS
from nas.core.recipe import FinalTraining, Recipe
from nas.core.study import Budget, DataSpec, Objective, StudySpec, TrainingSpec, WorkersSpec
from nas.model import build
from nas.record import Store
from nas.training import Numerics, read_checkpoint
from nas.training.start import start_from

pytest.importorskip("timm")
psutil = pytest.importorskip("psutil")
image = pytest.importorskip("PIL.Image")

from nas.training.large import (  # noqa: E402
    ImageFiles,
    LargeTrainer,
    draw,
    open_images,
    schedule_of,
    timm_teacher,
)

CLASSES = ("cat", "dog", "ox2", "ox10")
"""In timm's order, in which 2 comes before 10."""
TRAIN_IMAGES, TEST_IMAGES = 152, 24
KILLS = int(os.environ.get("NAS_TEST_KILLS", "1"))
NETWORK = Architecture(
    stem=Stem.CODE,
    stem_channels=(8, 8, 8),
    stages=tuple(OsaStage(mid_channels=8, out_channels=out, num_layers=2) for out in (8, 16, 16)),
)
SPEC = StudySpec(
    name="full",
    space="osa_tiny",
    sampler="random",
    budget=Budget(trials=1),
    seed=3,
    objectives=(Objective(metric="error", reference=1.0), Objective(metric="macs", reference=1e7)),
    data=DataSpec(dataset="digits", validation_images=100, train_images=128),
    training=TrainingSpec(precision="fp32", channels_last=False),
    workers=WorkersSpec(retries=KILLS),
)
RECIPE_FILE = """
epochs: 1
average: 0.9
training: {batch_size: 8, learning_rate: 0.05, translate: 2}
large:
  image_size: 32
  base_batch: 8
  mixup: 0.2
  schedule: cosine
  auto_augment: rand-m7-mstd0.5-inc1
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of noise in PNG and JPEG files of odd sizes."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", TRAIN_IMAGES), ("val", TEST_IMAGES)):
        for number in range(count):
            folder = root / part / CLASSES[number % len(CLASSES)]
            folder.mkdir(parents=True, exist_ok=True)
            sides = 2 * rng.integers(16, 32, 2) + 1
            pixels = rng.integers(0, 256, (*sides, 3)).astype(np.uint8)
            suffix = "png" if rng.random() < 0.5 else "jpg"
            image.fromarray(pixels).save(folder / f"{number}.{suffix}")
    return root


def recipe_of(images, **large):
    """A recipe with everything that draws random numbers."""
    values = {
        "image_size": 16,
        "auto_augment": "rand-m7-mstd0.5-inc1",
        "erase": 0.25,
        "mixup": 0.2,
        "cutmix": 1.0,
        "loss": "bce",
        "optimizer": "lamb",
        "schedule": "cosine",
        "warmup_epochs": 0.5,
        "base_batch": 16,
        **large,
    }
    return Recipe(
        epochs=2.0,
        training=TrainingSpec(batch_size=16, learning_rate=0.01, translate=2),
        average=0.9,
        large=LargeSpec(data=str(images), **values),
    )


def trainer_of(recipe, seed=5, network=lambda: build(NETWORK, len(CLASSES)), **settings):
    torch.manual_seed(seed)
    files, _ = open_images(recipe, seed)
    return LargeTrainer(
        recipe=recipe,
        model=network(),
        train=files,
        seed=seed,
        numerics=Numerics(),
        threads=1,
        **settings,
    )


def finished(trainer, path):
    """The weights that the trainer stores, with the classes they are of."""
    trainer.finish(path, "d")
    return read_checkpoint(path)


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def assert_close(first, second):
    """Sums differ by rounding. BatchNorm's counters of batches differ, and have no effect."""
    real = [name for name, value in second.items() if value.is_floating_point()]
    torch.testing.assert_close(
        {name: first[name] for name in real},
        {name: second[name] for name in real},
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "momentum", "sgd"])
def test_a_training_resumed_within_an_epoch_equals_an_undisturbed_one(images, tmp_path, optimizer):
    """The parts are connected by a file. Their ends are no ends of epochs."""
    recipe = recipe_of(images, optimizer=optimizer)
    whole = trainer_of(recipe)
    whole.advance(2.0)
    for steps in (4, 7):
        part = trainer_of(recipe)
        if steps > 4:
            assert part.load(tmp_path / "going", "d") == 4 / part.steps_per_epoch
        part.advance(steps / part.steps_per_epoch)
        part.save(tmp_path / "going", "d")
    last = trainer_of(recipe)
    last.load(tmp_path / "going", "d")
    last.advance(2.0)
    expected = finished(whole, tmp_path / "whole")
    assert_equal(finished(last, tmp_path / "parts").weights, expected.weights)
    assert expected.classes == CLASSES
    assert last.images_seen == whole.images_seen == 2 * TRAIN_IMAGES


def test_drawing_leaves_the_generators_of_the_process_as_they_were(images):
    """Python's and NumPy's numbers after a step are those without it."""
    trainer = trainer_of(recipe_of(images))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    trainer.advance(2 / trainer.steps_per_epoch)
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_each_image_is_drawn_once_in_each_epoch():
    """Three epochs of 20 images are eight batches of 8, the last of which begins a fourth epoch. A
    sampler that starts later gives the same batches.
    """
    batches = list(draw(20, 8, range(8), seed=1))
    assert {len(batch) for batch in batches} == {8}
    samples = [sample for batch in batches for sample in batch]
    for epoch in range(3):
        drawn = samples[20 * epoch : 20 * (epoch + 1)]
        assert sorted(drawn) == [(epoch, index) for index in range(20)]
        assert [index for _, index in drawn] != sorted(index for _, index in drawn)
    assert list(draw(20, 8, range(3, 8), seed=1)) == batches[3:]
    assert list(draw(20, 8, range(8), seed=2)) != batches


def test_devices_share_the_micro_batches():
    """Micro-batches are parts of the batches, and each device draws every second one."""
    batches = list(draw(20, 8, range(5), seed=1))
    parts = list(draw(20, 4, range(10), seed=1))
    assert [parts[2 * k] + parts[2 * k + 1] for k in range(5)] == batches
    assert list(draw(20, 4, range(1, 10, 2), seed=1)) == parts[1::2]


class Plain(torch.nn.Module):
    """A network without BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.fc = torch.nn.Linear(4 * 7 * 7, len(CLASSES))

    def forward(self, images):
        return self.fc(self.conv(images).relu().flatten(1))


@pytest.mark.parametrize("optimizer", ["lamb", "momentum"])
def test_micro_batches_have_the_gradient_of_their_batch(images, optimizer):
    """Nothing is changed or mixed by micro-batches here, and there is no BatchNorm."""

    def trained(parts):
        recipe = recipe_of(
            images,
            optimizer=optimizer,
            loss="cross_entropy",
            micro_batches=parts,
            mixup=0,
            cutmix=0,
            erase=0,
        )
        recipe = replace(recipe, training=replace(recipe.training, translate=0, flip=False))
        trainer = trainer_of(recipe, network=Plain)
        trainer.advance(1.0)
        return trainer.model.state_dict(), trainer.last_loss

    whole, parts = trained(1), trained(4)
    torch.testing.assert_close(parts[0], whole[0], rtol=1e-4, atol=1e-5)
    assert parts[1] == pytest.approx(whole[1], rel=1e-4)


def test_batch_norm_keeps_the_statistics_of_the_first_micro_batch(images):
    """They are those of a batch that is this micro-batch alone."""
    twice = trainer_of(recipe_of(images, micro_batches=2))
    once = recipe_of(images)
    once = trainer_of(replace(once, training=replace(once.training, batch_size=8)))
    for trainer in (twice, once):
        trainer.advance(1 / trainer.steps_per_epoch)
    statistics = [
        {name: value for name, value in trainer.model.state_dict().items() if "running" in name}
        for trainer in (twice, once)
    ]
    assert_equal(*statistics)


TOGETHER = """
import json, sys
from pathlib import Path
import torch.distributed as dist
sys.path.insert(0, sys.argv[1])
import test_large_training as tests

rank, folder = int(sys.argv[2]), Path(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
trainer = tests.trainer_of(tests.recipe_of(sys.argv[4], **json.loads(sys.argv[5])))
trainer.advance(1.0)
if rank == 0:
    trainer.finish(folder / "together", "d")
    print(json.dumps([trainer.last_loss, trainer.judge(tests.open_images(trainer.recipe)[1])[0]]))
"""


@pytest.mark.parametrize("optimizer", ["lamb", "momentum"])
def test_two_processes_give_the_weights_of_one(images, tmp_path, optimizer):
    """They differ by the order in which two gradients are added. All that is random is the same."""
    values = {"optimizer": optimizer, "micro_batches": 2, "base_batch": 64}
    alone = trainer_of(recipe_of(images, **values))
    alone.advance(1.0)
    arguments = [str(tmp_path), str(images), json.dumps(values)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(Path(__file__).parent), str(rank), *arguments],
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    loss, errors = json.loads(outputs[0])
    together = read_checkpoint(tmp_path / "together").weights
    assert_close(together, finished(alone, tmp_path / "alone").weights)
    assert loss == pytest.approx(alone.last_loss, rel=1e-4)
    assert errors.keys() == {"error"}


def test_every_image_is_read_once_an_epoch(images, tmp_path):
    """Steps after the last checkpoint are repeated, and those before it are not."""
    recipe, read = recipe_of(images), []

    class Recording(ImageFiles):
        def __getitem__(self, sample):
            read.append(sample)
            return super().__getitem__(sample)

    def trainer():
        made = trainer_of(recipe)
        made._files.__class__ = Recording
        return made

    first, second = trainer(), trainer()
    first.advance(5 / first.steps_per_epoch)
    first.save(tmp_path / "going", "d")
    first.advance(7 / first.steps_per_epoch)
    del read[5 * 16 :]
    second.load(tmp_path / "going", "d")
    second.advance(2.0)
    assert Counter(read) == Counter(
        (epoch, index) for epoch in range(2) for index in range(TRAIN_IMAGES)
    )


def test_an_unreadable_image_stops_the_training_with_its_name(images, tmp_path):
    """The error has one line."""
    shutil.copytree(images, tmp_path / "images")
    damaged = min((tmp_path / "images" / "train" / "dog").glob("*.jpg"))
    damaged.write_bytes(damaged.read_bytes()[:200])
    trainer = trainer_of(recipe_of(tmp_path / "images"))
    with pytest.raises(CorruptFileError) as caught:
        trainer.advance(1.0)
    assert str(caught.value).startswith(f"{damaged} is not a readable image: ")
    assert "\n" not in str(caught.value)


def test_tar_files_are_read_like_folders(images, tmp_path):
    """The same classes, labels and pixels in the same order."""
    for part in ("train", "val"):
        with tarfile.open(tmp_path / f"{part}.tar", "w") as file:
            file.add(images / part, arcname=".")
    (folder, _), (packed, _) = (open_images(recipe_of(each), 5) for each in (images, tmp_path))
    assert packed.classes == folder.classes == CLASSES
    for index in (0, 37, TRAIN_IMAGES - 1):
        (pixels, label), (expected, expected_label) = packed[1, index], folder[1, index]
        assert label == expected_label
        assert torch.equal(pixels, expected)
    packed.reader.tar_state.tf.close()


def test_the_rate_falls_by_ten_every_thirty_epochs():
    """The paper's schedule, in the middle of the first and the last step of each epoch."""
    schedule = schedule_of(PRESETS["paper"].large, 90, steps_per_epoch=10)
    for epoch in range(90):
        for step in (10 * epoch, 10 * epoch + 9):
            schedule.step_update(step + 0.5)
            rate = schedule.optimizer.param_groups[0]["lr"]
            assert rate == pytest.approx(0.1 ** (epoch // 30))


def test_the_cosine_rises_for_five_epochs_and_ends_at_zero():
    """The values are those of the closed form."""
    schedule = schedule_of(PRESETS["modern"].large, 300, steps_per_epoch=10.5)
    for step in range(0, 3150, 7):
        schedule.step_update(step + 0.5)
        epoch = (step + 0.5) / 10.5
        cosine = (1 + math.cos(math.pi * epoch / 300)) / 2
        expected = epoch / 5 if epoch < 5 else cosine
        assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_the_learning_rate_follows_the_batch():
    """Linearly for SGD, by the square root for LAMB."""
    assert PRESETS["paper"].large.scale(64) == 0.25
    assert PRESETS["modern"].large.scale(512) == 0.5


@pytest.mark.parametrize("name", ["paper", "modern"])
def test_a_preset_trains(images, name):
    """A few steps with small images and batches give finite losses and new weights."""
    preset = PRESETS[name]
    recipe = replace(
        preset,
        training=replace(preset.training, batch_size=16),
        large=replace(preset.large, data=str(images), image_size=32),
    )
    trainer = trainer_of(recipe)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.advance(3 / trainer.steps_per_epoch)
    assert math.isfinite(trainer.last_loss)
    after = trainer.model.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_mixed_images_have_the_mixed_loss(images):
    """With mixup the loss is the mean of both images' losses in the proportion of the images."""
    plain = trainer_of(recipe_of(images, mixup=0.0, cutmix=0.0, erase=0.0, loss="cross_entropy"))
    mixing = trainer_of(recipe_of(images, mixup=0.5, cutmix=0.0, erase=0.0, loss="cross_entropy"))
    clean, labels = plain._inputs(plain._batch(3), 3)
    mixed, targets = mixing._inputs(mixing._batch(3), 3)
    partners = labels.flip(0)
    share = next(
        float(targets[k, labels[k]]) for k in range(len(labels)) if labels[k] != partners[k]
    )
    assert 0 < share < 1
    assert torch.allclose(mixed, share * clean + (1 - share) * clean.flip(0), atol=1e-5)
    logits = torch.randn(len(labels), len(CLASSES), generator=torch.Generator().manual_seed(0))
    own, other = (
        F.cross_entropy(logits, each, label_smoothing=0.1).item() for each in (labels, partners)
    )
    assert mixing._loss(logits, targets, mixed).item() == pytest.approx(
        share * own + (1 - share) * other, rel=1e-5
    )


def test_the_binary_loss_is_that_of_each_class(images):
    """The mean over images and classes of -t log p - (1 - t) log(1 - p), with smoothed targets."""
    trainer = trainer_of(recipe_of(images, mixup=0.0, cutmix=0.0))
    logits = np.random.default_rng(0).normal(size=(6, 4))
    labels = np.array([0, 1, 2, 3, 0, 1])
    targets = 0.9 * np.eye(4)[labels] + 0.1 / 4
    shares = 1 / (1 + np.exp(-logits))
    expected = -(targets * np.log(shares) + (1 - targets) * np.log(1 - shares)).mean()
    loss = trainer._loss(torch.from_numpy(logits), torch.from_numpy(labels), torch.empty(0))
    assert loss.item() == pytest.approx(expected)


class Answers(torch.nn.Module):
    """A network of timm's kind that keeps what it sees, and is sure of the third class."""

    num_classes = len(CLASSES)
    pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.5, 1.0)}  # noqa: RUF012

    def forward(self, images):
        self.seen = images
        return 20 * torch.eye(len(CLASSES))[2].repeat(len(images), 1)


def test_a_teacher_of_timm_sees_images_as_it_was_trained_with_them(images, monkeypatch):
    """They are normalised by its own mean and std. The student learns its answers."""
    network = Answers()
    monkeypatch.setattr("timm.create_model", lambda *_, **__: network)
    recipe = recipe_of(images, teacher="x", mixup=0, cutmix=0, erase=0)
    recipe = replace(recipe, epochs=3.0, distillation=1.0)
    teacher = timm_teacher(recipe.large, len(CLASSES))
    trainer = trainer_of(recipe, teacher=teacher)
    trainer.advance(3.0)
    pixels = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (recipe.large.mean, recipe.large.std))
    teacher((pixels - mean) / std)
    own = (
        torch.tensor(Answers.pretrained_cfg[name]).reshape(1, 3, 1, 1) for name in ("mean", "std")
    )
    own_mean, own_std = own
    torch.testing.assert_close(network.seen, (pixels - own_mean) / own_std)
    _, test = open_images(recipe)
    metrics, _ = trainer.judge(test)
    third = sum(label == 2 for _, label in (test[0, index] for index in range(len(test))))
    assert metrics["error"] == pytest.approx(1 - third / len(test))
    with pytest.raises(InvalidValueError, match=r"the teacher x has 4 classes, and .* have 7"):
        timm_teacher(recipe.large, 7)


@pytest.mark.parametrize("name", ["no-such-network", "local-dir:nowhere", "resnet10t.no_tag"])
def test_an_unknown_teacher_is_refused(images, name):
    """The error is one line with the name."""
    with pytest.raises(InvalidValueError, match=f"not {name}: ") as caught:
        timm_teacher(recipe_of(images, teacher=name).large, len(CLASSES))
    assert "\n" not in str(caught.value)


def test_all_test_images_are_judged(images):
    """The error is that of one batch of all images in the order of their files."""
    recipe = recipe_of(images)
    trainer, (_, test) = trainer_of(recipe), open_images(recipe)
    metrics, _ = trainer.judge(test)
    pixels, labels = zip(*(test[0, index] for index in range(TEST_IMAGES)), strict=True)
    with torch.inference_mode():
        answers = trainer.model.eval()(trainer._normalised(torch.stack(pixels))).argmax(1)
    wrong = int((answers != torch.tensor(labels)).sum())
    assert metrics == {"error": wrong / TEST_IMAGES}


def test_checkpoints_are_due_after_steps_and_at_ends_of_epochs(images, monkeypatch):
    """The parts are multiples of a number of steps, so that their losses do not depend on where a
    training was interrupted.
    """
    monkeypatch.setattr("nas.training.large.STEPS_PER_CHECKPOINT", 4)
    trainer, ends = trainer_of(recipe_of(images)), []
    assert trainer.steps_per_epoch == 9.5
    while trainer.epochs < 2:
        trainer.epochs = trainer.next_end
        ends.append(trainer.epochs * 9.5)
    assert ends == pytest.approx([4, 8, 9.5, 12, 16, 19])


def test_weights_of_other_classes_start_without_the_classifier(tmp_path):
    """All other weights are taken over."""
    torch.manual_seed(1)
    old, new = build(NETWORK, 10), build(NETWORK, 4)
    save_file(old.state_dict(), tmp_path / "model.safetensors")
    own = new.state_dict()["head.fc.weight"].clone()
    assert start_from(new, tmp_path / "model.safetensors") == 10
    assert start_from(build(NETWORK, 10), tmp_path / "model.safetensors") is None
    for name, value in new.state_dict().items():
        expected = own if name == "head.fc.weight" else old.state_dict()[name]
        if name != "head.fc.bias":
            assert torch.equal(value, expected)
    wider = replace(NETWORK, stem_channels=(8, 8, 16))
    with pytest.raises(CorruptFileError, match="does not fit this network"):
        start_from(build(wider, 10), tmp_path / "model.safetensors")


def emptied(root):
    shutil.rmtree(root / "val")


def renamed(root):
    (root / "val" / "cat").rename(root / "val" / "cow")


def flat(root):
    for file in (root / "train" / "cat").glob("*"):
        file.rename(root / "train" / file.name)


@pytest.mark.parametrize(
    ("change", "values", "error", "message"),
    [
        (emptied, {}, DataNotFoundError, "has no part validation or val or test"),
        (renamed, {}, InvalidValueError, "differ in 2 classes, such as cat"),
        (flat, {}, InvalidValueError, "must lie in a folder for each of two or more classes"),
        (None, {"auto_augment": "rand-x7-q"}, InvalidValueError, "large.auto_augment must be"),
    ],
)
def test_wrong_data_is_refused_in_one_line(images, tmp_path, *, change, values, error, message):
    """Before any image is read."""
    shutil.copytree(images, tmp_path / "images")
    if change is not None:
        change(tmp_path / "images")
    with pytest.raises(error, match=message) as caught:
        open_images(recipe_of(tmp_path / "images", **values))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, search_study):
    folder = tmp_path_factory.mktemp("searched")
    search_study(folder, SPEC)
    (folder / "recipe.yaml").write_text(RECIPE_FILE)
    return folder


@pytest.fixture
def folder(searched, copy_study, tmp_path, monkeypatch):
    """The current folder, with a copy of the searched study and a recipe."""
    monkeypatch.chdir(copy_study(searched, tmp_path / "copy"))
    return tmp_path / "copy"


def run(*arguments, code=0):
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def finals(folder) -> list[FinalTraining]:
    with Store.open(folder / "nas.db", read_only=True) as store:
        return store.finals("full")


def train(images, *more, code=0):
    return run(
        *("train", "full", "--trial", 0, "--seeds", 1, "--recipe", "recipe.yaml"),
        *("--data", images, "--loaders", 0),
        *more,
        code=code,
    )


@pytest.mark.long
@pytest.mark.slow
def test_a_network_is_trained_on_files_and_exported_with_their_classes(folder, images):
    """The bundle holds what belongs to the files, and no path of this machine. Its weights start
    another training, whose classifier is new.
    """
    assert f"on {TEST_IMAGES} test images" in train(images)
    [final] = finals(folder)
    assert final.recipe.large.data == str(images)
    assert final.reached.images == TRAIN_IMAGES
    assert set(final.reached.metrics) == {"error"}
    assert final.reached.numerics["image_size"] == 32
    assert "1 of them recorded" in train(images)
    network = nas.open("nas.db").study("full").network(0)
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, len(CLASSES))
    run("export", "full", "--trial", 0, "-o", "bundle", "--no-latency", "--license", "cc0-1.0")
    config = json.loads(Path("bundle/config.json").read_text())
    assert tuple(config["label_names"]) == CLASSES
    cfg = config["pretrained_cfg"]
    assert cfg["input_size"] == [3, 32, 32]
    assert (cfg["crop_pct"], cfg["crop_mode"]) == (0.875, "center")
    assert cfg["interpolation"] == "bilinear"
    assert cfg["mean"] == [0.485, 0.456, 0.406]
    record = json.loads(Path("bundle/record.json").read_text())
    assert record["dataset"] == record["final"]["recipe"]["large"]["data"] == images.name
    card = Path("bundle/README.md").read_text()
    assert f"datasets: [{images.name}]" in card
    assert "license: cc0-1.0" in card
    assert "on validation images" not in card
    assert all(str(images) not in path.read_text() for path in Path("bundle").glob("*.json"))
    short = ("--recipe", "short", "--epochs", 0.1, "--seeds", 1)
    output = run("train", "full", "--trial", 0, *short, "--from", "bundle")
    assert "its classifier of 4 classes is left out; there are 10" in output
    assert "its classifier of 4 classes" in run("train", "full", "--trial", 0, *short, "--from", 0)
    assert "1 of them recorded" in run("train", "full", "--trial", 0, *short, "--from", 0)
    started = [each.recipe.start for each in finals(folder)]
    assert started[0] is None
    assert len({*started}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "paper"), "must name them by large.data or --data"),
        (("--recipe", "short", "--data", "."), "--data needs a recipe for image files"),
        (("--recipe", "modern", "--data", "nowhere"), "has no part train"),
        (("--recipe", "paper", "--data", "wds/x"), "a stream cannot resume"),
        (("--recipe", "paper", "--data", "{images}"), "must be at most the 152 training images"),
        (("--recipe", "paper", "--data", "{images}", "--teacher", "0"), "takes large.teacher"),
        (("--recipe", "short", "--devices", "2"), "--devices needs a recipe for image files"),
        (("--recipe", "paper", "--data", "{images}", "--devices", "3"), "micro_batches of the rec"),
        (("--from", "nowhere"), "there are no weights nowhere"),
        (("--from", "0"), "trial 0 has no final training"),
        (("--from", "recipe.yaml"), "is not a readable file of weights"),
    ],
)
def test_a_wrong_command_writes_nothing(folder, images, arguments, message):
    """One line, exit code 2, and the same files as before."""
    before = sorted(folder.rglob("*"))
    words = [word.format(images=images) for word in arguments]
    output = run("train", "full", "--trial", 0, *words, code=2)
    lines = output.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert sorted(folder.rglob("*")) == before
    assert finals(folder) == []


@pytest.mark.usefixtures("folder")
def test_the_study_s_own_images_need_not_be_there(images, monkeypatch):
    """Recipes for image files do not read them."""
    monkeypatch.setattr(
        "nas.searching.evaluators.classification.replicator.resolve",
        lambda *_: pytest.fail("they were looked for"),
    )
    assert f"on {TEST_IMAGES} test images" in train(images, "--epochs", 0.1)


def test_a_trial_without_its_weights_cannot_be_started_from(folder, images):
    """The command names the file."""
    train(images, "--epochs", 0.1)
    (weights,) = folder.rglob("weights.safetensors")
    weights.unlink()
    output = run("train", "full", "--trial", 0, "--recipe", "short", "--from", 0, code=2)
    assert f"there are no weights {weights}" in output


def test_a_data_set_without_names_of_classes_is_refused(images, monkeypatch):
    """So does timm read a data set of Hugging Face whose labels have another name."""
    reader = type("Reader", (), {"class_to_idx": {}})
    monkeypatch.setattr("nas.training.large._reader", lambda *_: reader())
    with pytest.raises(InvalidValueError, match="must lie in a folder for each of two or more"):
        open_images(recipe_of(images / "unlabelled"))


def test_a_damaged_file_ends_the_command_in_one_line(folder, images, tmp_path):
    """The training can be repeated once the file is replaced."""
    shutil.copytree(images, tmp_path / "images")
    damaged = min((tmp_path / "images" / "train" / "dog").glob("*.png"))
    damaged.write_bytes(b"no image")
    output = train(tmp_path / "images", code=2)
    assert f"error: {damaged} is not a readable image" in output.splitlines()[-1]
    assert finals(folder) == []


@pytest.mark.long
def test_a_killed_training_gives_the_weights_of_an_undisturbed_one(
    searched, copy_study, images, tmp_path
):
    """Three processes are killed after a checkpoint, the first of which is within an epoch. They
    have two loader processes, and the undisturbed training has none.
    """
    few = "import nas.training.large as large; large.STEPS_PER_CHECKPOINT = 4; "
    command = [
        sys.executable,
        "-c",
        f"{few}from nas.cli import main; main()",
        "train",
        "full",
        "--trial",
        "0",
        "--seeds",
        "1",
        "--epochs",
        "4",
    ]
    command += ["--recipe", "recipe.yaml", "--data", str(images), "--loaders"]
    undisturbed = copy_study(searched, tmp_path / "undisturbed")
    subprocess.run([*command, "0"], cwd=undisturbed, check=True, capture_output=True)
    command.append("2")
    killed = copy_study(searched, tmp_path / "killed")

    def stored():
        return [(f, f.stat().st_mtime_ns) for f in killed.rglob("going.safetensors")]

    for _ in range(3):
        before, end_s = stored(), time.monotonic() + 60
        with subprocess.Popen(command, cwd=killed, stdout=subprocess.DEVNULL) as process:
            while stored() in ([], before) and time.monotonic() < end_s:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    assert stored()
    subprocess.run(command, cwd=killed, check=True, capture_output=True)
    first, second = (
        read_checkpoint(each / "checkpoints" / finals(each)[0].reached.checkpoint)
        for each in (undisturbed, killed)
    )
    assert_equal(first.weights, second.weights)
    assert finals(killed)[0].reached.metrics == finals(undisturbed)[0].reached.metrics


class Devices:
    """Full trainings of trial 0 by the command, in a process of their own, with and without
    several devices.
    """

    def __init__(self, searched, copy_study, images, tmp_path):
        self.searched, self.copy_study = searched, copy_study
        self.images, self.folder = images, tmp_path
        recipe = RECIPE_FILE + "  micro_batches: 2\n"
        (tmp_path / "parts.yaml").write_text(recipe)

    @contextmanager
    def training(self, name, *arguments):
        """Train in a copy of the study; the `with` block gets the copy and the process."""
        folder = self.copy_study(self.searched, self.folder / name)
        command = [sys.executable, "-c", "from nas.cli import main; main()", "train", "full"]
        command += [
            "--trial",
            "0",
            "--seeds",
            "1",
            "--epochs",
            "4",
            "--recipe",
            str(self.folder / "parts.yaml"),
        ]
        command += ["--data", str(self.images), "--loaders", "0", *arguments]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            yield folder, process
            output = process.communicate()[0]
        assert process.returncode == 0, output

    @staticmethod
    def result(folder):
        """The only training's figures, and its weights."""
        (final,) = finals(folder)
        weights = read_checkpoint(folder / "checkpoints" / final.reached.checkpoint).weights
        return final.reached, weights

    def disturbed(self, name, disturb, *arguments, times=1):
        """Train, and call `disturb` with the process after some checkpoints."""
        disturbed, before, generator = 0, [], random.Random(0)
        with self.training(name, *arguments) as (folder, process):
            while process.poll() is None:
                stored = [f.stat().st_mtime_ns for f in folder.rglob("going.safetensors")]
                if stored not in ([], before) and disturbed < times:
                    time.sleep(generator.uniform(0, 0.1))
                    if disturb(process):
                        before, disturbed = stored, disturbed + 1
                time.sleep(0.005)
        assert disturbed == times
        return self.result(folder)


@pytest.fixture(scope="module")
def devices(searched, copy_study, images, tmp_path_factory):
    images = Path(os.environ.get("NAS_TEST_IMAGES", images))
    return Devices(searched, copy_study, images, tmp_path_factory.mktemp("devices"))


@pytest.fixture(scope="module")
def by_two(devices):
    """The result of an undisturbed training by two processes."""
    with devices.training("undisturbed", "--devices", "2") as (folder, _):
        pass
    return devices.result(folder)


def training_processes(of):
    """The processes of Ray that train, among the descendants of a process."""
    return [
        each
        for each in psutil.Process(of.pid).children(recursive=True)
        if "ray::RayTrainWorker" in "".join(each.cmdline()[:1])
    ]


@pytest.mark.long
@pytest.mark.slow
def test_two_devices_give_the_weights_of_one(devices, by_two):
    """The command trains on one device without Ray."""
    with devices.training("alone") as (folder, _):
        pass
    one, two = devices.result(folder), by_two
    assert_close(two[1], one[1])
    assert two[0].train_loss == pytest.approx(one[0].train_loss, rel=1e-4)
    assert (one[0].numerics["devices"], two[0].numerics["devices"]) == (1, 2)
    assert one[0].images == two[0].images == 4 * TRAIN_IMAGES


@pytest.mark.long
@pytest.mark.slow
def test_killed_processes_of_several_devices_resume_to_the_bit(devices, by_two):
    """One of both processes is killed after a checkpoint."""
    generator = random.Random(0)

    def kill(process):
        victims = training_processes(process)
        if len(victims) == 2:
            generator.choice(victims).kill()
        return len(victims) == 2

    reached, weights = devices.disturbed("killed", kill, "--devices", "2", times=KILLS)
    assert_equal(weights, by_two[1])
    assert reached.metrics == by_two[0].metrics


@pytest.mark.long
@pytest.mark.slow
def test_a_lost_node_of_several_devices_is_replaced(devices, by_two):
    """Of three nodes with one processor each, that of one process is killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray itself
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]

        def kill(_):
            for node in nodes:
                raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
                if training_processes(raylet):
                    break
            else:
                return False
            for process in raylet.children(recursive=True):
                process.kill()
            cluster.remove_node(node, allow_graceful=False)
            return True

        reached, weights = devices.disturbed(
            "node", kill, "--devices", "2", "--address", cluster.address
        )
    finally:
        cluster.shutdown()
    assert_equal(weights, by_two[1])
    assert reached.metrics == by_two[0].metrics


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) >= 76, reason="this machine has enough devices")
def test_too_few_devices_are_one_line(folder, images):
    """Ray would wait for them for ever."""
    recipe = RECIPE_FILE.replace("batch_size: 8", "batch_size: 152") + "  micro_batches: 76\n"
    Path("recipe.yaml").write_text(recipe)
    [line] = train(images, "--devices", 76, code=2).splitlines()[-1:]
    assert "there are 76 devices to train on, each with 1 CPU and 0 GPU" in line
    assert finals(folder) == []
