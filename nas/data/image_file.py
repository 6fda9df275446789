"""Image files as 8-bit RGB images, read with Pillow.

No conversion loses values in silence:

* 16-bit grey is scaled to 8 bits: 65535 becomes 255.
* Transparent pixels are laid over white, whatever colour the file hides beneath them.
* The orientation of a photograph (EXIF) is applied.
* 32-bit integers and floating-point numbers are refused, because the file does not say what range
  they have.

The first frame is read of a file with several frames or pages.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nas.core.errors import CorruptFileError, MissingDependencyError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_LISTED_FILES = 10
"""An error names at most this many damaged files and counts the others."""
WITH_ALPHA = frozenset({"LA", "PA", "RGBA", "RGBa"})
"""Pillow's modes with a channel of transparency."""
SCALED_TO_16_BITS = frozenset({"PNG", "PPM"})
"""Formats whose 32-bit mode `I` holds values from 0 to 65535 (PNG with Pillow before 11 only)."""
TIFF_BITS_PER_SAMPLE = 258
"""TIFF tag with the bits that a file uses of a 16-bit mode: 12 or 16."""


def read_rgb(path: Path, *, reduced: bool = False) -> "Image":
    """Read one image file in mode RGB. `reduced` reads a JPEG at an eighth of its size.

    Raises `CorruptFileError` with the path for a file that cannot be read completely or converted,
    and `MissingDependencyError` without Pillow.
    """
    with _opened(path) as image:
        if reduced:
            image.draft(None, (1, 1))
        return _rgb(image)


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height of an image file, in pixels, without decoding it.

    Raises the errors of `read_rgb`.
    """
    with _opened(path) as image:
        return image.size


def decode(file: IO[bytes]) -> "Image":
    """Decode an open image file in mode RGB. Raises whatever Pillow raises."""
    # Pillow's warnings do not name the file
    with warnings.catch_warnings(action="ignore"), _pillow().open(file) as image:
        return _rgb(image)


def unreadable(name: object, error: Exception) -> CorruptFileError:
    """Return the error of the image `name`, of which Pillow raised `error`."""
    return CorruptFileError(f"{name} is not a readable image: {_reason(error)}")


@contextmanager
def _opened(path: Path) -> "Iterator[Image]":
    """Open an image file. Whatever fails while it is open is a `CorruptFileError` with the path."""
    pillow = _pillow()
    try:
        # Pillow's warnings do not name the file, and it raises for what it cannot read.
        with warnings.catch_warnings(action="ignore"), pillow.open(path) as image:
            yield image
    except Exception as error:  # the decoders' errors have many classes, zlib.error for one
        raise unreadable(path, error) from error


def stack(paths: Sequence[Path], square: Callable[["Image"], "Image"], size: int) -> Tensor:
    """Read images as uint8 (N, 3, size, size); `square` makes a square of `size` pixels of each.

    Raises `CorruptFileError` that lists the damaged files.
    """
    pixels = np.empty((len(paths), 3, size, size), dtype=np.uint8)

    def read(index: int, path: Path) -> None:
        pixels[index] = np.asarray(square(read_rgb(path))).transpose(2, 0, 1)

    _for_each(read, paths)
    return torch.from_numpy(pixels)


def check_readable(paths: Iterable[Path]) -> None:
    """Read every file and keep no pixels. Raises `CorruptFileError` that lists the damaged files.

    A process reads a set of files once, as long as their sizes and times of change stay the same.
    """
    stats = [(path, path.stat()) for path in paths]
    _check_once(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@lru_cache(maxsize=8)
def _check_once(files: tuple[tuple[Path, int, int], ...]) -> None:
    """Read files that are given with size and time of change, which are part of the cache's key."""
    _for_each(lambda _, path: read_rgb(path, reduced=True), [path for path, _, _ in files])


def _for_each(read: Callable[[int, Path], object], paths: Iterable[Path]) -> None:
    """Call `read` with each index and path, and raise one error that lists all damaged files."""
    problems = []
    for index, path in enumerate(paths):
        try:
            read(index, path)
        except CorruptFileError as error:
            problems.append(str(error))
    if len(problems) > MAX_LISTED_FILES:
        others = f"and {len(problems) - MAX_LISTED_FILES} more files are not readable images"
        problems[MAX_LISTED_FILES:] = [others]
    if problems:
        raise CorruptFileError("\n".join(problems))


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("pillow", "folder") from error
    return Image


def _rgb(image: "Image") -> "Image":
    """Convert an open image to RGB with its orientation applied."""
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode == "I" and image.format in SCALED_TO_16_BITS:
        return _from_16_bits(image)
    if image.mode in {"I", "F"}:
        raise ValueError("its 32-bit pixels have no known range; save it with 8 or 16 bits each")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: "Image") -> "Image":
    """Scale grey from 0 to 65535 (4095 in a TIFF file of 12 bits) to RGB from 0 to 255."""
    from PIL import Image

    bits = getattr(image, "tag_v2", {}).get(TIFF_BITS_PER_SAMPLE, (16,))[0]
    grey = np.asarray(image).astype(np.float32) * (255 / (2**bits - 1))
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    """Say in one line what Pillow found wrong."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "Pillow does not recognise its format"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller"
    return " ".join(str(error).split()) or type(error).__name__
