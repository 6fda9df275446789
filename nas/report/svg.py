"""Drawing of one architecture as SVG: the stem, each stage's OSA block with its taps, the costs.

Every number comes from `nas.core.complexity`. The heights of bars show channels on a square-root
scale. Colours are CSS variables with fallbacks, for pages with a theme and for single files. Stages
are counted as in the paper, where the stem is stage 1.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from itertools import groupby

from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.complexity import Layer, layers, stage_sizes
from nas.report.drawing import block_ends, costs, part, shape_of, shortened

WIDTH = 680
"""Width of the drawing in pixels."""
ROW = 98
"""Height in pixels of the stem and of each stage."""
MAX_BAR = 52
"""Height in pixels of the bar with the most channels."""
LEFT, RIGHT = 84, 480
"""Ends in pixels of a block's picture. The costs are on its right."""
MAX_BOXES = 7
"""At most this many convolutions of a block are drawn; dots stand for others in the middle."""
COSTS = ("params", "MACs", "memory")
"""Headings of the columns for parameters, multiply-accumulates and memory access cost."""

STYLE = """
svg.net{font:12px system-ui,sans-serif}
.net text{fill:var(--ink,#1c2430)}.net .dim{fill:var(--dim,#5d6b7c);font-size:11px}
.net .name{font-weight:600}.net .flow{stroke:var(--dim,#7b8794);fill:none;stroke-width:1.3}
.net .tap{stroke:var(--tap,#d55e00);fill:none;stroke-width:1.3}.net .conv{fill:var(--conv,#56b4e9)}
.net .tensor{fill:var(--tensor,#9aa5b1)}.net .agg{fill:var(--agg,#e69f00)}
.net .cat{fill:var(--tap,#d55e00)}.net .track{fill:var(--track,#e4e8ed)}
.net .share{fill:var(--share,#0072b2)}.net .on{fill:#111;font-size:10px}
.net .ese{fill:var(--ese,#009e73)}
.net .same{stroke:var(--ese,#009e73);fill:none;stroke-dasharray:3 2;stroke-width:1.3}
"""
"""Style sheet of the drawing, for a page or for `as_file`."""


@lru_cache(maxsize=8192)
def draw_svg(architecture: Architecture, image_size: int, num_classes: int) -> str:
    """Draw the network for square images of `image_size` pixels.

    `num_classes` 0 leaves the classifier out. The text is one `<svg>` element without the style
    sheet `STYLE`. Raises `InvalidValueError` if the image is too small for the network.
    """
    all_layers = list(layers(architecture, image_size, num_classes))
    parts = [(name, list(members)) for name, members in groupby(all_layers, key=part)]
    totals = costs(all_layers)
    widest = max(layer.out_channels for layer in all_layers if not layer.name.startswith("head"))
    height = 26 + ROW * (len(architecture.stages) + 1) + (30 if num_classes else 0)
    label = (
        f"Network of {len(architecture.stages)} stages, {shortened(totals[0])} parameters, "
        f"{shortened(totals[1])} MACs"
    )
    body = "".join(
        [
            *_headings(),
            *_rows(architecture, parts, totals, widest, image_size),
            *_classifier(parts, totals, num_classes),
        ]
    )
    return (
        f'<svg class="net" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(label)}"><title>{escape(label)}</title>{body}</svg>'
    )


def as_file(drawing: str, style: str = STYLE) -> str:
    """Return the text of an SVG file with the drawing on white and its style sheet."""
    opening, _, rest = drawing.partition("<title>")
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f"{opening}<style>{style}</style>{ground}<title>{rest}\n"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    marks = f' class="{kind}"' if kind else ""
    marks += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:g}" y="{y:g}"{marks}>{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    place = f'x="{x:.4g}" y="{y:.4g}" width="{width:.4g}" height="{height:.4g}"'
    return f'<rect class="{kind}" {place} rx="2"/>'


def _path(kind: str, drawn: str) -> str:
    return f'<path class="{kind}" d="{drawn}"/>'


def _headings() -> Iterator[str]:
    for index, name in enumerate(COSTS):
        yield _text(RIGHT + 16 + 64 * index, 14, name, "dim")


def _rows(
    architecture: Architecture,
    parts: Sequence[tuple[str, list[Layer]]],
    totals: Sequence[int],
    widest: int,
    image_size: int,
) -> Iterator[str]:
    """Draw the stem and each stage, from top to bottom."""
    sizes = (parts[0][1][-1].out_size, *stage_sizes(architecture, (image_size, image_size)))
    channels = architecture.stem_channels[-1]
    for index, (name, members) in enumerate(parts[: len(architecture.stages) + 1]):
        top = 26 + ROW * index
        height, width = sizes[index]
        pooled = index > (0 if architecture.stem is Stem.PAPER else 1)
        yield _text(2, top + 16, name, "name")
        yield _text(2, top + 32, f"{height} x {width}", "dim")
        if index:
            yield _text(2, top + 48, "max pool /2" if pooled else "", "dim")
            stage = architecture.stages[index - 1]
            yield from _stage(architecture, stage, channels, top, widest)
            channels = stage.out_channels
        else:
            yield from _stem(architecture, members, top, widest)
        yield from _shares(members, totals, top)


def _shares(members: Sequence[Layer], totals: Sequence[int], top: float) -> Iterator[str]:
    """Draw a bar for each cost: the part's share of the whole network."""
    for index, (cost, total) in enumerate(zip(costs(members), totals, strict=True)):
        x = RIGHT + 16 + 64 * index
        yield _rect(x, top + 8, 52, 7, "track")
        yield _rect(x, top + 8, max(52 * cost / total, 1), 7, "share")
        yield _text(x, top + 30, f"{cost / total:.0%}")
        yield _text(x, top + 45, shortened(cost), "dim")


