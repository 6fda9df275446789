"""Data sets of synthetic files: reading, downloading, errors, the split, and the fallback."""

import hashlib
import http.server
import pickle
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas.core.errors import (
    CorruptFileError,
    DataNotFoundError,
    InvalidValueError,
    MissingDependencyError,
)
from nas.core.study import DataSpec
from nas.data import Images, digits, load, resolve, split
from nas.data.cifar import CIFAR10, CIFAR100
from nas.data.pickles import read_pickle
from nas.data.statistics import channel_statistics

SPEC = DataSpec(validation_images=10)
NOWHERE = "http://127.0.0.1:1/cifar-10-python.tar.gz"
dumps = partial(pickle.dumps, protocol=4)
"""Protocol 2 of Python 3 writes bytes as a call; the official files, from Python 2, have no such
call.
"""
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def write_layout(folder: Path, per_batch: int = 20) -> Path:
    """Write a tiny data set in the official layout, with pixels that encode batch, image and
    channel.
    """
    target = folder / CIFAR10.layout
    target.mkdir(parents=True)
    for number, name in enumerate(BATCHES):
        rows = np.array(
            [[50 * channel + number + image for channel in range(3)] for image in range(per_batch)]
        )
        batch = {
            b"data": rows.repeat(1024, axis=1).astype(np.uint8),
            b"labels": [i % 10 for i in range(per_batch)],
        }
        (target / name).write_bytes(dumps(batch))
    meta = {
        b"num_cases_per_batch": per_batch,
        b"label_names": [f"class {i}".encode() for i in range(10)],
    }
    (target / "batches.meta").write_bytes(dumps(meta))
    return target


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """An empty `$NAS_DATA_DIR`, with an empty current folder beside it."""
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path / "sets"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "sets"


