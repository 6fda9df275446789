"""Image folders and image files: classes, both parts, damaged files, the colours of each mode."""

import io
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.errors import CorruptFileError, DataNotFoundError, InvalidValueError, NasError
from nas.core.study import DataSpec, Objective, StudySpec, WorkersSpec
from nas.data import load, memory, resolve
from nas.data.folder import center_crops
from nas.data.image_file import read_rgb
from nas.data.memory import available_bytes
from nas.searching.evaluators.classification import evaluator

Image = pytest.importorskip("PIL.Image")


def write_images(root: Path) -> DataSpec:
    for part, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (20 + number, 30), (100 * label, number, 7))
                image.save(folder / f"{number}.png")
            (folder / ".hidden").touch()
    return DataSpec(dataset="folder", folder=str(root), validation_images=4, image_size=16)


def test_an_image_folder_is_read_in_order_of_class_and_name(tmp_path):
    """The colours are those that were written, and no warning is given."""
    spec = write_images(tmp_path)
    dataset = load(spec)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.images.shape == (12, 3, 16, 16)
    assert dataset.train.images[8, :, 3, 4].tolist() == [100, 2, 7]
    assert dataset.train.labels.tolist() == [0] * 6 + [1] * 6
    assert len(dataset.test()) == 4
    assert resolve(spec).warnings == ()


@pytest.mark.parametrize("name", ["bird", "__MACOSX", ".thumbnails"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_folder_without_images_is_no_class(tmp_path, part, name):
    """The study is told which folder is left out. Folders of archive programs are never classes."""
    spec = write_images(tmp_path)
    (tmp_path / part / name).mkdir()
    if name != "bird":
        Image.new("RGB", (8, 8)).save(tmp_path / part / name / "0.png")
    assert load(spec).classes == ("cat", "dog")
    (warning,) = resolve(spec).warnings
    assert warning.startswith(f"{tmp_path / part}: left out because they ")
    assert warning.endswith(f": {name}")


def test_files_that_are_in_no_class_folder_or_deeper_are_named(tmp_path):
    spec = write_images(tmp_path)
    (tmp_path / "test" / "labels.csv").touch()
    more = tmp_path / "train" / "dog" / "more"
    more.mkdir()
    for number in range(7):
        Image.new("RGB", (8, 8)).save(more / f"{number}.png")
    (tmp_path / "train" / "dog" / "more" / ".hidden").touch()
    assert len(load(spec).train) == 12
    deeper, beside = resolve(spec).warnings
    assert deeper.startswith(
        f"{tmp_path}/train: left out because images must be directly in their class folder: "
        "dog/more/0.png, dog/more/1.png, "
    )
    assert deeper.endswith(", dog/more/4.png and 2 more")
    assert beside == f"{tmp_path}/test: left out because they are in no class folder: labels.csv"


def test_links_that_lead_nowhere_are_named(tmp_path):
    """A link to a picture is read as one, and a link to a folder as a class."""
    spec = write_images(tmp_path)
    (tmp_path / "train" / "dog").rename(tmp_path / "dogs")
    (tmp_path / "train" / "dog").symlink_to(tmp_path / "dogs")
    (tmp_path / "train" / "wolf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dogs" / "9.png").symlink_to(tmp_path / "dogs" / "1.png")
    (tmp_path / "train" / "cat" / "8.png").symlink_to(tmp_path / "unmounted" / "8.png")
    assert len(load(spec).train) == 13
    (warning,) = resolve(spec).warnings
    assert warning == (
        f"{tmp_path}/train: left out because their links lead nowhere: wolf, cat/8.png"
    )


def machine(root: Path, *, free_kb: int, limits: dict[str, str]) -> Path:
    """Write Linux's files on memory below `root`: control groups by their names."""
    files = {
        "proc/meminfo": f"MemTotal: 999999999 kB\nMemAvailable: {free_kb} kB\n",
        "proc/self/cgroup": "0::/user/session\n",
        **{f"sys/fs/cgroup/{name}/memory.max": limit for name, limit in limits.items()},
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 2_048_000),
        ({"user": "max", "user/session": "1000\n"}, 1000),
        ({"user": "3000\n", "user/session": "max\n"}, 3000),
        ({"user": "9999999\n"}, 2_048_000),
        ({"other": "1000\n"}, 2_048_000),
    ],
)
def test_free_memory_is_at_most_that_of_the_control_groups(tmp_path, limits, expected):
    """A group has the limits of those above it too."""
    assert available_bytes(machine(tmp_path, free_kb=2000, limits=limits)) == expected
    assert available_bytes(tmp_path / "nowhere") is None


