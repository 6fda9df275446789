"""Images with boxes in four layouts, and the problems of their files."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchvision")
pytest.importorskip("PIL")
from PIL import Image

from nas.core.errors import CorruptFileError, DataNotFoundError
from nas.detection.scenes import EXIF_ORIENTATION, read_scenes

WIDTH, HEIGHT = 40, 30


def picture(path: Path) -> None:
    """Write a red image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0)).save(path)


def write(path: Path, text: str) -> None:
    """Write a text file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def voc_xml(*objects: tuple[str, int, int, int, int]) -> str:
    """Return an annotation."""
    rows = "".join(
        f"<object><name>{name}</name><difficult>1</difficult><bndbox><xmin>{x0}</xmin>"
        f"<ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    return f"<annotation>{rows}</annotation>"


def voc(folder: Path, **annotations: str) -> Path:
    """Write a data set in VOC's layout, one image for each annotation."""
    write(folder / "ImageSets" / "Main" / "train.txt", "\n".join(annotations))
    for name, text in annotations.items():
        write(folder / "Annotations" / f"{name}.xml", text)
        picture(folder / "JPEGImages" / f"{name}.jpg")
    return folder


def coco(folder: Path, name: str = "annotations/instances_train.json") -> Path:
    """Write a data set in COCO's layout, with gaps in its ids."""
    picture(folder / "images" / "a.png")
    values = {
        "images": [{"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {
                "image_id": 7,
                "category_id": 5,
                "bbox": [10, 5, 20, 10],
                "area": 150,
                "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]],
            },
            {"image_id": 7, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    write(folder / name, json.dumps(values))
    return folder


def yolo(folder: Path, line: str = "1 0.5 0.5 0.5 0.5") -> Path:
    """Write a data set in YOLO's layout."""
    picture(folder / "images" / "train" / "a.jpg")
    write(folder / "labels" / "train" / "a.txt", f"{line}\n")
    write(folder / "data.yaml", "names: [cat, dog]\n")
    return folder


class TestLayouts:
    """The same object in each layout."""

    def test_voc(self, tmp_path):
        """Corners are taken as they are. Classes have the order of their names."""
        scenes = read_scenes(voc(tmp_path, a=voc_xml(("dog", 10, 5, 30, 15))), "train", None)
        assert (scenes.classes, scenes.notes, len(scenes)) == (("dog",), (), 1)
        target = scenes[0].target()
        assert target["boxes"].tolist() == [[10, 5, 30, 15]]
        assert target["labels"].tolist() == [1]
        assert scenes[0].truths[0].difficult
        image = scenes.image(0)
        assert image.shape == (3, HEIGHT, WIDTH)
        assert image.float().mean((1, 2)).round().tolist()[0] >= 250
        assert not scenes.has_masks

    def test_coco(self, tmp_path):
        """Ids with gaps become positions from 1. Crowds are no targets. Polygons become masks."""
        scenes = read_scenes(coco(tmp_path), "train")
        assert scenes.classes == ("cat", "dog")
        target = scenes[0].target()
        assert target["boxes"].tolist() == [[10, 5, 30, 15]]
        assert target["labels"].tolist() == [2]
        assert target["masks"].shape == (1, HEIGHT, WIDTH)
        assert int(target["masks"].sum()) == 20 * 10
        reference = scenes[0].reference()
        assert reference["boxes"].tolist() == [[10, 5, 30, 15], [0, 0, 9, 9]]
        assert (reference["labels"].tolist(), reference["crowd"].tolist()) == (
            [2, 1],
            [False, True],
        )
        assert (reference["area"][0], bool(reference["area"][1].isnan())) == (150, True)
        assert reference["masks"].sum((1, 2)).tolist() == [20 * 10, 9 * 9]

    @pytest.mark.parametrize("missing", ["bbox", "category_id"])
    def test_a_crowd_of_coco_without_box_or_class(self, tmp_path, missing):
        """It is left out and noted, as it would count neither way. Its image stays."""
        folder = coco(tmp_path)
        path = next(folder.rglob("*train.json"))
        values = json.loads(path.read_text())
        del values["annotations"][1][missing]
        path.write_text(json.dumps(values))
        scenes = read_scenes(folder, "train")
        assert scenes[0].reference()["boxes"].tolist() == [[10, 5, 30, 15]]
        assert [note for note in scenes.notes if "a crowd without a box or a class" in note]

    def test_an_image_of_coco_without_objects(self, tmp_path):
        """It has no masks to miss, so that all images have masks. One object without is missed."""
        folder = coco(tmp_path)
        path = next(folder.rglob("*train.json"))
        values = json.loads(path.read_text())
        picture(folder / "images" / "b.png")
        values["images"].append({"id": 8, "file_name": "b.png"})
        path.write_text(json.dumps(values))
        scenes = read_scenes(folder, "train")
        assert scenes.has_masks
        assert scenes[1].target()["masks"].shape == (0, HEIGHT, WIDTH)
        del values["annotations"][0]["segmentation"]
        path.write_text(json.dumps(values))
        assert not read_scenes(folder, "train").has_masks

    @pytest.mark.parametrize(
        "name", ["val.json", "annotations/val.json", "annotations/instances_val2017.json"]
    )
    def test_files_of_coco_have_exact_names(self, tmp_path, name):
        """Captions and splits whose names contain that of the split are not read."""
        folder = coco(tmp_path, "annotations/instances_trainval2017.json")
        for other in ("captions_val2017", "instances_minival2014", "person_keypoints_val2017"):
            write(folder / "annotations" / f"{other}.json", "{}")
        with pytest.raises(DataNotFoundError, match="with the split val"):
            read_scenes(folder, "val")
        coco(folder, name)
        (folder / "images").rename(folder / "val2017" if "2017" in name else folder / "val")
        assert len(read_scenes(folder, "val")) == 1

    def test_yolo(self, tmp_path):
        """Centre and sides are shares of the image."""
        scenes = read_scenes(yolo(tmp_path), "train")
        target = scenes[0].target()
        assert target["boxes"].tolist() == [[10, 7.5, 30, 22.5]]
        assert target["labels"].tolist() == [2]

    def test_yolo_with_numbered_names(self, tmp_path):
        """A class has the number of its key, in any order and with gaps."""
        folder = yolo(tmp_path, "2 0.5 0.5 0.5 0.5")
        write(folder / "data.yaml", "names: {2: cow, 0: cat}\n")
        scenes = read_scenes(folder, "train")
        assert (scenes.classes, scenes[0].truths[0].label) == (("cat", "cow"), 2)
        write(folder / "labels" / "train" / "a.txt", "1 0.5 0.5 0.5 0.5\n")
        with pytest.raises(CorruptFileError, match="the class 'class 1' is none of cat, cow"):
            read_scenes(folder, "train")

    def test_yolo_with_subfolders_and_other_files(self, tmp_path):
        """Every image is read, and every other file has a line."""
        folder = yolo(tmp_path)
        for name in ("b.webp", "night/a.tif"):
            picture(folder / "images" / "train" / name)
        write(folder / "images" / "train" / "c.heic", "")
        write(folder / "labels" / "train" / "night" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
        write(folder / "labels" / "train" / "classes.txt", "cat\ndog\n")
        scenes = read_scenes(folder, "train")
        assert [scene.name for scene in scenes] == ["a", "b", "night/a"]
        assert [len(scene.truths) for scene in scenes] == [1, 0, 1]
        (note,) = scenes.notes
        assert "c.heic is no image" in note

    def test_label_maps(self, tmp_path):
        """A box is the smallest one around the pixels of a number."""
        picture(tmp_path / "images" / "a.png")
        labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        labels[5:15, 10:30], labels[20:22, 0:3] = 4, 9
        (tmp_path / "masks").mkdir()
        Image.fromarray(labels).save(tmp_path / "masks" / "a.png")
        write(tmp_path / "splits" / "train.txt", "a\n")
        scenes = read_scenes(tmp_path, "train", ["nucleus"])
        target = scenes[0].target()
        assert target["boxes"].tolist() == [[10, 5, 30, 15], [0, 20, 3, 22]]
        assert target["masks"].sum((1, 2)).tolist() == [200, 6]
        assert torch.equal(target["masks"].max(0).values > 0, torch.from_numpy(labels) > 0)
        assert scenes.has_masks

    def test_another_folder_is_refused(self, tmp_path):
        """The error lists the layouts."""
        with pytest.raises(DataNotFoundError, match=r"split train:\nVOC: .*\nCOCO: .*\nYOLO"):
            read_scenes(tmp_path, "train")


@pytest.mark.parametrize(
    ("data", "split", "images", "objects", "notes"),
    [
        ("bccd", "train", 205, None, 1),
        ("bccd", "val", 87, None, 1),
        ("bccd", "test", 72, None, 0),
        ("nuclei", "test", 66, 2084, 0),
    ],
)
def test_published_sets_have_their_counts(data, split, images, objects, notes):
    """Splits have their published sizes. Two boxes of BCCD have no area."""
    folder = Path(os.environ.get("NAS_TEST_DETECTION", "")) / data
    if "NAS_TEST_DETECTION" not in os.environ or not folder.is_dir():
        pytest.skip(f"NAS_TEST_DETECTION names no folder with {data}")
    scenes = read_scenes(folder, split)
    assert (len(scenes), len(scenes.notes)) == (images, notes)
    assert objects in {None, sum(len(scene.truths) for scene in scenes)}
    assert scenes.has_masks == (data == "nuclei")


class TestProblems:
    """All problems are reported together."""

    def test_boxes_are_left_out_or_clipped(self, tmp_path):
        """Boxes without area and outside of the image are left out, others clipped; all noted."""
        text = voc_xml(("dog", 10, 5, 10, 15), ("dog", 50, 5, 60, 15), ("dog", -5, 5, 10, 15))
        scenes = read_scenes(voc(tmp_path, a=text), "train")
        assert scenes[0].target()["boxes"].tolist() == [[0, 5, 10, 15]]
        assert [note.split(" ", 1)[0] for note in scenes.notes] == ["a:"] * 3
        for note, words in zip(
            scenes.notes, ("has no area", "is outside", "sticks out"), strict=True
        ):
            assert words in note

    def test_missing_images_and_unknown_classes_are_listed(self, tmp_path):
        """Every missing image, damaged file and unknown class has a line."""
        folder = voc(
            tmp_path,
            a=voc_xml(("dog", 1, 1, 5, 5)),
            b=voc_xml(("cow", 1, 1, 5, 5)),
            c="<annotation>",
        )
        (folder / "JPEGImages" / "a.jpg").unlink()
        with pytest.raises(CorruptFileError) as error:
            read_scenes(folder, "train", ["dog", "cat"])
        lines = str(error.value).splitlines()
        assert len(lines) == 3
        assert "c.xml is not readable XML" in lines[0]
        assert "has no image a" in lines[1]
        assert lines[2] == "b: the class 'cow' is none of dog, cat"

    @pytest.mark.parametrize(
        ("encoding", "name"),
        [
            ("gb2312", "狗"),
            ("big5", "狗"),
            ("shift_jis", "犬"),
            ("euc-kr", "개"),
            ("iso-8859-1", "vélo"),
            ("utf-8", "狗"),
            ("utf-16", "狗"),
        ],
    )
    def test_xml_is_read_in_the_encoding_that_it_names(self, tmp_path, encoding, name):
        """Python's parser knows only encodings of single bytes and of Unicode."""
        folder = voc(tmp_path, a="")
        text = f'<?xml version="1.0" encoding="{encoding}"?>\n{voc_xml((name, 1, 1, 5, 5))}'
        (folder / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
        assert read_scenes(folder, "train").classes == (name,)

    @pytest.mark.parametrize("encoding", ["klingon", "gb2312", "rot13"])
    def test_xml_in_no_known_encoding_is_one_line(self, tmp_path, encoding):
        """An encoding that does not fit the bytes is wrong too."""
        folder = voc(tmp_path, a="")
        declaration = f'<?xml version="1.0" encoding="{encoding}"?>'.encode()
        (folder / "Annotations" / "a.xml").write_bytes(declaration + b"<annotation>\xff\xff")
        with pytest.raises(CorruptFileError, match=r"a\.xml is not readable XML: ") as error:
            read_scenes(folder, "train")
        assert len(str(error.value).splitlines()) == 1

    @pytest.mark.parametrize("line", ["dog 1 1 1 1", "1 0.5 0.5 0.5"])
    def test_wrong_lines_of_yolo(self, tmp_path, line):
        """A line of another form is shown with its file."""
        with pytest.raises(CorruptFileError, match=r"a\.txt: .* is not 'class x y width height'"):
            read_scenes(yolo(tmp_path, line), "train")

    def test_a_missing_image_of_yolo(self, tmp_path):
        """The file without an image is named."""
        folder = yolo(tmp_path)
        write(folder / "labels" / "train" / "b.txt", "")
        with pytest.raises(CorruptFileError, match=r"b\.txt has no image in .*train \(\.jpg"):
            read_scenes(folder, "train")

    def test_unknown_number_of_yolo(self, tmp_path):
        """A number without a name is an unknown class."""
        with pytest.raises(CorruptFileError, match="the class 'class 5' is none of cat, dog"):
            read_scenes(yolo(tmp_path, "5 0.5 0.5 0.5 0.5"), "train")

    def test_a_split_in_several_files_of_coco(self, tmp_path):
        """All of them are named."""
        for name in ("instances_train.json", "instances_train2014.json"):
            coco(tmp_path, f"annotations/{name}")
        with pytest.raises(CorruptFileError, match=r"one file, not in .*train\.json, .*2014\.json"):
            read_scenes(tmp_path, "train")

    def test_a_missing_image_of_coco(self, tmp_path):
        """The image is named."""
        folder = coco(tmp_path)
        (folder / "images" / "a.png").unlink()
        with pytest.raises(CorruptFileError, match=r"there is no image a\.png"):
            read_scenes(folder, "train")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"bbox": [1, 2, 3]}, "not enough values"),
            ({"bbox": None}, "NoneType"),
            ({"category_id": [5]}, "unhashable"),
            ({"area": "large"}, "could not convert"),
            ({"area": -20}, "the area of an object is -20"),
            ({"segmentation": [[0, 0, 1e308, 0, 5, 5]]}, "no polygons in an image of 40 x 30"),
            ({"segmentation": [[0, 0, 5, 5]]}, "no polygons in an image of 40 x 30"),
            ({"segmentation": {"size": [3, 3], "counts": [9]}}, r"the image \[30, 40\]"),
            ({"segmentation": {"size": [30, 40], "counts": [9]}}, "run lengths of 9 pixels"),
            ({"segmentation": {"counts": [9]}}, "'size' is missing"),
        ],
    )
    def test_an_object_of_coco_that_is_none(self, tmp_path, change, reason):
        folder = coco(tmp_path)
        path = next(folder.rglob("*train.json"))
        values = json.loads(path.read_text())
        values["annotations"][0].update(change)
        path.write_text(json.dumps(values))
        with pytest.raises(CorruptFileError, match=rf"train.json is no COCO file: .*{reason}"):
            read_scenes(folder, "train")

    def test_images_of_another_size_than_labelled(self, tmp_path):
        """Images that were made smaller or turned after labelling are listed with both sizes."""
        size = "<annotation><size><height>{}</height><width>{}</width></size>"
        turned = Image.Exif()
        turned[EXIF_ORIENTATION] = 6
        xml = voc_xml(("dog", 1, 1, 5, 5))
        texts = {
            "a": xml.replace("<annotation>", size.format(60, 80)),
            "b": xml.replace("<annotation>", size.format(HEIGHT, WIDTH)),
            "c": xml.replace("<annotation>", size.format(HEIGHT, "wide")),
            "d": xml.replace("<annotation>", size.format(0, 0)),
        }
        folder = voc(tmp_path, **texts)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "JPEGImages" / "b.jpg", exif=turned)
        with pytest.raises(CorruptFileError) as error:
            read_scenes(folder, "train")
        first, second, third = str(error.value).splitlines()
        assert re.search(r"a\.jpg has 40 x 30 pixels, but 80 x 60 according to .*a\.xml", first)
        assert re.search(r"b\.jpg has 30 x 40 pixels, but 40 x 30 according to .*b\.xml", second)
        assert re.search(r"c\.xml: \['30', 'wide'\] are no height and width of c\.jpg", third)

    def test_an_image_of_coco_of_another_size_than_labelled(self, tmp_path):
        folder = coco(tmp_path)
        Image.new("RGB", (20, 15)).save(folder / "images" / "a.png")
        with pytest.raises(CorruptFileError, match=r"a\.png has 20 x 15 .* 40 x 30 .*json"):
            read_scenes(folder, "train")

    def test_a_label_map_of_another_size(self, tmp_path):
        picture(tmp_path / "images" / "a.png")
        (tmp_path / "masks").mkdir()
        Image.new("L", (20, 15), 1).save(tmp_path / "masks" / "a.png")
        write(tmp_path / "splits" / "train.txt", "a")
        with pytest.raises(CorruptFileError, match=r"a\.png has 40 x 30 .* 20 x 15 .*masks"):
            read_scenes(tmp_path, "train")

    @pytest.mark.parametrize("layout", [voc, yolo, coco])
    def test_text_that_is_not_utf8(self, tmp_path, layout):
        folder = (
            layout(tmp_path, a=voc_xml(("cat", 1, 2, 3, 4))) if layout is voc else layout(tmp_path)
        )
        for path in [*folder.rglob("*.txt"), *folder.rglob("*.json")]:
            path.write_bytes(path.read_bytes() + b"\xff")
        with pytest.raises(CorruptFileError, match=r"utf-8|UTF-8"):
            read_scenes(folder, "train")

    def test_a_label_map_with_colours(self, tmp_path):
        for name in ("images", "masks"):
            picture(tmp_path / name / "a.png")
        write(tmp_path / "splits" / "train.txt", "a")
        with pytest.raises(CorruptFileError, match=r"a.png is no label map: .* one channel"):
            read_scenes(tmp_path, "train")

    @pytest.mark.parametrize(
        "text", ["names: cat", "cat", "names: {}", "names: {a: cat}", "names: [a", "train: x"]
    )
    def test_names_of_yolo_that_are_no_list(self, tmp_path, text):
        folder = yolo(tmp_path)
        (folder / "data.yaml").write_text(text)
        with pytest.raises(CorruptFileError, match=r"data\.yaml: (names must be|.*line 1)"):
            read_scenes(folder, "train")

    def test_a_listing_with_zero_bytes(self, tmp_path):
        folder = voc(tmp_path, a=voc_xml(("cat", 1, 2, 3, 4)))
        (folder / "ImageSets" / "Main" / "train.txt").write_bytes(b"a\0")
        with pytest.raises(CorruptFileError, match=r"train\.txt is no text"):
            read_scenes(folder, "train")
