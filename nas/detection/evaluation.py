"""Average precision of detections: VOC's of 2007 and of 2010, and COCO's by faster-coco-eval.

Truths and detections are one dictionary per image, with `boxes` (T, 4) in pixels and `labels` (T,)
from 1; detections also have `scores` (T,). Both may have `masks`. Truths may have `crowd` (T,),
which is true for a region with many objects: a detection of which half or more lies inside of it,
and which is not true otherwise, counts neither way. They may also have `area` (T,), the pixels by
which COCO's figures sort objects into small, medium and large ones; it is NaN or left out if it is
that of the mask or, without masks, of the box.
"""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_area, box_iou

from nas.core.errors import MissingDependencyError
from nas.detection.scenes import Scenes

MIN_OVERLAP = 0.5
"""Intersection over union at which VOC counts a detection as true."""
RECALL_POINTS = np.linspace(0, 1, 11)
"""Recalls at which VOC 2007 reads the precision."""
CURVE_POINTS = 101
"""Recalls of the stored curves of precision."""
MIN_MASK = 0.5
"""Probability at which a pixel belongs to a mask."""
COCO_FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""The first of COCO's figures, in its order. -1 stands for no truths, and is stored as None."""

Annotation = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """Figures of one class. `precision` is the envelope at `CURVE_POINTS` even recalls.

    A figure is None for a class without truths.
    """

    name: str
    truths: int
    voc07: float | None
    voc10: float | None
    coco: float | None = None
    precision: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of one detector on one split.

    `voc07` and `voc10` are means over the classes that have truths. `coco` and `coco_masks` have
    the names of `COCO_FIGURES`.
    """

    images: int
    voc07: float
    voc10: float
    classes: tuple[ClassResult, ...]
    coco: dict[str, float | None]
    coco_masks: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Detections of one class: by falling score, whether each is true (D,) and the index of its
    image (D,), and the number of truths in each image (I,). Difficult truths, crowds and their
    detections are left out.
    """

    hits: np.ndarray
    images: np.ndarray
    truths: np.ndarray


def average_precision(
    hits: np.ndarray, positives: float, counts: np.ndarray | None = None
) -> tuple[float, float, np.ndarray]:
    """Return VOC's 11-point and area precision, and the envelope at even recalls.

    `hits` says of each detection by falling score whether it is true, and `counts` how often it
    counts, once by default.
    """
    counts = np.ones(len(hits)) if counts is None else counts
    true, found = np.cumsum(counts * hits), np.cumsum(counts)
    recall = true / positives
    precision = true / np.maximum(found, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]

    def at(points: np.ndarray) -> np.ndarray:
        places = np.searchsorted(recall, points - 1e-12)
        return np.append(envelope, 0.0)[places]

    steps = np.diff(recall, prepend=0.0)
    return (
        float(at(RECALL_POINTS).mean()),
        float((steps * envelope).sum()),
        at(np.linspace(0, 1, CURVE_POINTS)),
    )


def voc_hits(
    detections: Sequence[Annotation],
    truths: Sequence[Annotation],
    difficult: Sequence[Sequence[bool]],
    label: int,
) -> Hits:
    """Return which detections of one class are true.

    A detection takes the truth of largest overlap in its image, once. Difficult truths and their
    detections do not count, nor do crowds and false detections inside of them.
    """
    rows: list[tuple[float, int, int]] = []
    overlaps, owners, in_crowds = [], [], []
    for image, (found, target, hard) in enumerate(zip(detections, truths, difficult, strict=True)):
        mine, here, crowd = found["labels"] == label, target["labels"] == label, _crowd(target)
        scores, boxes = found["scores"][mine].tolist(), found["boxes"][mine]
        rows += [(score, image, place) for place, score in enumerate(scores)]
        overlaps.append(box_iou(boxes, target["boxes"][here & ~crowd]))
        in_crowds.append(_in_crowds(boxes, target["boxes"][here & crowd]))
        flags = np.array(hard, dtype=bool)[(here & ~crowd).numpy()]
        owners.append(flags)
    taken: set[tuple[int, int]] = set()
    hits, images = [], []
    for _, image, place in sorted(rows, key=lambda row: -row[0]):
        overlap = overlaps[image][place]
        best = int(overlap.argmax()) if len(overlap) else -1
        true = best >= 0 and bool(overlap[best] >= MIN_OVERLAP)
        if true and owners[image][best]:
            continue
        hit = true and (image, best) not in taken
        if not hit and in_crowds[image][place]:
            continue
        hits.append(hit)
        images.append(image)
        if true:
            taken.add((image, best))
    return Hits(
        hits=np.array(hits, dtype=bool),
        images=np.array(images, dtype=np.int64),
        truths=np.array([np.count_nonzero(~flags) for flags in owners], dtype=np.int64),
    )


