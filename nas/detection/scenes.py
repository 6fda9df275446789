"""Images with boxes, read from COCO JSON, VOC XML, YOLO text files or label maps.

Boxes are (xmin, ymin, xmax, ymax) in pixels of the image. Labels are positions in the classes, from
1. All files are checked when a data set is opened, and all problems are reported together. Images
are decoded when they are used.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self
from xml.etree import ElementTree as ET

import numpy as np
import torch
from torch import Tensor

from nas.core.errors import (
    MALFORMED,
    CorruptFileError,
    DataNotFoundError,
    InvalidValueError,
    MissingDependencyError,
)
from nas.data.image_file import read_rgb
from nas.searching.yaml_file import parse_yaml

try:
    from PIL import Image
except ImportError as missing:
    raise MissingDependencyError("pillow", "folder") from missing

LAYOUTS = """\
VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/SPLIT.txt
COCO: SPLIT.json, annotations/SPLIT.json or annotations/instances_SPLIT.json (in annotations/ a \
year may follow SPLIT), and images/, SPLIT/ (with the year or without) or the images beside them
YOLO: data.yaml with names, images/SPLIT/, labels/SPLIT/
label maps: images/, masks/ with pixels of 0 and of the number of the object, splits/SPLIT.txt"""
"""The folders that can be read, for the error about another one."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
YOLO_CLASSES = "classes.txt"
"""A list of the classes that annotation programs put beside the files of the images."""
EXIF_ORIENTATION, MIN_TURNED = 0x0112, 5
"""The tag of a photograph's orientation, and its first value that exchanges height and width."""
MAX_PROBLEMS_SHOWN = 20
MIN_POLYGON, MAX_SIDES_AWAY = 6, 10
"""Coordinates of the smallest polygon of a COCO file, and how many sides of the image a point may
be away from it.
"""
CACHE_BYTES = 2**31
"""Decoded images that are kept in memory."""

Box = tuple[float, float, float, float]
"""xmin, ymin, xmax and ymax in pixels."""
MaskReader = Callable[[], Tensor]
"""Returns the masks of all objects and crowds of an image, uint8 (T, H, W)."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """One annotated object. A `difficult` one counts neither way in VOC's evaluation. `area` is the
    number of pixels that the file states, None if it states none.
    """

    label: int
    box: Box
    difficult: bool = False
    area: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One image and its objects.

    `crowds` are regions with many objects in one (COCO), with which nothing is trained and in which
    detections count neither way. `masks` reads the masks of `truths` and then of `crowds`; None if
    an object has none.
    """

    name: str
    path: Path
    height: int
    width: int
    truths: tuple[Truth, ...]
    crowds: tuple[Truth, ...] = ()
    masks: MaskReader | None = field(default=None, compare=False)

    def target(self) -> dict[str, Tensor]:
        """Return what is trained with: `boxes` (T, 4), `labels` (T,) and, if there are masks,
        `masks` (T, H, W).
        """
        return self._annotation(self.truths)

    def reference(self) -> dict[str, Tensor]:
        """Return what detections are compared with: the target with the crowds at the end, whether
        each is a crowd (`crowd`, T) and its `area` (T,), NaN if the file states none.
        """
        objects = (*self.truths, *self.crowds)
        areas = [math.nan if each.area is None else each.area for each in objects]
        return {
            **self._annotation(objects),
            "crowd": torch.arange(len(objects)) >= len(self.truths),
            "area": torch.tensor(areas, dtype=torch.float64),
        }

    def _annotation(self, objects: Sequence[Truth]) -> dict[str, Tensor]:
        boxes = torch.tensor([each.box for each in objects], dtype=torch.float32)
        labels = torch.tensor([each.label for each in objects], dtype=torch.int64)
        target = {"boxes": boxes.reshape(-1, 4), "labels": labels}
        return target if self.masks is None else {**target, "masks": self.masks()[: len(objects)]}