@pytest.fixture
def published(tmp_path):
    """The data set as an archive on a real web server: `Cifar` with its address and MD5, and the
    file.
    """
    served = tmp_path / "served"
    write_layout(served)
    archive = served / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(served / CIFAR10.layout, CIFAR10.layout)
    handler = partial(QuietHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        digest = hashlib.md5(archive.read_bytes()).hexdigest()  # noqa: S324 - the official checksum is an MD5
        yield (
            replace(
                CIFAR10,
                addresses=(f"http://127.0.0.1:{server.server_port}/cifar.tar.gz",),
                md5=digest,
            ),
            archive,
        )
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """A web server's handler without a log."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


# the split


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 5), min_size=3, max_size=300),
    st.floats(0, 1),
    st.integers(0, 2**31 - 1),
)
@example([0, 1, 2, 2, 2, 2, 2, 2], 0.6, 0)
def test_the_split_is_disjoint_exact_and_keeps_the_shares_of_the_classes(labels, part, seed):
    """The shares are kept to within one image of each class, also if one class has most images."""
    labels = torch.tensor(labels)
    count = 1 + round(part * (len(labels) - 2))
    train, validation = split(labels, count, seed)
    assert len(validation) == count
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(len(labels)))
    for label in range(6):
        share = (labels == label).sum().item() * count / len(labels)
        assert abs((labels[validation] == label).sum().item() - share) < 1


def test_the_split_depends_on_the_seed_only():
    """The golden indices reveal a change of the split, which would change the meaning of every
    recorded error.
    """
    labels = torch.arange(1000) % 10
    first, again, other = (split(labels, 100, seed)[1] for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first[:6].tolist() == GOLDEN


GOLDEN = [35, 37, 39, 49, 65, 71]


def test_train_images_are_limited_class_by_class():
    """The remaining images have equal shares of ten classes."""
    labels = torch.arange(1000) % 10
    train, validation = split(labels, 100, 0, train_images=200)
    assert labels[train].bincount().tolist() == [20] * 10
    assert not set(train.tolist()) & set(validation.tolist())


def test_a_split_without_training_images_is_refused():
    """The error names the possible numbers."""
    with pytest.raises(InvalidValueError, match="from 1 to 9, not 10"):
        split(torch.arange(10), 10, 0)


# CIFAR-10


def test_pixels_labels_and_classes_are_read_from_the_official_layout(data_dir):
    """The pixels encode batch, image and channel."""
    write_layout(data_dir)
    dataset = load(SPEC)
    assert dataset.classes[3] == "class 3"
    assert dataset.train.images.shape == (100, 3, 32, 32)
    assert dataset.train.images[43, :, 5, 6].tolist() == [
        2 + 3,
        50 + 2 + 3,
        100 + 2 + 3,
    ]  # third batch, fourth image
    assert dataset.train.labels[43] == 3
    assert dataset.test().images[0, 0, 0, 0] == 5


def test_the_test_images_are_read_on_request_only(data_dir):
    """Loading works without the test file, and `test` reports that it is missing."""
    (write_layout(data_dir) / "test_batch").unlink()
    dataset = load(SPEC)
    with pytest.raises(CorruptFileError, match="test_batch"):
        dataset.test()


def test_data_in_the_current_folder_is_the_second_place(data_dir):
    """It is read if `$NAS_DATA_DIR` has no data set."""
    write_layout(Path("data"))
    assert not data_dir.exists()
    assert len(load(SPEC).train) == 100


def test_a_missing_data_set_is_downloaded_checked_and_put_in_place(data_dir, published):
    """Progress ends with all bytes, and no temporary file remains."""
    source, archive = published
    reported: list[tuple[int, int | None]] = []
    assert source.prepare(SPEC, lambda done, total: reported.append((done, total))) == 100
    assert reported[-1] == (archive.stat().st_size, archive.stat().st_size)
    assert [path.name for path in data_dir.iterdir()] == [CIFAR10.layout]
    assert len(source.load(SPEC).train) == 100


def test_concurrent_workers_download_once(data_dir, published):
    """The others wait for the first."""
    source, archive = published
    reported = []
    with ThreadPoolExecutor() as pool:
        assert (
            list(
                pool.map(
                    lambda _: source.prepare(SPEC, lambda done, _: reported.append(done)), range(4)
                )
            )
            == [100] * 4
        )
    assert reported.count(archive.stat().st_size) == 1
    assert [path.name for path in data_dir.iterdir()] == [CIFAR10.layout]


def test_a_download_with_another_checksum_leaves_nothing(data_dir, published):
    """The error has both checksums."""
    source = replace(published[0], md5="0" * 32)
    with pytest.raises(DataNotFoundError, match=f"MD5 is {published[0].md5} instead of 0000"):
        source.prepare(SPEC, None)
    assert list(data_dir.iterdir()) == []


def test_a_missing_data_set_names_the_variable_the_folders_and_the_reason(data_dir):
    """All of them are in one line."""
    with pytest.raises(DataNotFoundError) as caught:
        replace(CIFAR10, addresses=(NOWHERE,)).prepare(SPEC, None)
    message = str(caught.value)
    for part in ("NAS_DATA_DIR", str(data_dir), str(Path("data").absolute()), NOWHERE, "refused"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data_batch_2", b""),
        ("data_batch_2", b"no pickle"),
        ("data_batch_2", dumps({b"data": np.zeros((20, 3072)), b"labels": [0] * 20})),
        ("data_batch_2", dumps({b"data": np.zeros((20, 3072), np.uint8), b"labels": [10] * 20})),
        ("data_batch_2", dumps({b"data": np.zeros((19, 3072), np.uint8), b"labels": [0] * 19})),
        ("data_batch_2", dumps([1, 2, 3])),
        ("batches.meta", dumps({b"num_cases_per_batch": 20})),
    ],
)
def test_a_wrong_file_gives_one_line_with_its_path(data_dir, name, content):
    """This holds for files of another type, shape or length."""
    path = write_layout(data_dir) / name
    path.write_bytes(content)
    with pytest.raises(CorruptFileError) as caught:
        load(SPEC)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(data_dir, share):
    """This holds for a cut at any place."""
    path = write_layout(data_dir) / "data_batch_5"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CorruptFileError, match="data_batch_5"):
        load(SPEC)


class Malicious:
    """An object whose pickle creates a file when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickle_that_runs_code_is_refused_before_it_runs(tmp_path):
    """The file that it would create does not exist afterwards."""
    path = tmp_path / "evil"
    path.write_bytes(dumps({b"data": Malicious(tmp_path / "pwned")}))
    with pytest.raises(CorruptFileError, match=r"it names .*, which no data file needs"):
        read_pickle(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "numpy\nload", "numpy.core.multiarray\nscalar"]
)
def test_only_the_three_names_of_arrays_are_allowed(tmp_path, name):
    """Other names of NumPy and Python are refused."""
    path = tmp_path / "evil"
    path.write_bytes(f"c{name}\n.".encode())
    with pytest.raises(CorruptFileError, match="no data file needs"):
        read_pickle(path)


