"""One HTML page about a trained detector: figures, precision against recall, images with boxes."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image
from torch import Tensor

from nas.detection.evaluation import CURVE_POINTS, Evaluation
from nas.detection.scenes import Scenes
from nas.report.page import single_page, trusted

MAX_IMAGES = 12
IMAGE_WIDTH = 420
"""Width of a picture on the page, in pixels."""
MIN_SCORE = 0.5
"""Smallest score of a detection that is drawn."""
PLOT_SIDE, PLOT_MARGIN = 360, 40
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#9a6700", "#56b4e9", "#5a6675")
"""Colours of the classes; after the last, the first is used again."""


def percent(value: float | None) -> str:
    """Return a precision in percent, - for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def figure_cells(evaluation: Evaluation) -> list[list[str]]:
    """Return the headings, then the figures of the whole split as text."""
    rows = [["figure", "boxes"]]
    rows.append(["VOC 2007, 11 points", percent(evaluation.voc07)])
    rows.append(["VOC 2010, area", percent(evaluation.voc10)])
    rows += [[f"COCO {name}", percent(value)] for name, value in evaluation.coco.items()]
    rows += [[f"COCO mask {name}", percent(value)] for name, value in evaluation.coco_masks.items()]
    return rows


def class_cells(evaluation: Evaluation) -> list[list[str]]:
    """Return the headings, then the figures of each class as text."""
    rows = [["class", "truths", "VOC 2007", "VOC 2010", "COCO ap"]]
    for result in evaluation.classes:
        figures = [percent(value) for value in (result.voc07, result.voc10, result.coco)]
        rows.append([result.name, str(result.truths), *figures])
    return rows


def as_page(
    title: str,
    evaluation: Evaluation,
    scenes: Scenes,
    detections: Sequence[Mapping[str, Tensor]],
    *,
    conditions: str,
) -> str:
    """Return the page. Raises `MissingDependencyError` without Jinja."""
    count = min(len(scenes), MAX_IMAGES)
    drawings = {
        scenes[index].name: trusted(_drawing(scenes, index, detections[index]))
        for index in range(count)
    }
    return single_page(
        "detector.html",
        title=title,
        conditions=conditions,
        figures=figure_cells(evaluation),
        classes=class_cells(evaluation),
        curves=trusted(_curves(evaluation)),
        images=drawings,
        min_score=MIN_SCORE,
    )


def _colour(label: int) -> str:
    return COLOURS[(label - 1) % len(COLOURS)]


def _curves(evaluation: Evaluation) -> str:
    """Draw the precision of every class against the recall, as SVG."""
    whole = PLOT_SIDE + 2 * PLOT_MARGIN
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole + 140}" height="{whole}" '
            'role="img" aria-label="Precision against recall" style="font:11px sans-serif">'
        ),
        (
            f'<rect x="{PLOT_MARGIN}" y="{PLOT_MARGIN}" width="{PLOT_SIDE}" height="{PLOT_SIDE}" '
            'fill="none" stroke="var(--edge,#dfe3e8)"/>'
        ),
    ]
    for share in (0.0, 0.5, 1.0):
        place = PLOT_MARGIN + share * PLOT_SIDE
        bottom, across = whole - PLOT_MARGIN + 16, whole - place
        style = 'fill="var(--ink,#1c2430)"'
        parts.append(
            f'<text x="{place}" y="{bottom}" text-anchor="middle" {style}>{share:g}</text>'
        )
        parts.append(
            f'<text x="{PLOT_MARGIN - 6}" y="{across}" text-anchor="end" {style}>{share:g}</text>'
        )
    for label, result in enumerate(evaluation.classes, start=1):
        points = " ".join(
            f"{PLOT_MARGIN + PLOT_SIDE * i / (CURVE_POINTS - 1):.1f},"
            f"{PLOT_MARGIN + PLOT_SIDE * (1 - value):.1f}"
            for i, value in enumerate(result.precision)
        )
        colour, y = _colour(label), PLOT_MARGIN + 16 * label
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        parts.append(
            f'<text x="{whole}" y="{y}" fill="{colour}">{escape(result.name)} '
            f"{percent(result.voc10)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _drawing(scenes: Scenes, index: int, found: Mapping[str, Tensor]) -> str:
    """Draw an image with its truths and detections, as SVG with a JPEG inside."""
    scene = scenes[index]
    height = round(IMAGE_WIDTH * scene.height / scene.width)
    pixels = Image.fromarray(scenes.image(index).permute(1, 2, 0).numpy())
    file = io.BytesIO()
    pixels.resize((IMAGE_WIDTH, height)).save(file, "JPEG", quality=80)
    picture = base64.b64encode(file.getvalue()).decode()
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{IMAGE_WIDTH}" height="{height}" '
            f'viewBox="0 0 {scene.width} {scene.height}" role="img" '
            f'aria-label="{escape(scene.name)}">'
        ),
        (
            f'<image href="data:image/jpeg;base64,{picture}" width="{scene.width}" '
            f'height="{scene.height}"/>'
        ),
    ]
    parts += [_rectangle(truth.box, truth.label, dashed=True) for truth in scene.truths]
    rows = zip(
        found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
    )
    for box, label, score in rows:
        if score >= MIN_SCORE:
            name = scenes.classes[label - 1] if label <= len(scenes.classes) else str(label)
            parts.append(_rectangle(box, label, title=f"{name} {score:.2f}"))
    return "".join([*parts, "</svg>"])


def _rectangle(box: Sequence[float], label: int, *, dashed: bool = False, title: str = "") -> str:
    x0, y0, x1, y1 = box
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" fill="none" '
        f'stroke="{_colour(label)}" stroke-width="2"{dashes}><title>{escape(title)}</title></rect>'
    )