def evaluate(
    detections: Sequence[Annotation],
    truths: Sequence[Annotation],
    classes: Sequence[str],
    difficult: Sequence[Sequence[bool]] | None = None,
) -> Evaluation:
    """Return all figures. Raises `MissingDependencyError` without faster-coco-eval."""
    difficult = difficult or [[False] * len(target["labels"]) for target in truths]
    figures, per_class = _coco(detections, truths, classes, "bbox")
    results = []
    for label, name in enumerate(classes, start=1):
        found = voc_hits(detections, truths, difficult, label)
        count = int(found.truths.sum())
        if count == 0:
            results.append(ClassResult(name=name, truths=0, voc07=None, voc10=None))
            continue
        voc07, voc10, curve = average_precision(found.hits, count)
        results.append(
            ClassResult(
                name=name,
                truths=count,
                voc07=voc07,
                voc10=voc10,
                coco=per_class[label - 1],
                precision=tuple(round(float(value), 4) for value in curve),
            )
        )
    has_masks = all("masks" in each for each in (*detections, *truths))
    return Evaluation(
        images=len(truths),
        voc07=_mean([result.voc07 for result in results]),
        voc10=_mean([result.voc10 for result in results]),
        classes=tuple(results),
        coco=figures,
        coco_masks=_coco(detections, truths, classes, "segm")[0] if has_masks else {},
    )


@torch.inference_mode()
def detect_all(
    detector: nn.Module,
    scenes: Scenes,
    device: torch.device | str = "cpu",
    progress: Callable[[int], object] | None = None,
) -> list[Annotation]:
    """Return the detections of every scene, on the CPU; masks are of 0 and 1."""
    results = []
    for index in range(len(scenes)):
        image = scenes.image(index).to(device).float() / 255
        (found,) = detector.eval()([image])
        found = {name: value.cpu() for name, value in found.items()}
        if "masks" in found:
            found["masks"] = (found["masks"][:, 0] >= MIN_MASK).to(torch.uint8)
        results.append(found)
        if progress is not None:
            progress(index + 1)
    return results


def evaluate_scenes(detections: Sequence[Annotation], scenes: Scenes) -> Evaluation:
    """Return the figures of detections on the scenes that they belong to."""
    has_masks = all("masks" in found for found in detections)
    truths = []
    for scene in scenes:
        truth = scene.reference()
        truths.append(truth if has_masks else {k: v for k, v in truth.items() if k != "masks"})
    return evaluate(detections, truths, scenes.classes, _difficult(scenes))


def hits_of_classes(detections: Sequence[Annotation], scenes: Scenes) -> list[Hits]:
    """Return which detections of each class are true, of the scenes that they belong to."""
    truths, difficult = [scene.reference() for scene in scenes], _difficult(scenes)
    labels = range(1, len(scenes.classes) + 1)
    return [voc_hits(detections, truths, difficult, label) for label in labels]


def _difficult(scenes: Scenes) -> list[list[bool]]:
    return [[each.difficult for each in (*scene.truths, *scene.crowds)] for scene in scenes]