def test_strings_of_python_2_are_read_as_bytes(tmp_path):
    """CIFAR-10 was written with Python 2."""
    path = tmp_path / "old"
    path.write_bytes(b"\x80\x02U\x03abc.")  # SHORT_BINSTRING, what Python 2 wrote for 'abc'
    assert read_pickle(path) == b"abc"


# digits and the fallback


def test_digits_are_the_published_images_enlarged():
    """There are 1,797 images, as scikit-learn documents, split with equal shares of the classes."""
    dataset = load(DataSpec(dataset="digits", validation_images=300))
    test = dataset.test()
    assert len(dataset.train) + len(test) == 1797
    assert dataset.train.images.shape[1:] == (3, 32, 32)
    assert dataset.train.images.max() == 255
    assert (dataset.train.images[:, :1] == dataset.train.images).all()
    shares = test.labels.bincount() / len(test) - dataset.train.labels.bincount() / len(
        dataset.train
    )
    assert shares.abs().max() < 0.005


@pytest.mark.usefixtures("data_dir")
def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    """Before any training. If they are the fallback, the reason for it is named too."""
    monkeypatch.setattr("nas.data.cifar.CIFAR10", replace(CIFAR10, addresses=(NOWHERE,)))
    digits._halves.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    hint = r"pip install 'osa-nas\[digits\]'"
    with pytest.raises(MissingDependencyError, match=hint):
        resolve(DataSpec(dataset="digits"))
    with pytest.raises(DataNotFoundError, match=rf"(?s)cifar.*; of the fallback: .*{hint}"):
        resolve(DataSpec(fallback="digits"))


def test_a_small_fallback_is_reported_and_validates_on_a_fifth(data_dir, monkeypatch):
    """The specification to record names the fallback and its own number of validation images."""
    monkeypatch.setattr("nas.data.cifar.CIFAR10", replace(CIFAR10, addresses=(NOWHERE,)))
    resolution = resolve(DataSpec(fallback="digits", validation_images=5000))
    assert resolution.spec == DataSpec(dataset="digits", validation_images=287)  # a fifth of 1,437
    assert "using the fallback 'digits' instead of 'cifar10'" in resolution.warnings[0]
    assert "287, instead of 5000" in resolution.warnings[1]
    assert not data_dir.exists() or not list(data_dir.iterdir())


@pytest.mark.usefixtures("data_dir")
def test_a_large_fallback_validates_on_the_requested_images(monkeypatch):
    """Only the fallback itself is reported."""
    monkeypatch.setattr("nas.data.cifar.CIFAR10", replace(CIFAR10, addresses=(NOWHERE,)))
    resolution = resolve(DataSpec(fallback="digits", validation_images=500))
    assert resolution.spec.validation_images == 500
    assert len(resolution.warnings) == 1


