"""The data set `boxes`: a folder with the splits train and val, and test for final trainings."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from nas.core.errors import DataNotFoundError, InvalidValueError
from nas.core.study import DataSpec
from nas.data import Dataset, Progress
from nas.detection.scenes import Scenes, read_scenes

TRAIN, VALIDATION, TEST = "train", "val", "test"
"""The splits: trials train with the first and are judged with the second. Final trainings train
with both and are judged with the third.
"""


@dataclass(frozen=True)
class Boxes:
    """Images with boxes in the folder `DataSpec.folder`, in any of the layouts of
    `nas.detection.scenes`.
    """

    def prepare(self, spec: DataSpec, progress: Progress | None) -> int:
        """Check the images for training and for validation, and return the number of the first.

        Raises the errors of `read_scenes`, and `DataNotFoundError` for a split without boxes.
        """
        train = read_split(spec, TRAIN)
        read_split(spec, VALIDATION, train.classes)
        return len(train)

    def validation_images(self, spec: DataSpec) -> int:
        """Return the number of images of the split val."""
        return len(read_split(spec, VALIDATION))

    def left_out(self, spec: DataSpec) -> Sequence[str]:
        """Return lines that name the boxes and files that are left out, and clipped boxes."""
        splits = (read_split(spec, split) for split in (TRAIN, VALIDATION))
        return [note for scenes in splits for note in scenes.notes]

    def file_digests(self, spec: DataSpec) -> dict[str, str]:
        """Return a SHA-256 of the boxes and of the images of each split that is there."""
        digests = {}
        for split in (TRAIN, VALIDATION, TEST):
            try:
                scenes = read_split(spec, split)
            except DataNotFoundError:
                continue
            digest = hashlib.sha256(scenes.digest.encode())
            for scene in scenes:
                digest.update(hashlib.sha256(scene.path.read_bytes()).digest())
            digests[split] = digest.hexdigest()
        return digests

    def load(self, spec: DataSpec) -> Dataset:
        """Raise `InvalidValueError`, because boxes are no classes of images."""
        raise InvalidValueError(
            "data.dataset: boxes are for detectors; name evaluator: detector, or another data set"
        )


BOXES = Boxes()


def read_split(spec: DataSpec, split: str, classes: Sequence[str] | None = None) -> Scenes:
    """Read one split. Raises the errors of `read_scenes`, and `DataNotFoundError` without a folder
    or without any box.
    """
    if spec.folder is None:
        raise DataNotFoundError("data.folder: boxes need the folder of their images")
    scenes = read_scenes(Path(spec.folder), split, classes)
    if not any(scene.truths for scene in scenes):
        raise DataNotFoundError(f"{spec.folder} has no boxes in the split {split}")
    return scenes


def train_and_validation(spec: DataSpec, seed: int) -> tuple[Scenes, Scenes]:
    """Return the images with which trials train, at most `train_images` drawn by the seed, and
    those with which they are judged.
    """
    train = read_split(spec, TRAIN)
    if spec.train_images is not None and spec.train_images < len(train):
        order = np.random.default_rng(seed).permutation(len(train))
        train = train.take(torch.from_numpy(np.sort(order[: spec.train_images])))
    return train, read_split(spec, VALIDATION, train.classes)


def all_training(spec: DataSpec) -> Scenes:
    """Return the images of both splits, with which final trainings train."""
    train = read_split(spec, TRAIN)
    validation = read_split(spec, VALIDATION, train.classes)
    return replace(train, scenes=(*train, *validation), notes=())