@dataclass(frozen=True)
class Scenes:
    """Images of one split. `notes` name boxes and files that were left out, and clipped boxes."""

    classes: tuple[str, ...]
    scenes: tuple[Scene, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Scene:
        return self.scenes[index]

    def __iter__(self) -> Iterator[Scene]:
        return iter(self.scenes)

    def take(self, indices: Tensor) -> Self:
        """Return the images of these indices, in this order."""
        return replace(self, scenes=tuple(self.scenes[index] for index in indices.tolist()))

    @property
    def has_masks(self) -> bool:
        """Return whether every image has masks."""
        return all(scene.masks is not None for scene in self.scenes)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the classes, and of the names and the objects of all images."""
        rows = [(scene.name, [(t.label, t.box) for t in scene.truths]) for scene in self.scenes]
        return hashlib.sha256(json.dumps([self.classes, rows]).encode()).hexdigest()

    def image(self, index: int) -> Tensor:
        """Return an image as uint8 (3, H, W) in RGB order."""
        if index in self._cache:
            return self._cache[index]
        photo = np.array(read_rgb(self.scenes[index].path))
        pixels = torch.from_numpy(photo).permute(2, 0, 1).contiguous()
        if sum(image.numel() for image in self._cache.values()) + pixels.numel() <= CACHE_BYTES:
            self._cache[index] = pixels
        return pixels

    @cached_property
    def _cache(self) -> dict[int, Tensor]:
        return {}


def read_scenes(folder: Path, split: str, classes: Sequence[str] | None = None) -> Scenes:
    """Read the images of one split, in any of the `LAYOUTS`.

    With `classes` an object of another class is a problem; otherwise they are those of the data.
    Raises `DataNotFoundError` if the folder has none of the layouts or not this split, and
    `CorruptFileError` for a split in several files of COCO, and with all problems of images, files
    and classes. Boxes without area or outside of the image are left out and boxes that stick out
    are clipped; `notes` lists both, and files among YOLO's images that are none.
    """
    reader = _Reader(folder, split, classes)
    for read in (reader.voc, reader.label_maps, reader.coco, reader.yolo):
        if read():
            return reader.result()
    raise DataNotFoundError(
        f"{folder} has none of these layouts with the split {split}:\n{LAYOUTS}"
    )


class _Stated(NamedTuple):
    """The size of an image that the file of its objects states, not checked."""

    file: Path
    height: Any
    width: Any


class _Object(NamedTuple):
    """One object of a file, not checked: the name of its class, and its corners as in `Truth`."""

    label: str
    corners: Sequence[Any]
    difficult: bool = False
    is_crowd: bool = False
    area: float | None = None


class _Reader:
    """Collects the scenes of a split and the problems of its files."""

    def __init__(self, folder: Path, split: str, classes: Sequence[str] | None) -> None:
        self.folder, self.split = folder, split
        self.classes = list(classes or ())
        self.are_fixed = classes is not None
        self.scenes: list[Scene] = []
        self.problems: list[str] = []
        self.notes: list[str] = []

    def result(self) -> Scenes:
        """Return what was read. Raises `CorruptFileError` with all problems."""
        if self.problems:
            hidden = len(self.problems) - MAX_PROBLEMS_SHOWN
            more = [f"and {hidden} more problems"] if hidden > 0 else []
            raise CorruptFileError("\n".join([*self.problems[:MAX_PROBLEMS_SHOWN], *more]))
        if not self.scenes:
            raise DataNotFoundError(f"{self.folder} has no images in the split {self.split}")
        return Scenes(tuple(self.classes), tuple(self.scenes), tuple(self.notes))

    def voc(self) -> bool:
        """Read VOC's XML; return whether the folder has this layout."""
        listing = self.folder / "ImageSets" / "Main" / f"{self.split}.txt"
        if not listing.is_file():
            return False
        annotations = self.folder / "Annotations"
        roots = {name: self._xml(annotations / f"{name}.xml") for name in _names(listing)}
        if not self.are_fixed:
            others = [path for path in annotations.glob("*.xml") if path.stem not in roots]
            every = [*roots.values(), *map(self._xml, sorted(others))]
            labels = {each.findtext("name") for root in every for each in _objects(root)}
            self.classes = sorted(filter(None, labels))
        for name, root in roots.items():
            objects = []
            for one in _objects(root):
                box = one.find("bndbox")
                corners = [box.findtext(side) if box is not None else None for side in CORNERS]
                label = one.findtext("name") or ""
                objects.append(_Object(label, corners, one.findtext("difficult") == "1"))
            size = [root.findtext(f"size/{side}") if root is not None else None for side in SIDES]
            stated = _Stated(annotations / f"{name}.xml", *size)
            self._add(name, self._image(self.folder / "JPEGImages", name), objects, stated)
        return True

    def label_maps(self) -> bool:
        """Read label maps of one class; return whether the folder has this layout."""
        listing, masks = self.folder / "splits" / f"{self.split}.txt", self.folder / "masks"
        if not (listing.is_file() and masks.is_dir()):
            return False
        self.classes = self.classes or ["object"]
        for name in _names(listing):
            path = self._image(masks, name)
            if path is None:
                continue
            if self._size(path) is None:
                continue
            labels = _label_map(path)
            numbers = [int(number) for number in np.unique(labels) if number]
            objects = [_Object(self.classes[0], _corners(labels == number)) for number in numbers]
            image, stated = self._image(self.folder / "images", name), _Stated(path, *labels.shape)
            self._add(name, image, objects, stated, _MapMasks(path, numbers))
        return True

    def coco(self) -> bool:
        """Read COCO's JSON; return whether the folder has this layout."""
        path = self._coco_file()
        if path is None:
            return False
        try:
            values = json.loads(path.read_bytes())
            names = {each["id"]: str(each["name"]) for each in values["categories"]}
            objects: dict[Any, list[dict[str, Any]]] = {each["id"]: [] for each in values["images"]}
            for each in values["annotations"]:
                objects[each["image_id"]].append(each)
            if not self.are_fixed:
                self.classes = [names[number] for number in sorted(names)]
            for image in values["images"]:
                self._add_coco(path, image, objects[image["id"]], names)
        except KeyError as error:
            raise CorruptFileError(f"{path} is no COCO file: {error} is missing") from error
        except (OSError, *MALFORMED) as error:
            raise CorruptFileError(f"{path} is no COCO file: {error}") from error
        return True

    def _coco_file(self) -> Path | None:
        """Return the file of the split. Raises `CorruptFileError` that names several that fit."""
        name = re.compile(rf"(instances_)?{re.escape(self.split)}(\d{{4}})?\.json")
        others = sorted((self.folder / "annotations").glob("*.json"))
        places = [path for path in others if name.fullmatch(path.name)]
        paths = [path for path in (self.folder / f"{self.split}.json", *places) if path.is_file()]
        if len(paths) > 1:
            raise CorruptFileError(
                f"the split {self.split} must be in one file, not in {', '.join(map(str, paths))}"
            )
        return paths[0] if paths else None

    def _add_coco(
        self,
        path: Path,
        image: Mapping[str, Any],
        objects: Sequence[Mapping[str, Any]],
        names: Mapping[Any, str],
    ) -> None:
        """Add an image of a COCO file with its objects, and its crowds after them. A crowd without
        a mask fills its box, and one without a box or a class of the file is left out.
        """
        rows, shapes = [], []
        for each in sorted(objects, key=lambda one: bool(one.get("iscrowd"))):
            if each.get("iscrowd") and not ("bbox" in each and each.get("category_id") in names):
                self.notes.append(f"{path}: a crowd without a box or a class: left out")
                continue
            x, y, width, height = each["bbox"]
            corners = [x, y, x + width, y + height]
            label = names.get(each["category_id"], f"category {each['category_id']}")
            is_crowd, area = bool(each.get("iscrowd")), each.get("area")
            if area is not None and not 0 <= (area := float(area)) < math.inf:
                raise ValueError(f"the area of an object is {area}")
            rows.append(_Object(label, corners, is_crowd=is_crowd, area=area))
            box = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            shapes.append(each.get("segmentation") or (box if is_crowd else None))
        file = str(image["file_name"])
        folders = ("images", self.split, path.stem.removeprefix("instances_"), ".")
        places = (self.folder / folder / file for folder in folders)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            self.problems.append(f"{path}: there is no image {file}")
        stated = _Stated(path, image.get("height"), image.get("width"))
        self._add(file, found, rows, stated, _CocoMasks(file, shapes) if all(shapes) else None)

    def yolo(self) -> bool:
        """Read YOLO's text files; return whether the folder has this layout.

        The file of an image has its path without the suffix, in subfolders too. Other files among
        the images are noted.
        """
        labels, images = self.folder / "labels" / self.split, self.folder / "images" / self.split
        if not images.is_dir():
            return False
        settings = self.folder / "data.yaml"
        if not settings.is_file():
            raise DataNotFoundError(f"{settings} is missing; it must hold the names of the classes")
        names = _yolo_names(settings)
        if not self.are_fixed:
            self.classes = [names[number] for number in sorted(names)]
        without_image = {path for path in labels.rglob("*.txt") if path.name != YOLO_CLASSES}
        for path in sorted(path for path in images.rglob("*") if path.is_file()):
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                self.notes.append(f"{path} is no image ({', '.join(IMAGE_SUFFIXES)}): left out")
                continue
            name = path.relative_to(images).with_suffix("").as_posix()
            file, rows = labels / f"{name}.txt", []
            without_image.discard(file)
            size = self._size(path)
            if size is None:
                continue
            for line in _text(file).splitlines() if file.is_file() else ():
                try:
                    number, x, y, width, height = line.split()
                    corners = _from_centre(float(x), float(y), float(width), float(height), size)
                    place = int(number)
                except ValueError:
                    self.problems.append(f"{file}: {line!r} is not 'class x y width height'")
                    continue
                rows.append(_Object(names.get(place, f"class {place}"), corners))
            self._add(name, path, rows)
        for file in sorted(without_image):
            self.problems.append(f"{file} has no image in {images} ({', '.join(IMAGE_SUFFIXES)})")
        return True

    def _add(
        self,
        name: str,
        path: Path | None,
        objects: Sequence[_Object],
        stated: _Stated | None = None,
        masks: "Callable[[list[int], tuple[int, int]], MaskReader] | None" = None,
    ) -> None:
        """Add an image with its objects."""
        size = None if path is None else self._size(path)
        if path is None or size is None or not self._has_size(path, size, stated):
            return
        height, width = size
        truths: list[Truth] = []
        crowds: list[Truth] = []
        kept = []
        for place, one in enumerate(objects):
            if one.label not in self.classes:
                self.problems.append(
                    f"{name}: the class {one.label!r} is none of {', '.join(self.classes)}"
                )
                continue
            box = self._box(name, one.corners, height, width)
            if box is not None:
                number = self.classes.index(one.label) + 1
                truth = Truth(label=number, box=box, difficult=one.difficult, area=one.area)
                (crowds if one.is_crowd else truths).append(truth)
                kept.append(place)
        self.scenes.append(
            Scene(
                name=name,
                path=path,
                height=height,
                width=width,
                truths=tuple(truths),
                crowds=tuple(crowds),
                masks=masks(kept, size) if masks else None,
            )
        )

    def _box(self, name: str, corners: Sequence[Any], height: int, width: int) -> Box | None:
        """Return the box within the image; None if nothing of it is there."""
        try:
            x0, y0, x1, y1 = (float(value) for value in corners)
        except MALFORMED:
            self.problems.append(f"{name}: {corners!r} is no box")
            return None
        shown = f"{name}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g}"
        if not (x1 > x0 and y1 > y0):
            self.notes.append(f"{shown} has no area and is left out")
            return None
        box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if box[0] >= box[2] or box[1] >= box[3]:
            self.notes.append(f"{shown} is outside of the image of {width} x {height} and left out")
            return None
        if box != (x0, y0, x1, y1):
            self.notes.append(f"{shown} sticks out of the image of {width} x {height}: clipped")
        return box

    def _image(self, folder: Path, name: str) -> Path | None:
        """Return the image of this name; a missing one is a problem."""
        for suffix in IMAGE_SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                return path
        self.problems.append(f"{folder} has no image {name} ({', '.join(IMAGE_SUFFIXES)})")
        return None

    def _size(self, path: Path) -> tuple[int, int] | None:
        """Return height and width; an unreadable image is a problem."""
        try:
            with Image.open(path) as photo:
                is_turned = photo.getexif().get(EXIF_ORIENTATION, 1) >= MIN_TURNED
                return (photo.width, photo.height) if is_turned else (photo.height, photo.width)
        except Exception as error:  # noqa: BLE001 - the decoders' errors have many classes
            self.problems.append(f"{path} is not a readable image: {error}")
            return None

    def _has_size(self, path: Path, size: tuple[int, int], stated: _Stated | None) -> bool:
        """Return whether an image has the stated size; another one is a problem.

        Nothing is compared with a side that is 0 or missing.
        """
        if stated is None:
            return True
        file, *sides = stated
        try:
            height, width = (float(side or 0) for side in sides)
        except MALFORMED:
            self.problems.append(f"{file}: {sides!r} are no height and width of {path.name}")
            return False
        if not (height and width) or (height, width) == size:
            return True
        self.problems.append(
            f"{path} has {size[1]} x {size[0]} pixels, but {width:g} x {height:g} according to "
            f"{file}: use the image as it was labelled"
        )
        return False

    def _xml(self, path: Path) -> ET.Element | None:
        """Return the root of an XML file; a missing or damaged one is a problem."""
        try:
            return _parse_xml(path.read_bytes())
        except (OSError, ET.ParseError, ValueError, LookupError) as error:
            self.problems.append(f"{path} is not readable XML: {error}")
            return None


XML_ENCODING = re.compile(rb"""<\?xml[^>]*\bencoding\s*=\s*["']([\w.:-]+)["']""")
CORNERS, SIDES = ("xmin", "ymin", "xmax", "ymax"), ("height", "width")


def _parse_xml(content: bytes) -> ET.Element:
    """Return the root of a file. Python decodes the encodings that its parser does not, such as
    gb2312 and shift_jis.
    """
    try:
        return ET.fromstring(content)  # noqa: S314 - Python's parser fetches nothing
    except (ValueError, LookupError):
        declared = XML_ENCODING.match(content)
        if declared is None:
            raise
        return ET.fromstring(content.decode(declared[1].decode()))  # noqa: S314 - the same


def _objects(root: ET.Element | None) -> list[ET.Element]:
    return [] if root is None else root.findall("object")


def _label_map(path: Path) -> Any:
    """Return the numbers of a label map, (H, W). Raises `CorruptFileError` for another file."""
    try:
        labels = np.array(Image.open(path))
    except Exception as error:  # the decoders' errors have many classes
        raise CorruptFileError(f"{path} is not a readable image: {error}") from error
    if labels.ndim != 2:
        raise CorruptFileError(f"{path} is no label map: it must have one channel")
    return labels


def _text(path: Path) -> str:
    """Return the text of a file. Raises `CorruptFileError` if it is not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is not readable text in UTF-8: {error}") from error
    if "\0" in text:
        raise CorruptFileError(f"{path} is no text: it has zero bytes")
    return text


def _yolo_names(settings: Path) -> dict[int, str]:
    """Return the names of the classes by their numbers. Raises `CorruptFileError` for a file
    without them.
    """
    try:
        values = parse_yaml(_text(settings))
    except InvalidValueError as error:
        raise CorruptFileError(f"{settings}: {error}") from error
    names = values.get("names") if isinstance(values, dict) else None
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not (isinstance(names, dict) and names and all(map(str.isdecimal, names))):
        raise CorruptFileError(
            f"{settings}: names must be a list of the classes, or have their numbers as keys, not "
            f"{names!r}"
        )
    return {int(number): str(name) for number, name in names.items()}


def _names(listing: Path) -> list[str]:
    """Return the names of a split's file, the first word of each line."""
    return [line.split()[0] for line in _text(listing).splitlines() if line.strip()]


def _corners(mask: Any) -> Box:
    """Return the smallest box around a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _from_centre(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Box:
    """Return the corners in pixels of a box by its centre and sides as shares of the image."""
    rows, columns = size
    return (
        (x - width / 2) * columns,
        (y - height / 2) * rows,
        (x + width / 2) * columns,
        (y + height / 2) * rows,
    )


@dataclass(frozen=True)
class _MapMasks:
    """Masks of a label map's objects, by the numbers of their pixels."""

    path: Path
    numbers: Sequence[int]

    def __call__(self, kept: list[int], size: tuple[int, int]) -> MaskReader:
        """Return the reader of these objects."""

        def read() -> Tensor:
            labels = torch.from_numpy(_label_map(self.path).astype(np.int32))
            numbers = torch.tensor([self.numbers[place] for place in kept], dtype=torch.int32)
            return (labels == numbers[:, None, None]).to(torch.uint8)

        return read


@dataclass(frozen=True)
class _CocoMasks:
    """Masks of COCO's polygons and run lengths in the image `name`."""

    name: str
    shapes: Sequence[Any]

    def __call__(self, kept: list[int], size: tuple[int, int]) -> MaskReader:
        """Return the reader of these objects in an image of this height and width.

        Raises `TypeError` or `ValueError` for shapes that cannot be in the image, before the
        library reads them, because it draws any line to its end.
        """
        shapes = [_checked_shape(self.shapes[place], *size) for place in kept]

        def read() -> Tensor:
            try:
                return _coco_masks(shapes, *size)
            except Exception as error:  # the library's errors have many classes
                raise CorruptFileError(
                    f"{self.name}: a segmentation is no mask: {error}"
                ) from error

        return read


def _checked_shape(shape: Any, height: int, width: int) -> Any:
    """Return polygons or run lengths of an object; see `_CocoMasks` for errors."""
    if isinstance(shape, list):
        polygons = np.array([number for polygon in shape for number in polygon], dtype=np.float64)
        if (
            any(len(polygon) < MIN_POLYGON for polygon in shape)
            or not (np.abs(polygons) <= MAX_SIDES_AWAY * max(height, width)).all()
        ):
            raise ValueError(f"no polygons in an image of {width} x {height}: {str(shape)[:80]}")
    elif list(shape["size"]) != [height, width]:
        raise ValueError(f"the mask has the size {shape['size']}, the image {[height, width]}")
    elif isinstance(shape["counts"], list) and sum(shape["counts"]) != height * width:
        raise ValueError(f"run lengths of {sum(shape['counts'])} pixels, not {height * width}")
    return shape


def _coco_masks(shapes: Sequence[Any], height: int, width: int) -> Tensor:
    """Return the masks of polygons and run lengths, uint8 (T, H, W)."""
    from faster_coco_eval.core import mask as masks

    parts = []
    for shape in shapes:
        runs = shape
        if isinstance(shape, list):
            runs = masks.merge(masks.frPyObjects(shape, height, width))
        elif isinstance(shape["counts"], list):
            runs = masks.frPyObjects(shape, height, width)
        parts.append(torch.from_numpy(masks.decode(runs)))
    return torch.stack(parts) if parts else torch.zeros(0, height, width, dtype=torch.uint8)