def _crowd(truths: Annotation) -> Tensor:
    """Return which truths of an image are crowds (T,)."""
    return truths.get("crowd", torch.zeros(len(truths["labels"]), dtype=torch.bool))


def _in_crowds(boxes: Tensor, crowds: Tensor) -> Tensor:
    """Return which boxes (D, 4) have half of their area or more in one of the crowds (C, 4)."""
    low = torch.maximum(boxes[:, None, :2], crowds[:, :2])
    high = torch.minimum(boxes[:, None, 2:], crowds[:, 2:])
    inside = (high - low).clamp(min=0).prod(dim=2)  # (D, C)
    is_in: Tensor = inside >= MIN_OVERLAP * box_area(boxes)[:, None]
    return is_in.any(dim=1)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else 0.0


def _coco(
    detections: Sequence[Annotation],
    truths: Sequence[Annotation],
    classes: Sequence[str],
    kind: str,
) -> tuple[dict[str, float | None], list[float | None]]:
    """Return COCO's figures, and the mean precision of each class, by faster-coco-eval."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingDependencyError("faster-coco-eval", "detection") from error
    rows = [_rows(image, each, kind) for image, each in enumerate(truths)]
    marked = [
        {**row, "id": number}
        for number, row in enumerate((row for image in rows for row in image), start=1)
    ]
    results = [row for image, each in enumerate(detections) for row in _rows(image, each, kind)]
    has_truths = not all(row["iscrowd"] for row in marked)
    if not results or not has_truths:
        empty = 0.0 if has_truths else None
        return dict.fromkeys(COCO_FIGURES, empty), [empty] * len(classes)
    with redirect_stdout(io.StringIO()):
        known = COCO(
            {
                "images": [_image(number, each) for number, each in enumerate(truths)],
                "annotations": marked,
                "categories": [
                    {"id": number, "name": name} for number, name in enumerate(classes, start=1)
                ],
            }
        )
        evaluation = COCOeval_faster(known, known.loadRes(results), kind)
        most = max((len(each["boxes"]) for each in truths), default=1)
        evaluation.params.maxDets = [1, 10, max(100, most)]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = [None if value < 0 else float(value) for value in evaluation.stats[:6]]
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (overlaps, recalls, classes)
    per_class = []
    for label in range(len(classes)):
        values = precision[:, :, label]
        per_class.append(float(values.mean()) if (values > -1).all() else None)
    return dict(zip(COCO_FIGURES, stats, strict=True)), per_class


def _image(number: int, truth: Annotation) -> dict[str, int]:
    """Return COCO's entry of an image, with its size if there are masks."""
    if "masks" not in truth:
        return {"id": number}
    height, width = truth["masks"].shape[1:]
    return {"id": number, "height": height, "width": width}


def _rows(image: int, annotation: Annotation, kind: str) -> list[dict[str, Any]]:
    """Return COCO's rows of one image. Those of masks have no `bbox`, from which the library would
    take the areas of detections.
    """
    boxes, crowd = annotation["boxes"], _crowd(annotation)
    sizes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
    rows = []
    for place, (box, label) in enumerate(zip(sizes, annotation["labels"].tolist(), strict=True)):
        row = {"image_id": image, "category_id": label, "iscrowd": int(crowd[place])}
        if kind == "segm":
            from faster_coco_eval.core import mask

            pixels = np.asfortranarray(annotation["masks"][place].numpy())
            row["segmentation"] = mask.encode(pixels)
            row["area"] = float(mask.area(row["segmentation"]))
        else:
            row["bbox"], row["area"] = box, box[2] * box[3]
        if "scores" in annotation:
            row["score"] = float(annotation["scores"][place])
        if "area" in annotation and not annotation["area"][place].isnan():
            row["area"] = float(annotation["area"][place])
        rows.append(row)
    return rows
