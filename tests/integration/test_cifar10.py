"""The real CIFAR-10, if `NAS_DATA_DIR` names its folder."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.core.study import DataSpec
from nas.data import Dataset, load, split
from nas.data.cifar import CIFAR10
from nas.data.statistics import channel_statistics
from nas.record import Store

STUDY = """
name: here
space: osa_tiny
sampler: random
objectives: [{metric: error, reference: 95 %}, {metric: parameters, reference: 100 k}]
rungs: {epochs: [0.01]}
data: {dataset: cifar10, validation_images: 500}
training: {precision: fp32, channels_last: true}
budget: {trials: 1}
workers: {kind: tune}
"""
FOLDER = Path(os.environ.get("NAS_DATA_DIR", "")) / CIFAR10.layout
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        "NAS_DATA_DIR" not in os.environ or not FOLDER.is_dir(),
        reason=f"NAS_DATA_DIR does not name a folder with {CIFAR10.layout}",
    ),
]


@pytest.fixture(scope="module")
def cifar10() -> Dataset:
    return load(DataSpec())


def test_counts_and_classes_are_the_published_ones(cifar10):
    """Each of ten classes has 5,000 of 50,000 and 1,000 of 10,000 images (Krizhevsky, 2009)."""
    assert cifar10.train.labels.bincount().tolist() == [5000] * 10
    assert cifar10.test().labels.bincount().tolist() == [1000] * 10
    assert cifar10.classes == (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )


def test_the_restricted_reader_reads_what_pickle_reads(cifar10):
    """The second way is the code that the data set's home page gives."""
    for number in (1, 5):
        with (FOLDER / f"data_batch_{number}").open("rb") as file:
            batch = pickle.load(file, encoding="bytes")  # noqa: S301 - what this test compares with
        rows = slice(10_000 * (number - 1), 10_000 * number)
        pixels = torch.from_numpy(np.asarray(batch[b"data"])).view(-1, 3, 32, 32)
        assert torch.equal(cifar10.train.images[rows], pixels)
        assert cifar10.train.labels[rows].tolist() == batch[b"labels"]


def test_mean_and_deviation_are_those_of_the_pixels(cifar10):
    """They agree within 0.003: the published constants are those of the original pixels, and copies
    may be compressed.
    """
    mean, std = channel_statistics(cifar10.train.images[::10])
    assert cifar10.mean == pytest.approx(mean, abs=0.003)
    assert cifar10.std == pytest.approx(std, abs=0.003)


def test_the_validation_split_has_500_images_of_each_class(cifar10):
    """The others are trained on."""
    train, validation = split(cifar10.train.labels, 5000, 0)
    assert cifar10.train.labels[validation].bincount().tolist() == [500] * 10
    assert cifar10.train.labels[train].bincount().tolist() == [4500] * 10


@pytest.mark.slow
def test_workers_of_an_own_cluster_find_the_data_in_the_folder_of_the_search(tmp_path):
    """The data lie in ./data, as on a machine without settings."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / CIFAR10.layout).symlink_to(FOLDER.resolve())
    (tmp_path / "study.yaml").write_text(STUDY)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NAS_")}
    done = subprocess.run(
        [sys.executable, "-c", "from nas.cli import main; main()", "search", "study.yaml"],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert [trial.state for trial in store.trials("here")] == ["complete"]
