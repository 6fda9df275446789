"""Image folders: `train/<class>/*` and `test/<class>/*`, in any format that Pillow reads.

Classes are in the order of their names. All images become RGB squares of `DataSpec.image_size`
pixels by the rules of `nas.data.image_file`. Each part is one tensor, which must fit in memory.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nas.core.checks import shortlist
from nas.core.errors import DataNotFoundError, InvalidValueError
from nas.core.study import DataSpec
from nas.data import Dataset, Images, Progress
from nas.data.image_file import check_readable, stack
from nas.data.memory import check_memory
from nas.data.statistics import channel_statistics

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_IMAGE_SIZE = 32
"""Side in pixels of the images if the study file gives none."""
NOT_CLASSES = frozenset({"__MACOSX"})
"""Folders that archive programs leave behind; names that begin with a dot are no classes either."""
MAX_LISTED_NAMES = 5
"""A warning names at most this many folders or files and counts the others."""

Classes = Mapping[str, Sequence[Path]]
"""The image files of one part by the name of their class, in order."""


@dataclass(frozen=True)
class ImageFolder:
    """The data set in the folder `DataSpec.folder`."""

    def prepare(self, spec: DataSpec, progress: Progress | None) -> int:
        """Check both parts and return the number of training images.

        Raises `DataNotFoundError` if there are no training images of two classes,
        `InvalidValueError` if the test part has other classes or the images need more memory than
        there is, and `CorruptFileError` that lists the damaged files of both parts.
        """
        train, test = _both_parts(_root(spec))
        check_memory(len(_files(train)), spec.image_size or DEFAULT_IMAGE_SIZE)
        check_readable([*_files(train), *_files(test)])
        return len(_files(train))

    def left_out(self, spec: DataSpec) -> list[str]:
        """Return a line for each kind of folder or file that is not read."""
        root = _root(spec)
        return [line for part in ("train", "test") for line in _left_out(root / part)]

    def file_digests(self, spec: DataSpec) -> dict[str, str]:
        """Return a SHA-256 of the images of each part and class, by `train/<class>`."""
        root = _root(spec)
        return {
            f"{part}/{name}": _digest(files)
            for part in ("train", "test")
            for name, files in _classes(root / part).items()
        }

    def load(self, spec: DataSpec) -> Dataset:
        """Read the training images."""
        root, size = _root(spec), spec.image_size or DEFAULT_IMAGE_SIZE
        classes = _training_classes(root)
        train = _read(classes, size)
        mean, std = channel_statistics(train.images)
        return Dataset(
            name=f"folder {root}",
            classes=tuple(classes),
            train=train,
            mean=mean,
            std=std,
            read_test=partial(_read_test, root, size),
        )


def center_crops(
    root: Path, *, shorter: int = 256, size: int = 224, batch: int = 32
) -> Iterator[Images]:
    """Yield the images of `root/<class>/*` in batches, cropped as for ImageNet's validation.

    Each image is scaled until its shorter side has `shorter` pixels, and its middle square of
    `size` pixels is kept. Only one batch is in memory. A class folder without images keeps its
    number.

    Raises `DataNotFoundError` for a folder without images, and `CorruptFileError` that lists the
    damaged files of a batch.
    """
    files = [
        (path, label)
        for label, folder in enumerate(class_folders(root))
        for path in _visible_files(folder)
    ]
    if not files:
        raise DataNotFoundError(f"no images in {root}/<class>/")
    crop = partial(_center_crop, shorter=shorter, size=size)
    for start in range(0, len(files), batch):
        paths, labels = zip(*files[start : start + batch], strict=True)
        yield Images(stack(paths, crop, size), torch.tensor(labels))


def _root(spec: DataSpec) -> Path:
    if spec.folder is None:
        raise DataNotFoundError(
            "data.folder must name the image folder, with train/<class>/* and test/<class>/* in it"
        )
    return Path(spec.folder)


def _both_parts(root: Path) -> tuple[Classes, Classes]:
    """Return the training classes and the test classes, which must have the same names."""
    train, test = _training_classes(root), _classes(root / "test")
    if not test:
        raise InvalidValueError(
            f"{root / 'test'} has no images: put a part of each class there, a fifth for example; "
            "a search does not look at them, nas train judges networks with them"
        )
    problems = [
        f"{root / part} has no images of classes that {other} has: "
        f"{shortlist(names, MAX_LISTED_NAMES)}"
        for part, other, names in (
            ("test", "train", [name for name in train if name not in test]),
            ("train", "test", [name for name in test if name not in train]),
        )
        if names
    ]
    if problems:
        raise InvalidValueError("\n".join(problems))
    return train, test


def _training_classes(root: Path) -> Classes:
    folder = root / "train"
    classes = _classes(folder)
    if len(classes) < 2:
        problem = f"{folder} must have a folder of images for each of two or more classes"
        raise DataNotFoundError("\n".join([problem, *_left_out(folder)]))
    return classes


def _classes(part: Path) -> Classes:
    """Return the classes that have images."""
    folders = class_folders(part)
    return {folder.name: files for folder in folders if (files := _visible_files(folder))}


def class_folders(part: Path) -> list[Path]:
    """Return the folders of the classes in the order of their names, also those without images."""
    return [folder for folder in _folders(part) if _may_be_class(folder)]


def _folders(part: Path) -> list[Path]:
    return sorted(path for path in part.glob("*") if path.is_dir())


def _may_be_class(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name not in NOT_CLASSES


def _visible_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_file())


def _left_out(part: Path) -> Iterator[str]:
    """Yield a line for each reason for which folders or files of a part are not read."""
    classes = class_folders(part)
    inside = [path for folder in classes for path in sorted(folder.rglob("[!.]*"))]
    deeper = [path for path in inside if path.is_file() and path.parent not in classes]
    links = [path for path in (*sorted(part.glob("[!.]*")), *inside) if path.is_symlink()]
    for paths, reason in (
        ([folder for folder in _folders(part) if not _may_be_class(folder)], "they are no classes"),
        ([folder for folder in classes if not _visible_files(folder)], "they hold no images"),
        (_visible_files(part), "they are in no class folder"),
        (deeper, "images must be directly in their class folder"),
        ([path for path in links if not path.exists()], "their links lead nowhere"),
    ):
        if paths:
            names = [str(path.relative_to(part)) for path in paths]
            yield f"{part}: left out because {reason}: {shortlist(names, MAX_LISTED_NAMES)}"


def _digest(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the names and the contents of files."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode(errors="surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def _files(classes: Classes) -> list[Path]:
    return [path for files in classes.values() for path in files]


def _read(classes: Classes, size: int) -> Images:
    labels = [label for label, files in enumerate(classes.values()) for _ in files]
    images = stack(_files(classes), lambda image: image.resize((size, size)), size)
    return Images(images, torch.tensor(labels))


def _read_test(root: Path, size: int) -> Images:
    return _read(_both_parts(root)[1], size)


def _center_crop(image: "Image", *, shorter: int, size: int) -> "Image":
    scale = shorter / min(image.size)
    scaled = image.resize((round(image.width * scale), round(image.height * scale)))
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


FOLDER = ImageFolder()
"""The data set `folder`."""