def test_images_that_do_not_fit_into_memory_are_refused_before_one_is_read(tmp_path, monkeypatch):
    """Twelve images of 16 pixels take 18,432 bytes twice; of 8 pixels 4,608."""
    spec = write_images(tmp_path)
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"no image")
    monkeypatch.setattr(memory, "available_bytes", lambda: 18_431)
    with pytest.raises(InvalidValueError) as caught:
        resolve(spec)
    assert str(caught.value) == (
        "data.image_size 16: 12 images of 16 x 16 pixels need 18.4 kB of memory, and 18.4 kB are "
        "free; take image_size 8"
    )
    with pytest.raises(CorruptFileError):
        resolve(replace(spec, image_size=8))
    monkeypatch.setattr(memory, "available_bytes", lambda: 18_432)
    with pytest.raises(CorruptFileError):
        resolve(spec)


def test_images_that_this_process_holds_do_not_count_twice(monkeypatch):
    """Workers read them again after this process has ended."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 4 * 18_432 - 9_216)
    memory.check_memory(12, 16, 4, held=1)
    with pytest.raises(InvalidValueError):
        memory.check_memory(12, 16, 4)


def test_images_of_one_size_need_fewer_workers(monkeypatch):
    """As those of CIFAR, for which a study cannot choose another size."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(InvalidValueError) as caught:
        memory.check_memory(12, 16, 4, resizable=False)
    assert str(caught.value).startswith("12 images of 16 x 16 pixels in each of 4 workers need")
    assert str(caught.value).endswith("; take fewer workers")


@pytest.mark.parametrize(
    ("available", "cure"),
    [(4 * 18_432, None), (4 * 18_432 - 1, "image_size 8"), (1000, "fewer images")],
)
def test_every_worker_holds_the_images(monkeypatch, available, cure):
    """Either fewer pixels or fewer workers fit."""
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    if cure is None:
        memory.check_memory(12, 16, 4)
        return
    with pytest.raises(InvalidValueError, match=rf"in each of 4 workers .*; take {cure} or fewer"):
        memory.check_memory(12, 16, 4)


def test_a_study_whose_workers_do_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    """As many of them count as have cores on this machine."""
    data = write_images(tmp_path)
    study = StudySpec(
        name="large",
        space="osa_tiny",
        objectives=(Objective(metric="error"),),
        data=data,
        workers=WorkersSpec(kind="tune", count=8),
    )
    monkeypatch.setattr(memory, "available_bytes", lambda: 20_000)
    monkeypatch.setattr(evaluator, "usable_cores", lambda: 2)
    with pytest.raises(InvalidValueError, match=r"in each of 2 workers need 36\.9 kB"):
        evaluator.Evaluator.prepare_training(study, data)


def test_deeper_folders_alone_are_no_classes(tmp_path):
    """The error also names the images that are too deep."""
    spec = write_images(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).rename(tmp_path / "moved")
        (tmp_path / "train" / name).mkdir()
        (tmp_path / "moved").rename(tmp_path / "train" / name / "2020")
    with pytest.raises(DataNotFoundError) as caught:
        resolve(spec)
    assert "two or more classes" in str(caught.value)
    assert "cat/2020/0.png" in str(caught.value)


def test_a_study_without_test_images_does_not_start(tmp_path):
    spec = write_images(tmp_path)
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(InvalidValueError, match="test has no images: put a part of each class"):
        resolve(spec)