@pytest.mark.usefixtures("data_dir")
def test_without_a_fallback_nothing_replaces_the_data_set(monkeypatch):
    """The error names the variable for the data folder."""
    monkeypatch.setattr("nas.data.cifar.CIFAR10", replace(CIFAR10, addresses=(NOWHERE,)))
    with pytest.raises(DataNotFoundError, match="NAS_DATA_DIR"):
        load(SPEC)


def test_an_available_data_set_is_used_without_its_fallback(data_dir):
    """There are no warnings."""
    write_layout(data_dir)
    resolution = resolve(replace(SPEC, fallback="digits"))
    assert resolution.spec == SPEC
    assert resolution.warnings == ()


def test_a_corrupt_data_set_is_not_replaced_by_the_fallback(data_dir):
    """The error names the damaged file."""
    (write_layout(data_dir) / "batches.meta").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"batches\.meta"):
        resolve(replace(SPEC, fallback="digits"))


def test_too_many_validation_images_of_the_requested_data_set_are_refused():
    """Only a fallback may change the number."""
    with pytest.raises(
        InvalidValueError, match="less than the 1437 training images of digits, not 5000"
    ):
        resolve(DataSpec(dataset="digits"))


# values


def test_statistics_of_the_histogram_are_those_of_the_pixels():
    """Mean and deviation equal those that torch computes from the pixels."""
    pixels = torch.randint(
        256, (50, 3, 7, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mean, std = channel_statistics(pixels)
    scaled = pixels.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist())


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2)),
    ],
)
def test_images_of_another_shape_or_type_are_refused(images, labels):
    """The error names the right shape and type."""
    with pytest.raises(InvalidValueError, match="must be"):
        Images(images, labels)


def test_cifar_100_is_read_from_its_own_layout(data_dir, monkeypatch):
    """Its files also hold the twenty coarse classes, which are not used."""
    folder = data_dir / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, images in (("train", 200), ("test", 100)):
        rows = np.arange(images, dtype=np.uint8)[:, None].repeat(3072, axis=1)
        batch = {
            b"data": rows,
            b"fine_labels": [i % 100 for i in range(images)],
            b"coarse_labels": [3] * images,
        }
        (folder / name).write_bytes(dumps(batch))
    names = [f"fine {i}".encode() for i in range(100)]
    (folder / "meta").write_bytes(
        dumps({b"fine_label_names": names, b"coarse_label_names": names[:20]})
    )
    monkeypatch.setattr("nas.data.cifar.CIFAR100", replace(CIFAR100, per_file=(200, 100)))
    dataset = load(DataSpec(dataset="cifar100", validation_images=50))
    assert (dataset.name, len(dataset.classes), dataset.classes[99]) == ("cifar100", 100, "fine 99")
    assert dataset.train.labels.bincount().tolist() == [2] * 100
    assert dataset.test().images[42].unique().tolist() == [42]


