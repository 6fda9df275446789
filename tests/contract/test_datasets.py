"""Every data set of this repository passes the contract.

The files of those that are downloaded are synthetic, and nothing is downloaded.
"""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.core import plugins
from nas.core.study import DataSpec
from nas.data.cifar import CIFAR10, CIFAR100
from nas.testing.dataset_contract import DatasetContract

UNIT_TESTS = Path(__file__).parents[1] / "unit"
CIFAR_FILES = runpy.run_path(str(UNIT_TESTS / "test_data.py"))
"""The functions that write synthetic files of CIFAR-10."""


class CifarContract(DatasetContract):
    """The contract in a folder that `$NAS_DATA_DIR` names, without a web server."""

    @pytest.fixture(autouse=True)
    def _data_dir(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
        monkeypatch.delenv("NAS_DATA_MIRRORS", raising=False)
        monkeypatch.chdir(tmp_path)

    def spec_without_files(self, folder):
        return DataSpec(validation_images=10)


class TestCifar10(CifarContract):
    """100 synthetic images in the official layout."""

    def make(self):
        return replace(CIFAR10, addresses=(CIFAR_FILES["NOWHERE"],))

    def spec(self, folder):
        CIFAR_FILES["write_layout"](folder)
        return DataSpec(dataset="cifar10", validation_images=10)


class TestCifar100(CifarContract):
    """200 synthetic images in the official layout."""

    def make(self):
        return replace(CIFAR100, addresses=(CIFAR_FILES["NOWHERE"],), per_file=(200, 100))

    def spec(self, folder):
        layout, dumps = folder / CIFAR100.layout, CIFAR_FILES["dumps"]
        layout.mkdir()
        for name, images in (("train", 200), ("test", 100)):
            rows = np.arange(images, dtype=np.uint8)[:, None].repeat(3072, axis=1)
            labels = [number % 100 for number in range(images)]
            (layout / name).write_bytes(dumps({b"data": rows, b"fine_labels": labels}))
        names = [f"class {number}".encode() for number in range(100)]
        (layout / "meta").write_bytes(dumps({b"fine_label_names": names}))
        return DataSpec(dataset="cifar100", validation_images=100)


class TestDigits(DatasetContract):
    """The digits of scikit-learn, which need no files."""

    def make(self):
        return plugins.load("nas.datasets", "digits")


class TestFolder(DatasetContract):
    """A folder with six images of each of two classes."""

    def make(self):
        return plugins.load("nas.datasets", "folder")

    def spec(self, folder):
        image = pytest.importorskip("PIL.Image")
        for part in ("train", "test"):
            for label, name in enumerate(("cat", "dog")):
                (folder / part / name).mkdir(parents=True)
                for number in range(6):
                    colour = (100 * label, number, 7)
                    path = folder / part / name / f"{number}.png"
                    image.new("RGB", (20, 30), colour).save(path)
        return DataSpec(dataset="folder", folder=str(folder), validation_images=4, image_size=16)

    def spec_without_files(self, folder):
        return DataSpec(dataset="folder", folder=str(folder), validation_images=4)


def test_every_registered_data_set_is_tested():
    """A new data set gets a class in this file. The data set boxes has no classes of images; it is
    tested in test_detector_study.py.
    """
    named = ["boxes", "cifar10", "cifar100", "digits", "folder"]
    assert plugins.names("nas.datasets") == named