def _bar(
    x: float, middle: float, channels: int, widest: int, kind: str, *, width: float = 9
) -> str:
    height = max(6.0, MAX_BAR * math.sqrt(channels / widest))
    return _rect(x, middle - height / 2, width, height, kind)


def _stem(
    architecture: Architecture, members: Sequence[Layer], top: float, widest: int
) -> Iterator[str]:
    """Draw the three convolutions in a row."""
    middle, x = top + 34, LEFT + 24
    yield _text(LEFT, middle + 4, "3")
    convolutions = groupby(members, key=lambda layer: layer.name.split(".")[1])
    first_layers = [next(parts) for _, parts in convolutions]
    for width, first in zip(architecture.stem_channels, first_layers, strict=True):
        yield _path("flow", f"M{x - 12} {middle}h12")
        yield _bar(x, middle, width, widest, "conv", width=26)
        stride = " /2" if first.in_size != first.out_size else ""
        kind = "dw " if first.groups > 1 else ""
        yield _text(x + 13, top + 76, f"{kind}3x3 {width}{stride}", "dim", "middle")
        x += 88
        yield _path("flow", f"M{x - 62} {middle}h{50}")
    yield _bar(x - 12, middle, architecture.stem_channels[-1], widest, "tensor")


def _stage(
    architecture: Architecture, stage: OsaStage, channels: int, top: float, widest: int
) -> Iterator[str]:
    """Draw the first block: input, convolutions with their taps, concatenation, aggregation."""
    middle, low = top + 36, top + 74
    boxes = [True] * stage.num_layers
    if stage.num_layers > MAX_BOXES:
        boxes = [True] * (MAX_BOXES - 2) + [False, True]
    step = min(46.0, 250 / len(boxes))
    width = step - 14
    yield _bar(LEFT, middle, channels, widest, "tensor")
    yield _text(LEFT + 4, top + 93, f"{channels}", "dim", "middle")
    yield _path("tap", f"M{LEFT + 9} {middle}h6q4 0 4 4V{low - 4}q0 4 4 4H{RIGHT - 138}")
    x = LEFT + 30.0
    yield _path("flow", f"M{LEFT + 9} {middle}H{x + step * (len(boxes) - 1):.4g}")
    for is_drawn in boxes:
        if is_drawn:
            yield _bar(x, middle, stage.mid_channels, widest, "conv", width=width)
        else:
            yield _text(x + width / 2, middle + 4, "···", "", "middle")
        yield _path("tap", f"M{x + width:.4g} {middle}h4q3 0 3 4V{low}")
        x += step
    yield from _ending(architecture, stage, channels, top, widest)
    kernel = f"{'dw ' if architecture.depthwise else ''}{stage.kernel_size}x{stage.kernel_size}"
    blocks = f"{stage.num_blocks} blocks of " if stage.num_blocks > 1 else ""
    yield _text(
        LEFT + 30,
        top + 93,
        f"{blocks}{stage.num_layers} x {kernel}, {stage.mid_channels} ch.",
        "dim",
    )


def _ending(
    architecture: Architecture, stage: OsaStage, channels: int, top: float, widest: int
) -> Iterator[str]:
    """Draw the one-shot aggregation and the operations after it in the stage's blocks."""
    middle, low, x = top + 36, top + 74, RIGHT - 138.0
    width = channels + stage.num_layers * stage.mid_channels
    yield _rect(x, middle - MAX_BAR / 2, 8, low - middle + MAX_BAR / 2 + 4, "cat")
    yield _text(x + 8, top + 93, f"concat {width}", "dim", "end")
    yield _path("flow", f"M{x + 8:g} {middle}h18")
    yield _bar(x + 26, middle, stage.out_channels, widest, "agg", width=26)
    yield _text(x + 22, top + 93, f"1x1 → {stage.out_channels}", "dim")
    ends = [
        end for block in range(stage.num_blocks) for end in block_ends(architecture, stage, block)
    ]
    yield _path("flow", f"M{x + 52:g} {middle}H{RIGHT - 10}")
    if "eSE" in ends:
        yield f'<circle class="ese" cx="{x + 76:g}" cy="{middle}" r="12"/>'
        yield _text(x + 76, middle + 4, "eSE", "on", "middle")
        if ends.count("eSE") < stage.num_blocks:
            yield _text(x + 92, top + 12, "in the last block", "dim", "middle")
    if "+ input" in ends:
        yield _path(
            "same",
            f"M{LEFT + 4} {middle - 16}C{LEFT + 20} {top - 2},{x + 80:g} {top - 2},{x + 104:g} "
            f"{middle - 9}",
        )
        yield f'<circle class="ese" cx="{x + 104:g}" cy="{middle}" r="8"/>'
        yield _text(x + 104, middle + 4, "+", "on", "middle")
    yield _bar(RIGHT - 10, middle, stage.out_channels, widest, "tensor")


def _classifier(
    parts: Sequence[tuple[str, list[Layer]]], totals: Sequence[int], num_classes: int
) -> Iterator[str]:
    """Write the classifier and its shares of the costs."""
    if not num_classes:
        return
    members = parts[-1][1]
    top = 26 + ROW * (len(parts) - 1)
    yield _text(2, top + 16, "classifier", "name")
    yield _text(LEFT, top + 16, f"mean of all positions → linear {shape_of(members)[0]}", "dim")
    for index, (cost, total) in enumerate(zip(costs(members), totals, strict=True)):
        yield _text(RIGHT + 16 + 64 * index, top + 16, f"{cost / total:.0%}")
