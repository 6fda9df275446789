"""Connection strengths as pictures: one square for each source (row) and target (column); the
strongest is the darkest.

SVG for pages and PNG (with Pillow) for other uses show the same cells.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from nas.core.errors import MissingDependencyError
from nas.paper.connections.strength import BlockMap

CELL = 16
"""Side of a square in pixels."""
LEFT, TOP, GAP = 44, 40, 36
"""Pixels on the left of a block's squares, above them, and between two blocks."""
SCALE = ((255, 255, 229), (254, 196, 79), (236, 112, 20), (153, 52, 4), (60, 20, 0))
"""Colours from 0 to 1, from light to dark, which is readable in grey too."""
STYLE = """
.heat text{font:10px system-ui,sans-serif;fill:var(--ink,#1c2430)}
.heat .head{font-size:12px;font-weight:600}.heat .dim{fill:var(--dim,#5d6b7c)}
"""
"""Style sheet of the picture."""


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """The place of a connection in the picture, and its strength from 0 to 1."""

    x: int
    y: int
    value: float
    title: str

    @property
    def colour(self) -> tuple[int, int, int]:
        """The colour of the strength, between those of `SCALE`."""
        place = self.value * (len(SCALE) - 1)
        below = min(int(place), len(SCALE) - 2)
        red, green, blue = (
            round(a + (b - a) * (place - below))
            for a, b in zip(SCALE[below], SCALE[below + 1], strict=True)
        )
        return red, green, blue


@dataclass(frozen=True)
class _Label:
    """A text at its place in the picture."""

    x: int
    y: int
    text: str
    anchor: str
    kind: str = "dim"


def as_svg(blocks: Sequence[BlockMap]) -> str:
    """Draw the blocks beside each other as one `<svg>` element."""
    cells, labels, width, height = _layout(blocks)
    elements = [
        f'<rect x="{c.x}" y="{c.y}" width="{CELL}" height="{CELL}" fill="rgb{c.colour}">'
        f"<title>{escape(c.title)}</title></rect>"
        for c in cells
    ]
    elements += [
        f'<text class="{label.kind}" x="{label.x}" y="{label.y}" text-anchor="{label.anchor}">'
        f"{escape(label.text)}</text>"
        for label in labels
    ]
    return (
        f'<svg class="heat" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" role="img" style="max-width:100%"><title>Strength of connections, source '
        f"layers down, target layers across</title>{''.join(elements)}</svg>"
    )


def as_png(blocks: Sequence[BlockMap], scale: int = 2) -> bytes:
    """Draw the same as a PNG file. Raises `MissingDependencyError` without Pillow."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pillow", "folder") from error
    cells, labels, width, height = _layout(blocks)
    image = Image.new("RGB", (scale * width, scale * height), "white")
    draw: Any = ImageDraw.Draw(image)
    for cell in cells:
        corner = scale * cell.x, scale * cell.y
        draw.rectangle(
            (*corner, corner[0] + scale * CELL - 1, corner[1] + scale * CELL - 1), fill=cell.colour
        )
    for label in labels:
        font = ImageFont.load_default(scale * (12 if label.kind == "head" else 10))
        draw.text(
            (scale * label.x, scale * label.y),
            label.text,
            fill="#1c2430",
            font=font,
            anchor={"start": "ls", "middle": "ms", "end": "rs"}[label.anchor],
        )
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _layout(blocks: Sequence[BlockMap]) -> tuple[list[_Cell], list[_Label], int, int]:
    """Return all cells, all labels, and the width and height of the picture."""
    cells: list[_Cell] = []
    labels: list[_Label] = []
    left = 0
    for block in blocks:
        cells += _cells(block, left + LEFT)
        labels += _labels(block, left + LEFT)
        left += LEFT + max(CELL * len(block.targets), 8 * len(block.name)) + GAP
    return cells, labels, left, TOP + CELL * max(block.strengths.shape[1] for block in blocks) + 26


def _cells(block: BlockMap, left: int) -> Iterator[_Cell]:
    shares = block.normalised
    for target, source in zip(*np.nonzero(~np.isnan(shares)), strict=True):
        share, mean = float(shares[target, source]), float(block.strengths[target, source])
        yield _Cell(
            x=left + CELL * int(target),
            y=TOP + CELL * int(source),
            value=share,
            title=f"{block.name}: source {source or 'input'} to {block.targets[target]}: "
            f"{share:.3f} of its strongest, mean |w| {mean:.4g}",
        )


def _labels(block: BlockMap, left: int) -> Iterator[_Label]:
    yield _Label(left, 14, block.name, "start", kind="head")
    sources = block.strengths.shape[1]
    for target, name in enumerate(block.targets[:-1]):
        if target == 0 or (target + 1) % 4 == 0:
            yield _Label(left + CELL * target + CELL // 2, TOP - 5, name, "middle")
    end_x, end_y = left + CELL * len(block.targets), TOP + CELL * sources + 14
    yield _Label(end_x, end_y, block.targets[-1], "end")
    for source in range(0, sources, 4):
        yield _Label(left - 5, TOP + CELL * source + 12, str(source or "input"), "end")
