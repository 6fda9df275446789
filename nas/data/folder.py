"""Image folders: `train/<class>/*` and `test/<class>/*`, any format that Pillow reads. Classes are
in order of name.

All images become RGB squares of `DataSpec.image_size` pixels; the whole folder is one tensor, so it
must fit in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from nas.core.errors import CorruptFileError, DataNotFoundError, MissingDependencyError
from nas.core.study import DataSpec
from nas.data import Dataset, Images, Progress
from nas.data.statistics import channel_statistics


@dataclass(frozen=True)
class ImageFolder:
    """The data set under `DataSpec.folder`."""

    def prepare(self, spec: DataSpec, progress: Progress | None) -> int:
        """The number of training images."""
        _pillow()
        return len(_files(_root(spec), "train", _classes(_root(spec))))

    def load(self, spec: DataSpec) -> Dataset:
        """Read the training images."""
        root, size = _root(spec), spec.image_size or 32
        classes = _classes(root)
        train = _part(root, "train", classes, size)
        mean, std = channel_statistics(train.images)
        return Dataset(
            name=f"folder {root}",
            classes=classes,
            train=train,
            mean=mean,
            std=std,
            read_test=partial(_part, root, "test", classes, size),
        )


def _root(spec: DataSpec) -> Path:
    if spec.folder is None:
        raise DataNotFoundError(
            "data.folder must name the image folder, with train/<class>/* and test/<class>/* in it"
        )
    return Path(spec.folder)


def _classes(root: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in (root / "train").glob("[!.]*/"))
    if len(names) < 2:
        raise DataNotFoundError(
            f"{root / 'train'} must have a folder of images for each of two or more classes"
        )
    return tuple(names)


def _part(root: Path, part: str, classes: tuple[str, ...], size: int) -> Images:
    return _read(_files(root, part, classes), size)


def _files(root: Path, part: str, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The images of one part with their class numbers, hidden files left out."""
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((root / part / name).glob("[!.]*"))
        if path.is_file()
    ]
    if not found:
        raise DataNotFoundError(
            f"no images in {root / part}/<class>/ for the classes {', '.join(classes)}"
        )
    return found


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("pillow", "folder") from error
    return Image


def _read(files: list[tuple[Path, int]], size: int) -> Images:
    pillow = _pillow()
    pixels = np.empty((len(files), size, size, 3), dtype=np.uint8)
    for row, (path, _) in zip(pixels, files, strict=True):
        try:
            with pillow.open(path) as image:
                row[:] = np.asarray(image.convert("RGB").resize((size, size)))
        except (OSError, ValueError) as error:
            raise CorruptFileError(f"{path} is not a readable image: {error}") from error
    labels = torch.tensor([label for _, label in files])
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels)


def center_crops(
    root: Path, *, shorter: int = 256, size: int = 224, batch: int = 32
) -> Iterator[Images]:
    """The images of `root/<class>/*` by the batch, as ImageNet's validation shows them: scaled so
    that the shorter side has `shorter` pixels, then the middle square of `size`. Only one batch is
    in memory.

    Raises `DataNotFoundError` for a folder without classes, `CorruptFileError` for a file that is
    no image.
    """
    pillow = _pillow()
    classes = tuple(sorted(path.name for path in root.glob("[!.]*/")))
    files = _files(root.parent, root.name, classes)
    for start in range(0, len(files), batch):
        some = files[start : start + batch]
        pixels = np.stack([_center_crop(pillow, path, shorter, size) for path, _ in some])
        labels = torch.tensor([label for _, label in some])
        yield Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels)


def _center_crop(pillow: ModuleType, path: Path, shorter: int, size: int) -> np.ndarray:
    try:
        with pillow.open(path) as image:
            scale = shorter / min(image.size)
            scaled = image.convert("RGB").resize(
                (round(image.width * scale), round(image.height * scale))
            )
            left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
            return np.asarray(scaled.crop((left, top, left + size, top + size)))
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path} is not a readable image: {error}") from error


FOLDER = ImageFolder()
