"""CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32x32 pixels in ten classes.

Read from the official Python layout `cifar-10-batches-py` in `$NAS_DATA_DIR` or `./data`; where it is in neither,
downloaded from its official address, checked against its official MD5, and put there in one step.
"""

import fcntl
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nas.data import Dataset, Images, Progress
from nas.data.pickles import read_pickle
from nas.errors import CorruptFileError, DataNotFoundError
from nas.study import DataSpec

LAYOUT = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """The data set, and where it is published."""

    address: str = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    md5: str = "c58f30108f718f92721af3b95e74349a"

    def prepare(self, spec: DataSpec, progress: Progress | None) -> int:  # noqa: ARG002 - one protocol for all
        """Find or download the batches; gives the number of training images."""
        folder = self._find()
        if folder is None:
            folder = self._download(progress)
        return len(TRAIN_BATCHES) * _meta(folder)[0]

    def load(self, spec: DataSpec) -> Dataset:  # noqa: ARG002
        """Read the training batches."""
        folder = self._find()
        if folder is None:
            raise DataNotFoundError(f"no {LAYOUT} in {' or '.join(map(str, folders()))}")
        per_batch, classes = _meta(folder)
        read = partial(_read_batches, folder, per_batch, len(classes))
        return Dataset(name="cifar10", classes=classes, train=read(TRAIN_BATCHES), mean=MEAN, std=STD,
                       read_test=partial(read, ("test_batch",)))

    @staticmethod
    def _find() -> Path | None:
        return next((found for folder in folders() if (found := folder / LAYOUT).is_dir()), None)

    def _download(self, progress: Progress | None) -> Path:
        """Download and unpack beside the target, then rename: the folder is there whole or not at all."""
        target = folders()[0]
        try:
            target.mkdir(parents=True, exist_ok=True)
            with _alone(target), tempfile.TemporaryDirectory(prefix=f"{LAYOUT}.part", dir=target) as part:
                found = self._find()  # by now, where another worker of this machine was faster
                if found is not None:
                    return found
                archive = Path(part) / "archive.tar.gz"
                self._fetch(archive, progress)
                _unpack(archive, Path(part) / LAYOUT)
                return (Path(part) / LAYOUT).rename(target / LAYOUT)
        except (OSError, http.client.HTTPException, tarfile.TarError) as error:
            looked = " nor in ".join(str(folder.absolute()) for folder in folders())
            raise DataNotFoundError(f"no {LAYOUT} in {looked}, and downloading {self.address} to {target.absolute()} "
                                    f"failed ({error or type(error).__name__}); set NAS_DATA_DIR to the folder that "
                                    f"holds {LAYOUT}") from error

    def _fetch(self, path: Path, progress: Progress | None) -> None:
        digest, received = hashlib.md5(usedforsecurity=False), 0
        with urllib.request.urlopen(self.address, timeout=TIMEOUT_S) as response, path.open("wb") as file:  # noqa: S310 - the address is ours
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                if progress is not None:
                    progress(received, total)
        if total is not None and received < total:
            raise OSError(f"it broke off after {received} of {total} bytes")
        if digest.hexdigest() != self.md5:
            raise OSError(f"its MD5 is {digest.hexdigest()} instead of {self.md5}")


def folders() -> list[Path]:
    """Where data sets may lie: `$NAS_DATA_DIR` where it is set, then `./data`; a download goes to the first."""
    given = os.environ.get("NAS_DATA_DIR")
    return [*([Path(given)] if given else []), Path("data")]


def _unpack(archive: Path, folder: Path) -> None:
    """Write its files by their last names, so that nothing lands elsewhere; Python 3.11.2 (Debian's) has no filters."""
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                with content, (folder / Path(member.name).name).open("wb") as file:
                    shutil.copyfileobj(content, file)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is here."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _meta(folder: Path) -> tuple[int, tuple[str, ...]]:
    """Images per batch and the names of the classes."""
    path = folder / "batches.meta"
    values = read_pickle(path)
    try:
        return int(values[b"num_cases_per_batch"]), tuple(name.decode() for name in values[b"label_names"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError(f"{path} must hold num_cases_per_batch and label_names: {error!r}") from error


def _read_batches(folder: Path, per_batch: int, classes: int, names: tuple[str, ...]) -> Images:
    batches = [_read_batch(folder / name, per_batch, classes) for name in names]
    pixels = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in batches])
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def _read_batch(path: Path, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (images, 3072) and labels int64 (images,)."""
    values = read_pickle(path)
    pixels, labels = (values.get(b"data"), values.get(b"labels")) if isinstance(values, dict) else (None, None)
    if (not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (images, 3072)
            or not isinstance(labels, list) or len(labels) != images
            or not all(isinstance(label, int) and 0 <= label < classes for label in labels)):
        raise CorruptFileError(f"{path} must hold {images} rows of 3072 bytes and as many labels below {classes}")
    return pixels, np.array(labels, dtype=np.int64)


CIFAR10 = Cifar10()
