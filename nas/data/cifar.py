"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32x32
pixels, 10 or 100 classes.

Read from the official Python layout, `cifar-10-batches-py` or `cifar-100-python`, in
`$NAS_DATA_DIR` or `./data`; where it is in neither, downloaded from its official address, checked
against its official MD5, and put there in one step.
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

from nas.core.errors import CorruptFileError, DataNotFoundError
from nas.core.study import DataSpec
from nas.data import Channels, Dataset, Images, Progress
from nas.data.pickles import read_pickle

TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 18
PER_BATCH = b"num_cases_per_batch"


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """One of the two, where it is published, and how its files are laid out.

    `names` and `labels` are the keys of the classes' names (in the file `meta`) and of the images'
    classes. `per_file` are the images of each training and each test file, None where `meta` says
    so.
    """

    name: str
    layout: str
    address: str
    md5: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    names: bytes
    labels: bytes
    per_file: tuple[int, int] | None
    mean: Channels
    std: Channels

    def prepare(self, spec: DataSpec, progress: Progress | None) -> int:
        """Find or download the files; gives the number of training images."""
        folder = self._find()
        if folder is None:
            folder = self._download(progress)
        return len(self.train) * self._meta(folder)[1][0]

    def load(self, spec: DataSpec) -> Dataset:
        """Read the training images."""
        folder = self._find()
        if folder is None:
            raise DataNotFoundError(f"no {self.layout} in {' or '.join(map(str, folders()))}")
        classes, (per_train, per_test) = self._meta(folder)
        read = partial(self._read, folder, len(classes))
        return Dataset(
            name=self.name,
            classes=classes,
            train=read(per_train, self.train),
            mean=self.mean,
            std=self.std,
            read_test=partial(read, per_test, self.test),
        )

    def _find(self) -> Path | None:
        return next(
            (found for folder in folders() if (found := folder / self.layout).is_dir()), None
        )

    def _download(self, progress: Progress | None) -> Path:
        """Download and unpack beside the target, then rename: the folder is there whole or not at
        all.
        """
        target = folders()[0]
        try:
            target.mkdir(parents=True, exist_ok=True)
            with (
                _alone(target),
                tempfile.TemporaryDirectory(prefix=f"{self.layout}.part", dir=target) as part,
            ):
                found = self._find()  # by now, where another worker of this machine was faster
                if found is not None:
                    return found
                archive = Path(part) / "archive.tar.gz"
                self._fetch(archive, progress)
                _unpack(archive, Path(part) / self.layout)
                return (Path(part) / self.layout).rename(target / self.layout)
        except (OSError, http.client.HTTPException, tarfile.TarError) as error:
            looked = " nor in ".join(str(folder.absolute()) for folder in folders())
            raise DataNotFoundError(
                f"no {self.layout} in {looked}, and downloading {self.address} to "
                f"{target.absolute()} failed ({error or type(error).__name__}); set NAS_DATA_DIR "
                f"to the folder that holds {self.layout}"
            ) from error

    def _fetch(self, path: Path, progress: Progress | None) -> None:
        digest, received = hashlib.md5(usedforsecurity=False), 0
        with (
            urllib.request.urlopen(self.address, timeout=TIMEOUT_S) as response,  # noqa: S310
            path.open("wb") as file,
        ):
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

    def _meta(self, folder: Path) -> tuple[tuple[str, ...], tuple[int, int]]:
        """The names of the classes, and the images of each training and each test file."""
        path = folder / self.meta
        values = read_pickle(path)
        try:
            per_file = self.per_file or (int(values[PER_BATCH]),) * 2
            return tuple(name.decode() for name in values[self.names]), per_file
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            asked = " and ".join(
                key.decode() for key in (self.names, *(() if self.per_file else (PER_BATCH,)))
            )
            raise CorruptFileError(f"{path} must hold {asked}: {error!r}") from error

    def _read(self, folder: Path, classes: int, per_file: int, names: tuple[str, ...]) -> Images:
        files = [self._read_file(folder / name, per_file, classes) for name in names]
        pixels = np.concatenate([pixels for pixels, _ in files]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([labels for _, labels in files])
        return Images(torch.from_numpy(pixels), torch.from_numpy(labels))

    def _read_file(self, path: Path, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels uint8 (images, 3072) and labels int64 (images,)."""
        values = read_pickle(path)
        pixels, labels = (
            (values.get(b"data"), values.get(self.labels))
            if isinstance(values, dict)
            else (None, None)
        )
        if (
            not isinstance(pixels, np.ndarray)
            or pixels.dtype != np.uint8
            or pixels.shape != (images, 3072)
            or not isinstance(labels, list)
            or len(labels) != images
            or not all(isinstance(label, int) and 0 <= label < classes for label in labels)
        ):
            raise CorruptFileError(
                f"{path} must hold {images} rows of 3072 bytes and as many labels below {classes}"
            )
        return pixels, np.array(labels, dtype=np.int64)


def folders() -> list[Path]:
    """Where data sets may lie: `$NAS_DATA_DIR` where it is set, then `./data`; a download goes to
    the first.
    """
    given = os.environ.get("NAS_DATA_DIR")
    return [*([Path(given)] if given else []), Path("data")]


def _unpack(archive: Path, folder: Path) -> None:
    """Write its files by their last names, so that nothing lands elsewhere; Python 3.11.2
    (Debian's) has no filters.
    """
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


CIFAR10 = Cifar(
    name="cifar10",
    layout="cifar-10-batches-py",
    address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    meta="batches.meta",
    names=b"label_names",
    labels=b"labels",
    per_file=None,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = Cifar(
    name="cifar100",
    layout="cifar-100-python",
    address="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    train=("train",),
    test=("test",),
    meta="meta",
    names=b"fine_label_names",
    labels=b"fine_labels",
    per_file=(50_000, 10_000),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)
