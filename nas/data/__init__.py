"""Labelled images in memory: the data sets of the group `nas.datasets`, and the split into images
for training and for validation.

A data set is one uint8 tensor. A search sees a stratified split of its training images. The test
images are read when `Dataset.test` is called, which only the training of finished networks does.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from nas.core import plugins
from nas.core.errors import (
    DataNotFoundError,
    InvalidValueError,
    MissingDependencyError,
    foreign_code,
)
from nas.core.study import DataSpec

Progress = Callable[[int, int | None], None]
"""Called during a download with the bytes so far and all bytes, which may be unknown (None)."""

Channels = tuple[float, float, float]
"""One value for each of red, green and blue."""
REDUCED_AT_ONCE = 256
"""Images that are floating-point numbers at once while they are reduced."""


@dataclass(frozen=True, repr=False)
class Images:
    """Labelled images: `images` uint8 (N, 3, H, W) in RGB order; `labels` int64 (N,), class numbers
    from 0.

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
        """Copy the images of these indices, in this order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def reduced(self, side: int) -> Self:
        """Return the images with `side` x `side` pixels, each the mean of the area that it covers.

        Raises `InvalidValueError` for more pixels than the images have.
        """
        if not 0 < side <= min(self.images.shape[-2:]):
            raise InvalidValueError(
                f"images of {tuple(self.images.shape[-2:])} pixels cannot be reduced to {side}"
            )
        parts = [
            adaptive_avg_pool2d(part.float(), side).round().to(torch.uint8)
            for part in torch.split(self.images, REDUCED_AT_ONCE)
        ]
        return replace(self, images=torch.cat(parts))

    def to(self, device: torch.device | str) -> Self:
        """Return the same images on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set and its name. `mean` and `std` are those of each channel of the training images,
    with pixels scaled to [0, 1].
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    mean: Channels
    std: Channels
    read_test: Callable[[], Images] = field(repr=False)

    def test(self) -> Images:
        """Read the test images now. Only finished networks are judged with them."""
        return self.read_test()


class DataSource(Protocol):
    """Interface of the objects that are registered in `nas.datasets`."""

    def prepare(self, spec: DataSpec, progress: Progress | None) -> int:
        """Find, check or download the files and return the number of training images.

        No pixels are kept. Raises `DataNotFoundError` with all places that were tried, and
        `CorruptFileError` with the path of a damaged file.
        """

    def load(self, spec: DataSpec) -> Dataset:
        """Read the training images, which are prepared. Raises `CorruptFileError` with the path of
        a damaged file.
        """


@runtime_checkable
class PartialSource(Protocol):
    """A data source that does not read everything it finds."""

    def left_out(self, spec: DataSpec) -> Sequence[str]:
        """Return lines that name the files or folders that are not read, and the reason."""


@runtime_checkable
class FileSource(Protocol):
    """A data source whose files a user may change."""

    def file_digests(self, spec: DataSpec) -> Mapping[str, str]:
        """Return a SHA-256 (hex) of the names and contents of the files of each part and class."""


@runtime_checkable
class SplitSource(Protocol):
    """A data source that has validation images of its own."""

    def validation_images(self, spec: DataSpec) -> int:
        """Return their number. None are drawn from the training images."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The data that a study will use, to be recorded with it.

    `spec` has no fallback any more. `warnings` are lines on what differs from the request and on
    what the data set leaves out.
    """

    spec: DataSpec
    warnings: tuple[str, ...] = ()


def resolve(spec: DataSpec, *, progress: Progress | None = None) -> Resolution:
    """Find or download the data set, or else its fallback, before a study starts.

    If `validation_images` is more than half of a fallback's training images, a fifth of them is
    used for validation. Raises `DataNotFoundError` if there is neither, and `InvalidValueError` if
    the requested data set is too small for `validation_images`.
    """
    source = _source(spec)
    try:
        with _foreign(spec):
            total = source.prepare(spec, progress)
    except DataNotFoundError as error:
        if spec.fallback is None:
            raise
        try:
            return _fallback(spec, str(error), progress)
        except MissingDependencyError as missing:
            raise DataNotFoundError(f"{error}; of the fallback: {missing}") from missing
    if isinstance(source, SplitSource):
        with _foreign(spec):
            spec = replace(spec, validation_images=source.validation_images(spec))
    elif spec.validation_images >= total:
        raise InvalidValueError(
            f"data.validation_images must be less than the {total} training images of "
            f"{spec.dataset}, not {spec.validation_images}"
        )
    with _foreign(spec):
        left_out = source.left_out(spec) if isinstance(source, PartialSource) else ()
    return Resolution(spec=replace(spec, fallback=None), warnings=tuple(left_out))


def load(spec: DataSpec, *, progress: Progress | None = None) -> Dataset:
    """Read the training images of the data set that `resolve` settles on.

    Raises the errors of `resolve`, and `CorruptFileError`.
    """
    resolved = resolve(spec, progress=progress).spec
    with _foreign(resolved):
        return _source(resolved).load(resolved)


def file_digests(spec: DataSpec) -> dict[str, str]:
    """Return a SHA-256 (hex) of the files of each part and class; nothing for other data sets."""
    source = _source(spec)
    with _foreign(spec):
        return dict(source.file_digests(spec)) if isinstance(source, FileSource) else {}


def split(
    labels: Tensor, validation_images: int, seed: int, train_images: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the indices to train on and to validate on: int64, increasing, disjoint, and the same
    for the same seed on every machine.

    Both keep the shares of the classes to within one image. `train_images` limits the indices to
    train on; None takes all that are not used for validation. Raises `InvalidValueError` if no
    training image would remain.
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


def _foreign(spec: DataSpec) -> AbstractContextManager[None]:
    """Turn every error of a data set's own code into one line that names the data set."""
    return foreign_code(f"data set {spec.dataset!r} cannot be read")


def _fallback(spec: DataSpec, reason: str, progress: Progress | None) -> Resolution:
    resolved = replace(spec, dataset=spec.fallback or spec.dataset, fallback=None)
    with _foreign(resolved):
        total = _source(resolved).prepare(resolved, progress)
    reason = "; ".join(reason.splitlines())
    warnings = [f"using the fallback {resolved.dataset!r} instead of {spec.dataset!r}: {reason}"]
    if spec.validation_images > total / 2:
        resolved = replace(resolved, validation_images=total // 5)
        warnings.append(
            f"{resolved.dataset!r} has only {total} training images: validating on a fifth of "
            f"them, {resolved.validation_images}, instead of {spec.validation_images}"
        )
    return Resolution(spec=resolved, warnings=tuple(warnings))


def _stratified(
    labels: np.ndarray, indices: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw `count` of `indices`, sorted, with each class's share; the largest remainders are
    rounded up.
    """
    shuffled = rng.permutation(indices)
    classes = [shuffled[labels[shuffled] == label] for label in np.unique(labels[shuffled])]
    sizes = np.array([len(members) for members in classes])
    taken, remainders = np.divmod(sizes * count, len(indices))
    ties = rng.random(len(classes))
    taken[np.lexsort((ties, -remainders))[: count - taken.sum()]] += 1
    drawn = [members[:number] for members, number in zip(classes, taken, strict=True)]
    return np.sort(np.concatenate(drawn))
