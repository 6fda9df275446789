"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32x32
pixels, 10 or 100 classes.

They are read from the official Python layout, `cifar-10-batches-py` or `cifar-100-python`, in
`$NAS_DATA_DIR` or `./data`. If neither has it, it is downloaded, checked against the official MD5,
and moved there in one step. The addresses in `$NAS_DATA_MIRRORS` are tried first, then the official
one, then a public mirror. An interrupted download is resumed.
"""

import fcntl
import hashlib
import http
import http.client
import os
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nas.core.errors import MALFORMED, CorruptFileError, DataNotFoundError
from nas.core.study import DataSpec
from nas.data import Channels, Dataset, Images, Progress
from nas.data.pickles import read_pickle

TIMEOUT_S = 10.0
"""Longest wait for a server, in seconds."""
MIN_BYTES_PER_S = 10_000
"""A server that sends less over `TIMEOUT_S` counts as stalled."""
MIRROR = "https://dataset.bj.bcebos.com/cifar/"
"""Folder with the same two archives, as PaddlePaddle downloads them. Found in its public source; no
download from it was tried here.
"""
CHUNK_BYTES = 1 << 18
"""Bytes that are downloaded at once."""
PER_BATCH_KEY = b"num_cases_per_batch"
"""Key of the number of images of each file."""


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """One of the two data sets: its addresses and the layout of its files.

    `names` and `labels` are the keys of the classes' names (in the file `meta`) and of the images'
    classes. `per_file` holds the numbers of images of a training file and of a test file; None
    reads them from `meta`.
    """

    name: str
    layout: str
    addresses: tuple[str, ...]
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
        """Find or download the files and return the number of training images."""
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
        places = [folder / self.layout for folder in folders()]
        return next((place for place in places if place.is_dir()), None)

    def _download(self, progress: Progress | None) -> Path:
        """Download and unpack beside the target, then rename, so that the folder is never
        incomplete.
        """
        target = folders()[0]
        try:
            target.mkdir(parents=True, exist_ok=True)
            with (
                _locked(target),
                tempfile.TemporaryDirectory(prefix=f"{self.layout}.part", dir=target) as part,
            ):
                folder = self._find()  # another worker of this machine may have been faster
                if folder is not None:
                    return folder
                archive = target / f"{self.layout}.download"  # stays, so that it can be resumed
                self._fetch(archive, progress)
                _unpack(archive, Path(part) / self.layout)
                archive.unlink()
                return (Path(part) / self.layout).rename(target / self.layout)
        except (OSError, http.client.HTTPException, tarfile.TarError) as error:
            places = " nor in ".join(str(folder.absolute()) for folder in folders())
            raise DataNotFoundError(
                f"no {self.layout} in {places}, and downloading it to {target.absolute()} failed "
                f"({error or type(error).__name__}); set NAS_DATA_DIR to the folder that holds "
                f"{self.layout}, or NAS_DATA_MIRRORS to an address that has the archive"
            ) from error

    def _fetch(self, path: Path, progress: Progress | None) -> None:
        """Download the archive from the first address that has it. Raises `OSError` with what
        happened at each.
        """
        file_name = self.addresses[0].rpartition("/")[2]
        mirrors = os.environ.get("NAS_DATA_MIRRORS", "").split()
        problems = []
        for address in (
            *(f"{mirror.rstrip('/')}/{file_name}" for mirror in mirrors),
            *self.addresses,
        ):
            try:
                _download_rest(address, path, progress)
            except (OSError, http.client.HTTPException, ValueError) as error:
                problems.append(f"{address}: {error or type(error).__name__}")
                continue
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            if digest == self.md5:
                return
            path.unlink()
            problems.append(f"{address}: its MD5 is {digest} instead of {self.md5}")
        raise OSError("; ".join(problems))

    def _meta(self, folder: Path) -> tuple[tuple[str, ...], tuple[int, int]]:
        """Return the names of the classes, and the images of a training file and of a test file."""
        path = folder / self.meta
        values = read_pickle(path)
        try:
            per_file = self.per_file or (int(values[PER_BATCH_KEY]),) * 2
            return tuple(name.decode() for name in values[self.names]), per_file
        except MALFORMED as error:
            keys = [self.names] if self.per_file else [self.names, PER_BATCH_KEY]
            names = " and ".join(key.decode() for key in keys)
            raise CorruptFileError(f"{path} must hold {names}: {error!r}") from error

    def _read(self, folder: Path, classes: int, per_file: int, names: tuple[str, ...]) -> Images:
        """Read the images of these files."""
        files = [self._read_file(folder / name, per_file, classes) for name in names]
        pixels = np.concatenate([pixels for pixels, _ in files]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([labels for _, labels in files])
        return Images(torch.from_numpy(pixels), torch.from_numpy(labels))

    def _read_file(self, path: Path, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels uint8 (images, 3072) and labels int64 (images,)."""
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
    """Return the places of data sets: `$NAS_DATA_DIR` if it is set, then `./data`.

    A download goes to the first.
    """
    chosen = os.environ.get("NAS_DATA_DIR")
    return [Path(chosen), Path("data")] if chosen else [Path("data")]


def _download_rest(address: str, path: Path, progress: Progress | None) -> None:
    """Download the rest of a file, or all of it if the server cannot resume.

    Raises `OSError` if the server is silent or slow for `TIMEOUT_S`, or stops early.
    """
    present = path.stat().st_size if path.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={present}-"})  # noqa: S310
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and present:
            return  # it is all there; its checksum follows
        raise
    with response, path.open("ab") as file:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            present = 0
            file.truncate(0)
        length = response.headers.get("Content-Length")
        total = present + int(length) if length else None
        since_s, counted = time.monotonic(), present
        while chunk := response.read1(CHUNK_BYTES):
            file.write(chunk)
            present += len(chunk)
            if progress is not None:
                progress(present, total)
            now_s = time.monotonic()
            if now_s - since_s >= TIMEOUT_S:
                if present - counted < MIN_BYTES_PER_S * (now_s - since_s):
                    raise OSError(f"it sent {present - counted} bytes in {now_s - since_s:.0f} s")
                since_s, counted = now_s, present
    if total is not None and present < total:
        raise OSError(f"the download ended after {present} of {total} bytes")


def _unpack(archive: Path, folder: Path) -> None:
    """Write the archive's files by their last names, so that none is written outside the folder.

    tarfile's own filters are missing in Debian's Python 3.11.2.
    """
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                with content, (folder / Path(member.name).name).open("wb") as file:
                    shutil.copyfileobj(content, file)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, so that one process at a time downloads."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


CIFAR10 = Cifar(
    name="cifar10",
    layout="cifar-10-batches-py",
    addresses=(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        f"{MIRROR}cifar-10-python.tar.gz",
    ),
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
    addresses=(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        f"{MIRROR}cifar-100-python.tar.gz",
    ),
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