@pytest.mark.parametrize(
    ("source", "file", "md5"),
    [
        (CIFAR10, "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
        (CIFAR100, "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    ],
)
def test_the_official_address_and_checksum_are_the_published_ones(source, file, md5):
    """They are copied from the data set's page."""
    assert source.addresses[0] == f"https://www.cs.toronto.edu/~kriz/{file}"
    assert all(address.endswith(f"/{file}") for address in source.addresses)
    assert source.md5 == md5


def test_images_are_reduced_by_the_mean_of_areas():
    """Four pixels become their mean; a constant image stays constant at any size."""
    pixels = torch.tensor([[0, 100], [50, 250]], dtype=torch.uint8).repeat_interleave(2, 0)
    images = Images(
        images=pixels.repeat_interleave(2, 1).expand(1, 3, 4, 4), labels=torch.zeros(1).long()
    )
    assert images.reduced(2).images[0, 0].tolist() == [[0, 100], [50, 250]]
    assert images.reduced(1).images.flatten().tolist() == [100, 100, 100]
    flat = Images(
        images=torch.full((2, 3, 32, 32), 77, dtype=torch.uint8), labels=torch.zeros(2).long()
    )
    assert (flat.reduced(12).images == 77).all()
    assert flat.reduced(12).images.shape == (2, 3, 12, 12)
    with pytest.raises(InvalidValueError, match="cannot be reduced to 33"):
        flat.reduced(33)


class FaultyHandler(http.server.BaseHTTPRequestHandler):
    """Serves `archive` from the requested place, or fails as the path says."""

    archive = b""
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        fault = self.path.split("/")[1]
        asked = self.headers["Range"]
        self.asked.append((fault, asked))
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        body = self.archive[start:]
        if fault == "lie":
            body = b"x" * len(body)
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(self.archive) // 2
        try:
            self.wfile.write(
                body[:half] if fault == "cut" else body[:1] if fault == "stall" else body
            )
            self.wfile.flush()
            if fault == "stall":
                self.server.released.wait(10)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def faulty(published, data_dir, monkeypatch):  # noqa: ARG001 - downloads go there
    """A function from faults to a data source with one address for each, and the requests."""
    _, archive = published
    monkeypatch.setattr("nas.data.cifar.TIMEOUT_S", 0.5)
    FaultyHandler.archive, FaultyHandler.asked = archive.read_bytes(), []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FaultyHandler) as server:
        server.released = threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}"

        def source(*faults):
            addresses = tuple(f"{base}/{fault}/cifar.tar.gz" for fault in faults)
            return replace(published[0], addresses=addresses)

        yield source, FaultyHandler.asked, base
        server.released.set()
        server.shutdown()
        thread.join()


def test_a_download_resumes_at_the_next_address_after_a_cut(faulty, data_dir):
    """From the next address, at the byte where the first one ended."""
    source, asked, _ = faulty
    source("cut", "good").prepare(SPEC, None)
    half = len(FaultyHandler.archive) // 2
    assert asked == [("cut", "bytes=0-"), ("good", f"bytes={half}-")]
    assert sorted(path.name for path in data_dir.iterdir() if path.is_dir()) == [CIFAR10.layout]


def test_an_interrupted_download_is_resumed_by_the_next_call(faulty):
    """What a failed call received is not downloaded again."""
    source, asked, _ = faulty
    with pytest.raises(DataNotFoundError, match="the download ended after"):
        source("cut").prepare(SPEC, None)
    source("good").prepare(SPEC, None)
    assert asked[-1] == ("good", f"bytes={len(FaultyHandler.archive) // 2}-")


def test_a_server_that_stalls_or_lies_is_left_for_the_next(faulty):
    """A stall ends after the timeout; an archive with another checksum is thrown away whole."""
    source, asked, _ = faulty
    source("stall", "lie", "good").prepare(SPEC, None)
    assert [fault for fault, _ in asked] == ["stall", "lie", "good"]
    assert asked[-1] == ("good", "bytes=0-")


def test_every_address_that_failed_is_named_with_its_reason(faulty):
    """One line for all of them."""
    source, _, base = faulty
    with pytest.raises(DataNotFoundError) as caught:
        source("stall", "lie").prepare(SPEC, None)
    message = str(caught.value)
    assert f"{base}/stall/cifar.tar.gz: " in message
    assert f"{base}/lie/cifar.tar.gz: its MD5 is" in message
    assert "\n" not in message


def test_mirrors_of_the_user_are_tried_first(faulty, monkeypatch):
    """`NAS_DATA_MIRRORS` holds addresses of folders, separated by spaces."""
    source, asked, base = faulty
    monkeypatch.setenv("NAS_DATA_MIRRORS", f"{base}/lie/ {base}/good")
    source("official").prepare(SPEC, None)
    assert [fault for fault, _ in asked] == ["lie", "good"]
