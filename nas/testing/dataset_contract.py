"""Tests that every data set of the group `nas.datasets` must pass.

Derive a test class, define `make`, and let pytest collect it.
"""

from abc import ABC, abstractmethod
from pathlib import Path

import pytest
import torch

from nas.core.errors import DataNotFoundError
from nas.core.study import DataSpec
from nas.data import Dataset, DataSource, FileSource, Images, PartialSource


class DatasetContract(ABC):
    """Tests of one data set."""

    @abstractmethod
    def make(self) -> DataSource:
        """Return the data source."""

    def spec(self, folder: Path) -> DataSpec:
        """Return settings with which the data set is found.

        A data set of files writes a few to `folder`, which is empty.
        """
        return DataSpec(validation_images=1)

    def spec_without_files(self, folder: Path) -> DataSpec | None:
        """Return settings with which nothing is found in `folder`, which is empty.

        None, the default, stands for a data set that needs no files.
        """
        return None

    def loaded(self, folder: Path) -> Dataset:
        """Prepare and load the data set."""
        spec, source = self.spec(folder), self.make()
        source.prepare(spec, None)
        return source.load(spec)

    def test_prepare_returns_the_number_of_training_images(self, tmp_path: Path) -> None:
        """It does so each time, with and without a function that reports progress."""
        spec, source = self.spec(tmp_path), self.make()
        totals = [source.prepare(spec, progress) for progress in (None, lambda *_: None)]
        assert totals == [len(source.load(spec).train)] * 2

    def test_it_says_what_it_is(self, tmp_path: Path) -> None:
        """It has a name, and two or more classes with names of their own."""
        dataset = self.loaded(tmp_path)
        assert dataset.name
        assert len(dataset.classes) >= 2
        assert all(isinstance(name, str) and name for name in dataset.classes)
        assert len(set(dataset.classes)) == len(dataset.classes)

    def test_training_images_are_rgb_bytes_with_labels(self, tmp_path: Path) -> None:
        """Images are uint8 (N, 3, H, W), labels int64 (N,) below the number of classes."""
        dataset = self.loaded(tmp_path)
        _check(dataset.train, dataset)

    def test_test_images_are_like_the_training_images(self, tmp_path: Path) -> None:
        """They are read when they are asked for, with the same size and the same classes."""
        dataset = self.loaded(tmp_path)
        test = dataset.test()
        _check(test, dataset)
        assert test.images.shape[1:] == dataset.train.images.shape[1:]

    def test_mean_and_deviation_are_those_of_scaled_pixels(self, tmp_path: Path) -> None:
        """There are three of each, in [0, 1], and no deviation is zero, since it divides."""
        dataset = self.loaded(tmp_path)
        assert len(dataset.mean) == len(dataset.std) == 3
        assert all(0 <= mean <= 1 for mean in dataset.mean)
        assert all(0 < std <= 1 for std in dataset.std)

    def test_it_is_the_same_each_time(self, tmp_path: Path) -> None:
        """Images and labels come in the same order from a second object."""
        spec = self.spec(tmp_path)
        one, other = (source.load(spec) for source in (self.make(), self.make()))
        assert (one.name, one.classes) == (other.name, other.classes)
        assert (one.mean, one.std) == (other.mean, other.std)
        for first, second in ((one.train, other.train), (one.test(), other.test())):
            assert torch.equal(first.images, second.images)
            assert torch.equal(first.labels, second.labels)

    def test_files_have_digests_and_what_is_left_out_is_named(self, tmp_path: Path) -> None:
        """A source whose files may change gives the same SHA-256 of each part twice. A source that
        reads only a part names the rest.
        """
        spec, source = self.spec(tmp_path), self.make()
        source.prepare(spec, None)
        if isinstance(source, FileSource):
            digests = dict(source.file_digests(spec))
            assert digests == dict(source.file_digests(spec))
            assert all(len(bytes.fromhex(digest)) == 32 for digest in digests.values())
        if isinstance(source, PartialSource):
            assert all(isinstance(line, str) and line for line in source.left_out(spec))

    def test_missing_files_are_an_error_with_the_places_tried(self, tmp_path: Path) -> None:
        """`prepare` raises `DataNotFoundError`, whose message names the folder."""
        spec = self.spec_without_files(tmp_path)
        if spec is None:
            pytest.skip("the data set needs no files")
        with pytest.raises(DataNotFoundError) as caught:
            self.make().prepare(spec, None)
        assert str(tmp_path) in str(caught.value)


def _check(images: Images, dataset: Dataset) -> None:
    """Check shapes, types and labels of one part."""
    assert isinstance(images, Images)
    assert images.images.dtype is torch.uint8
    assert images.images.ndim == 4
    assert images.images.shape[1] == 3
    assert images.labels.dtype is torch.int64
    assert images.labels.shape == images.images.shape[:1]
    assert len(images) > 0
    assert images.labels.min() >= 0
    assert images.labels.max() < len(dataset.classes)