def test_both_parts_must_have_the_same_classes(tmp_path):
    """Both differences are in one error."""
    spec = write_images(tmp_path)
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "wolf")
    with pytest.raises(InvalidValueError) as caught:
        resolve(spec)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/test has no images of classes that train has: dog",
        f"{tmp_path}/train has no images of classes that test has: wolf",
    ]


def encoded(form: str, size: int = 64) -> bytes:
    """An image of noise as a file."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def large() -> bytes:
    file = io.BytesIO()
    Image.new("1", (20000, 20000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not recognise its format"),
        (b"no image", "does not recognise its format"),
        (encoded("JPEG")[:-900], "truncated"),
        (encoded("PNG")[:-900], "truncated"),
        (encoded("PNG")[:20], ""),
        (encoded("GIF")[:-900], "truncated"),
        (encoded("TIFF")[:4000], ""),
        (encoded("PNG").replace(b"IDAT", b"IDAX"), ""),
        (encoded("BMP")[:50], ""),
        (large(), "more than 178,956,970 pixels; make it smaller"),
    ],
)
def test_a_damaged_image_of_either_part_gives_one_line_with_its_path(
    tmp_path, part, content, reason
):
    """It is found when the study starts, before any training, whatever the decoder raises."""
    spec = write_images(tmp_path)
    path = tmp_path / part / "cat" / "1.png"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError) as caught:
        resolve(spec)
    assert str(caught.value).startswith(f"{path} is not a readable image: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_damaged_images_are_listed_at_once(tmp_path):
    """The error names the first ten of both parts, and counts the others."""
    spec = write_images(tmp_path)
    damaged = [*sorted(tmp_path.glob("train/*/*.png")), tmp_path / "test" / "dog" / "1.png"]
    for path in damaged:
        path.write_bytes(b"")
    with pytest.raises(CorruptFileError) as caught:
        resolve(spec)
    *lines, last = str(caught.value).splitlines()
    assert [line.split(" is not ")[0] for line in lines] == [str(path) for path in damaged[:10]]
    assert last == "and 3 more files are not readable images"


def test_an_image_that_is_damaged_later_is_noticed(tmp_path):
    spec = write_images(tmp_path)
    resolve(spec)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"cat/1\.png"):
        resolve(spec)


def test_the_command_ends_with_one_line_for_a_damaged_image(tmp_path, monkeypatch):
    write_images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    Path("images/train/cat/1.png").write_bytes(large())
    Path("study.yaml").write_text(
        """
        name: damaged
        space: osa_tiny
        sampler: random
        objectives: [{metric: error, reference: 100 %}]
        rungs: {epochs: [1]}
        data: {dataset: folder, folder: images, image_size: 16, validation_images: 4}
        budget: {trials: 1}
        """
    )
    done = CliRunner().invoke(main, ["search", "study.yaml", "--database", "new.db"])
    assert done.exit_code == 2
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1
    assert errors[0].startswith("error: images/train/cat/1.png is not a readable image: ")
    assert not Path("new.db").exists()


@pytest.mark.parametrize(
    "spec", [DataSpec(dataset="folder"), DataSpec(dataset="folder", folder="/nowhere")]
)
def test_a_folder_that_is_missing_says_what_is_expected(spec):
    with pytest.raises(NasError, match="train"):
        load(spec)


# image files


def read_back(image, path, **options):
    """The pixels (H, W, 3) of a file that the image is saved in."""
    image.save(path, **options)
    return np.asarray(read_rgb(path)).tolist()


GREY_16 = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
GREY_8 = [[[level] * 3 for level in (0, 1, 128, 255)]]
"""65535 = 257 x 255, therefore these 16-bit levels are whole 8-bit levels."""


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm", "a.pgm"])
def test_16_bit_grey_is_scaled(tmp_path, name):
    assert read_back(Image.fromarray(GREY_16), tmp_path / name) == GREY_8


def test_16_bit_grey_of_the_other_byte_order_is_scaled(tmp_path):
    image = Image.frombytes("I;16B", (4, 1), GREY_16.astype(">u2").tobytes())
    assert read_back(image, tmp_path / "a.tif") == GREY_8


def test_12_bit_grey_is_scaled_from_its_own_range(tmp_path):
    """A TIFF file of two pixels, 0 and 4095, written by hand, since Pillow writes none."""
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    header = b"II*\0" + struct.pack("<I", 12)
    (tmp_path / "a.tif").write_bytes(header + b"\x00\x0f\xff\0" + directory)
    assert np.asarray(read_rgb(tmp_path / "a.tif")).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(tmp_path, kind):
    Image.fromarray(np.zeros((2, 2), dtype=kind)).save(tmp_path / "a.tif")
    with pytest.raises(CorruptFileError, match=r"a\.tif .* save it with 8 or 16 bits"):
        read_rgb(tmp_path / "a.tif")


def palette(*, transparent: int | bytes | None) -> tuple[Any, dict[str, Any]]:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 50, 60, 70])
    image.putdata([0, 1])
    return image, {} if transparent is None else {"transparency": transparent}


def of_pixels(mode: str, *pixels: Any) -> Any:
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (of_pixels("RGBA", (9, 8, 7, 0), (50, 60, 70, 255)), {}, [[255] * 3, [50, 60, 70]]),
        (of_pixels("RGBA", (0, 0, 0, 51), (0, 0, 0, 255)), {}, [[204] * 3, [0] * 3]),
        (of_pixels("LA", (9, 0), (50, 255)), {}, [[255] * 3, [50] * 3]),
        (of_pixels("RGB", (9, 8, 7), (50, 60, 70)), {"transparency": (9, 8, 7)}, None),
        (of_pixels("L", 9, 50), {"transparency": 9}, [[255] * 3, [50] * 3]),
        (*palette(transparent=0), None),
        (*palette(transparent=b"\x00\xff"), None),
        (*palette(transparent=None), [[9, 8, 7], [50, 60, 70]]),
    ],
)
def test_transparent_pixels_are_white(tmp_path, image, options, expected):
    """An alpha of 51 is a fifth: four fifths of white remain."""
    pixels = read_back(image, tmp_path / "a.png", **options)
    assert pixels == [expected or [[255] * 3, [50, 60, 70]]]


def test_transparent_pixels_of_a_gif_are_white(tmp_path):
    image, options = palette(transparent=0)
    assert read_back(image, tmp_path / "a.gif", **options) == [[[255] * 3, [50, 60, 70]]]


@pytest.mark.parametrize(
    ("mode", "pixels", "expected"),
    [
        ("CMYK", [(0, 0, 0, 0), (255, 0, 0, 0)], [[255] * 3, [0, 255, 255]]),
        ("1", [0, 255], [[0] * 3, [255] * 3]),
        ("L", [3, 250], [[3] * 3, [250] * 3]),
    ],
)
def test_other_modes_keep_their_colours(tmp_path, mode, pixels, expected):
    assert read_back(of_pixels(mode, *pixels), tmp_path / "a.tif") == [expected]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda stored: stored),
        (2, np.fliplr),
        (3, lambda stored: np.rot90(stored, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: np.rot90(stored, 2).T),
        (8, np.rot90),
    ],
)
def test_the_orientation_of_a_photograph_is_applied(tmp_path, orientation, turned):
    """The eight orientations of the Exif standard, by the place of the stored first row."""
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.array(read_back(Image.fromarray(stored), tmp_path / "a.png", exif=exif))
    assert pixels[..., 0].tolist() == turned(stored).tolist()


def test_center_crops_keep_the_number_of_an_empty_class(tmp_path):
    """The labels are outputs of a trained network, in the order of all class folders."""
    for name in ("a", "b", "c", "__MACOSX", ".cache"):
        (tmp_path / name).mkdir()
    for name in ("a", "c"):
        Image.new("RGB", (30, 20), "red").save(tmp_path / name / "0.png")
    (images,) = center_crops(tmp_path, shorter=10, size=8)
    assert images.labels.tolist() == [0, 2]
    assert images.images.shape == (2, 3, 8, 8)
