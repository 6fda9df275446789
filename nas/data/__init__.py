"""Labelled images in memory: the data sets of the group `nas.datasets`, and the split that judges
trials.

A data set is one uint8 tensor. The search sees a stratified split of its training images; the test
images are read only when somebody asks for them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from nas.core import plugins
from nas.core.errors import DataNotFoundError, InvalidValueError
from nas.core.study import DataSpec

Progress = Callable[[int, int | None], None]
"""Told while something is downloaded: bytes so far, and all bytes where they are known."""

Channels = tuple[float, float, float]


@dataclass(frozen=True, repr=False)
class Images:
    """Labelled images: `images` uint8 (N, 3, H, W), red, green, blue; `labels` int64 (N,), class
    numbers from 0.

    Raises `InvalidValueError` for other shapes or types.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype is not torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise InvalidValueError(
                f"images must be uint8 (N, 3, H, W), not {images.dtype} {tuple(images.shape)}"
            )
        if labels.dtype is not torch.int64 or labels.shape != images.shape[:1]:
            raise InvalidValueError(
                f"labels must be int64 ({len(images)},), not {labels.dtype} {tuple(labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Images({len(self)} of {tuple(self.images.shape[1:])})"

    def take(self, indices: Tensor) -> Self:
        """A copy of these images, in this order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set under its name; `mean` and `std` are those of the training pixels scaled to [0,
    1], per channel.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    mean: Channels
    std: Channels
    read_test: Callable[[], Images] = field(repr=False)

    def test(self) -> Images:
        """The test images, read now: for finished networks only."""
        return self.read_test()


class DataSource(Protocol):
    """What is registered in `nas.datasets`."""

    def prepare(self, spec: DataSpec, progress: Progress | None) -> int:
        """See to it that the files are on this machine, download them where needed; gives the
        number of training images. Reads no pixels. Raises `DataNotFoundError` with all places that
        were tried.
        """

    def load(self, spec: DataSpec) -> Dataset:
        """Read the prepared training images. Raises `CorruptFileError` with the path of a file that
        is wrong.
        """


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The data that a study will really use, to be recorded with it: `spec` names it without a
    fallback, `warnings` say in whole lines what differs from what was asked.
    """

    spec: DataSpec
    warnings: tuple[str, ...] = ()


def resolve(spec: DataSpec, *, progress: Progress | None = None) -> Resolution:
    """Find or download the data set, or else its fallback, before a study starts.

    A fallback smaller than asked for validates on a fifth of its training images where
    `validation_images` is more than half of them. Raises `DataNotFoundError` where there is
    neither, `InvalidValueError` where the data set that was asked for is too small for
    `validation_images`.
    """
    try:
        total = _source(spec).prepare(spec, progress)
    except DataNotFoundError as error:
        if spec.fallback is None:
            raise
        return _fallback(spec, str(error), progress)
    if spec.validation_images >= total:
        raise InvalidValueError(
            f"data.validation_images must be less than the {total} training images of "
            f"{spec.dataset}, not {spec.validation_images}"
        )
    return Resolution(spec=replace(spec, fallback=None))


def load(spec: DataSpec, *, progress: Progress | None = None) -> Dataset:
    """The data set that `resolve` settles on, training images read. Raises as `resolve`, and
    `CorruptFileError`.
    """
    settled = resolve(spec, progress=progress).spec
    return _source(settled).load(settled)


def split(
    labels: Tensor, validation_images: int, seed: int, train_images: int | None = None
) -> tuple[Tensor, Tensor]:
    """Indices to train on and to validate on, int64, increasing, disjoint; the same for the same
    seed everywhere.

    Both keep the shares of the classes to within one image. `train_images` is the most to train on,
    None all that is left. Raises `InvalidValueError` where fewer than one training image would be
    left.
    """
    if not 0 < validation_images < len(labels):
        raise InvalidValueError(
            f"validation_images must be from 1 to {len(labels) - 1}, not {validation_images}"
        )
    numbers = labels.numpy(force=True)
    rng = np.random.default_rng(seed)
    validation = _stratified(numbers, np.arange(len(numbers)), validation_images, rng)
    train = np.setdiff1d(np.arange(len(numbers)), validation)
    if train_images is not None and train_images < len(train):
        train = _stratified(numbers, train, train_images, rng)
    return torch.from_numpy(train), torch.from_numpy(validation)


def _source(spec: DataSpec) -> DataSource:
    source: DataSource = plugins.load("nas.datasets", spec.dataset)
    return source


def _fallback(spec: DataSpec, reason: str, progress: Progress | None) -> Resolution:
    settled = replace(spec, dataset=spec.fallback or spec.dataset, fallback=None)
    total = _source(settled).prepare(settled, progress)
    warnings = [f"using the fallback {settled.dataset!r} instead of {spec.dataset!r}: {reason}"]
    if spec.validation_images > total / 2:
        settled = replace(settled, validation_images=total // 5)
        warnings.append(
            f"{settled.dataset!r} has only {total} training images: validating on a fifth of them, "
            f"{settled.validation_images}, instead of {spec.validation_images}"
        )
    return Resolution(spec=settled, warnings=tuple(warnings))


def _stratified(
    labels: np.ndarray, indices: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """`count` of `indices`, sorted: of each class its share, rounded so that the largest remainders
    are rounded up.
    """
    shuffled = rng.permutation(indices)
    classes = [shuffled[labels[shuffled] == label] for label in np.unique(labels[shuffled])]
    taken, remainders = np.divmod(
        np.array([len(members) for members in classes]) * count, len(indices)
    )
    ties = rng.random(len(classes))
    taken[np.lexsort((ties, -remainders))[: count - taken.sum()]] += 1
    return np.sort(
        np.concatenate([members[:number] for members, number in zip(classes, taken, strict=True)])
    )
