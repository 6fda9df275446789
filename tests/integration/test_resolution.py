"""Rungs that train at a lower resolution: recorded as such, resumable to the bit, exported so."""

import pytest
import torch

import nas
from nas.core.errors import InvalidValueError
from nas.core.study import DataSpec, TrainingSpec
from nas.data import load, split
from nas.model import build
from nas.record import Store
from nas.training import Numerics, Trainer

DIGEST = "0123456789abcdef"
STUDY = """
name: growing
space: osa_tiny
sampler: random
objectives: [{metric: error, reference: 95 %}, {metric: parameters, reference: 100 k}]
rungs: [{images: 128, image_size: 16}, {images: 384, image_size: 64}]
data: {dataset: digits, validation_images: 200}
training: {batch_size: 64, precision: fp32, channels_last: false}
budget: {trials: 2}
"""


@pytest.fixture(scope="module")
def parts():
    """Training and validation images of the digits, whole and reduced to 16 pixels."""
    dataset = load(DataSpec(dataset="digits", validation_images=200))
    train, validation = split(dataset.train.labels, 200, 0)
    whole = dataset.train.take(train), dataset.train.take(validation)
    return dataset, whole, tuple(each.reduced(16) for each in whole)


def trainer(parts, seed=3, translate=2):
    dataset, (train, validation), _ = parts
    torch.manual_seed(seed)
    architecture = nas.Architecture(
        stem=nas.Stem.CIFAR,
        stem_channels=(8, 8, 8),
        stages=tuple(nas.OsaStage(mid_channels=8, out_channels=8, num_layers=2) for _ in range(3)),
    )
    return Trainer(
        model=build(architecture, len(dataset.classes)),
        train=train,
        validation=validation,
        mean=dataset.mean,
        std=dataset.std,
        spec=TrainingSpec(batch_size=64, translate=translate, cutout=2),
        numerics=Numerics(),
        seed=seed,
        threads=1,
    )


def test_a_training_that_grows_resumes_to_the_bit(parts, tmp_path):
    """Two rungs of two sizes, uninterrupted and from the checkpoint between them."""
    _, whole, reduced = parts
    once = trainer(parts)
    once.use_images(*reduced)
    first = once.run(0, 0.5)
    once.save(tmp_path / "rung", DIGEST)
    once.use_images(*whole)
    second = once.run(0.5, 1.0)
    again = trainer(parts)
    again.load(tmp_path / "rung", DIGEST)
    again.use_images(*whole)
    resumed = again.run(0.5, 1.0)
    assert (first.numerics["image_size"], second.numerics["image_size"]) == (16, 32)
    assert (resumed.metrics, resumed.train_loss) == (second.metrics, second.train_loss)


def test_a_shrunk_shift_is_smaller_than_the_images(parts):
    """16 of 17 pixels are 7.5 of 8, and images are shifted by at most 7."""
    dataset, images, reduced = parts
    sizes = [tuple(each.reduced(side) for each in images) for side in (17, 8)]
    one = trainer((dataset, sizes[0], reduced), translate=16)
    one.use_images(*sizes[1])
    assert one.run(0, 0.3).numerics["image_size"] == 8


def test_other_images_are_refused(parts):
    """Only the same images in another size, or the order of an epoch would mean nothing."""
    _, (train, validation), _ = parts
    with pytest.raises(InvalidValueError, match="as many as before"):
        trainer(parts).use_images(validation, train)


def test_a_search_at_two_resolutions(tmp_path):
    """Rungs hold whole batches and their size. The size of a bundle's images is tested where
    bundles are exported.
    """
    (tmp_path / "study.yaml").write_text(STUDY.replace("image_size: 64", "image_size: 24"))
    nas.search(tmp_path / "study.yaml", database=tmp_path / "nas.db")
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        (trial, *_) = [t for t in store.trials("growing") if t.duplicate_of is None]
        assert store.problems() == []
    steps = (1437 - 200) // 64
    assert [rung.epochs for rung in trial.evaluation.rungs] == [2 / steps, 6 / steps]
    assert [rung.images for rung in trial.evaluation.rungs] == [128, 256]
    assert [rung.numerics["image_size"] for rung in trial.evaluation.rungs] == [16, 24]


def test_a_study_without_rungs_trains_on_half_of_the_pixels(tmp_path):
    """The record has the pixels, so that the study file and a new default may say `auto`."""
    file = tmp_path / "study.yaml"
    text = STUDY.replace(
        "rungs: [{images: 128, image_size: 16}, {images: 384, image_size: 64}]\n", ""
    )
    file.write_text(text.replace("trials: 2", "trials: 1"))
    nas.search(file, database=tmp_path / "nas.db")
    file.write_text(text + "rungs: [{epochs: 1, image_size: auto}]\n")
    nas.search(file, database=tmp_path / "nas.db")
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        trials = [t for t in store.trials("growing") if t.evaluation.rungs]
        assert store.study("growing").spec.rungs == (nas.RungSpec(epochs=1, image_size=16),)
    assert [trial.evaluation.rungs[0].numerics["image_size"] for trial in trials] == [16, 16]


def test_half_of_the_pixels_are_not_too_few_for_the_networks(tmp_path):
    """A wide space needs more than half of the sides of small images."""
    file = tmp_path / "study.yaml"
    text = STUDY.replace("image_size: 16", "image_size: auto").replace(
        "image_size: 64", "image_size: auto"
    )
    file.write_text(text.replace("osa_tiny", "osa_detection").replace("trials: 2", "trials: 1"))
    nas.search(file, database=tmp_path / "nas.db")
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        sides = {rung.image_size for rung in store.study("growing").spec.rungs}
    assert sides == {32}


def test_a_rung_with_more_pixels_than_the_images_takes_them_as_they_are(tmp_path):
    """So that the same study also runs on smaller images."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("trials: 2", "trials: 1"))
    nas.search(tmp_path / "study.yaml", database=tmp_path / "nas.db")
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        rungs = store.trial("growing", 0).evaluation.rungs
    assert [rung.numerics["image_size"] for rung in rungs] == [16, 32]
