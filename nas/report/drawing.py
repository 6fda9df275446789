"""Drawing of one architecture as text of at most 80 columns: data flow, and the cost of each part.

Every number comes from `nas.core.complexity`. Stages are counted as in the paper, where the stem is
stage 1. The line below a block's convolutions is its one-shot aggregation: every tap leads into the
concatenation.
"""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.complexity import Layer, Size, count, layers, stage_sizes

WIDTH = 80
"""Columns of the drawing."""
INNER_WIDTH = WIDTH - 4
"""Columns between a box's walls, without a blank on either side."""
ARROW = " → "
"""Joint between two operations."""
PREFIXES = ("", "k", "M", "G", "T", "P", "E")
"""Prefixes of powers of 1000."""


def draw(architecture: Architecture, image_size: int | Size, num_classes: int) -> str:
    """Draw the network for images of `image_size` pixels: the side, or height and width.

    `num_classes` 0 leaves the classifier out. The text does not end in a newline. Raises
    `InvalidValueError` if the image is too small for the network.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    all_layers = list(layers(architecture, size, num_classes))
    totals = count(architecture, size, num_classes)
    without = f" ({totals.backbone_parameters:,} without the classifier)" if num_classes else ""
    closing = textwrap.wrap(
        f"{totals.parameters:,} parameters{without}, {totals.macs:,} MACs, "
        f"memory access cost {totals.memory_access_cost:,} elements, "
        f"{totals.activations:,} activations, {totals.convolutions:,} convolutions.",
        WIDTH,
    )
    return "\n".join(
        [
            *_boxes(architecture, size, num_classes, all_layers),
            "",
            *_table(all_layers),
            "",
            *closing,
        ]
    )


def _boxes(
    architecture: Architecture, size: Size, num_classes: int, all_layers: Sequence[Layer]
) -> Iterator[str]:
    """Draw boxes from the image to the classifier with the tensors between them."""
    yield _between("image", (3, *size))
    stem = [layer for layer in all_layers if layer.name.startswith("stem.")]
    yield from _box("stem", "", [ARROW.join(["3", *_stem_parts(stem)])])
    shape = (architecture.stem_channels[-1], *stem[-1].out_size)
    sizes = stage_sizes(architecture, size)
    for index, (stage, stage_size) in enumerate(zip(architecture.stages, sizes, strict=True)):
        pooled = index > 0 or architecture.stem is Stem.PAPER
        padding = "padding 1" if architecture.pool_padding is PoolPadding.SAME else "rounded up"
        yield _between("", shape)
        if pooled:
            yield _between(f"max pool 3x3 /2, {padding}", (shape[0], *stage_size))
        note = f"{_plural(stage.num_blocks, 'OSA block')} of {_plural(stage.num_layers, 'layer')}"
        yield from _box(f"stage {index + 2}", note, list(_blocks(architecture, stage, shape[0])))
        shape = (stage.out_channels, *stage_size)
    if not num_classes:
        yield _between("features", shape, "▼")
        return
    yield _between("", shape)
    yield from _box("classifier", "", [f"mean of all positions{ARROW}linear {num_classes}"])
    yield _between("logits", (num_classes,), "▼")


def _between(label: str, shape: Sequence[int], line: str = "│") -> str:
    """Draw the tensor between two boxes: channels x height x width."""
    text = " x ".join(map(str, shape))
    return f"  {line} {label}{text:>{WIDTH - 5 - len(label)}}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _box(title: str, note: str, content: Sequence[str]) -> Iterator[str]:
    """Draw a box around lines, with a title on the left and a note on the right."""
    left, right = f"┌─┴─ {title} ", f" {note} ─┐" if note else "─┐"
    yield left + "─" * (WIDTH - len(left) - len(right)) + right
    for line in content:
        yield f"│ {line:<{INNER_WIDTH}} │"
    yield "└─┬" + "─" * (WIDTH - 4) + "┘"


def _stem_parts(stem: Sequence[Layer]) -> Iterator[str]:
    """Describe the three convolutions. A separable one is two layers with the same name."""
    for _, members in groupby(stem, key=lambda layer: layer.name.split(".")[1]):
        parts = list(members)
        first, last = parts[0], parts[-1]
        stride = " /2" if first.in_size != first.out_size else ""
        text = _convolution(first.kernel_size, last.out_channels, separable=len(parts) > 1)
        yield text + stride


def _convolution(kernel_size: int, channels: int, *, separable: bool) -> str:
    return f"{'dw' if separable else ''}{kernel_size}x{kernel_size} {channels}"


def _blocks(architecture: Architecture, stage: OsaStage, channels: int) -> Iterator[str]:
    """Draw the first block, then write a line for each run of identical blocks after it."""
    first, *others = [block_ends(architecture, stage, block) for block in range(stage.num_blocks)]
    reduction = _reduction(architecture, stage, channels)
    convolution = _convolution(
        stage.kernel_size, stage.mid_channels, separable=architecture.depthwise
    )
    yield from _picture([str(channels), *reduction], [convolution] * stage.num_layers)
    yield f" └→ {_aggregation(stage, channels, first)}"
    number = 2
    for ends, identical in groupby(others):
        last = number + len(list(identical)) - 1
        name = f"block {number}: " if number == last else f"blocks {number} to {last}: "
        parts = [
            str(stage.out_channels),
            *_reduction(architecture, stage, stage.out_channels),
            f"{stage.num_layers} x {convolution}",
            _aggregation(stage, stage.out_channels, ends),
        ]
        yield from textwrap.wrap(name + ARROW.join(parts), INNER_WIDTH, subsequent_indent=" " * 4)
        number = last + 1


def _reduction(architecture: Architecture, stage: OsaStage, channels: int) -> list[str]:
    """Describe the 1x1 convolution before separable ones, which they need if the widths differ."""
    needed = architecture.depthwise and channels != stage.mid_channels
    return [f"1x1 {stage.mid_channels}"] if needed else []


def block_ends(architecture: Architecture, stage: OsaStage, block: int) -> tuple[str, ...]:
    """Name the operations after a block's aggregation."""
    ends = []
    is_last = block == stage.num_blocks - 1
    attention = {Attention.NONE: False, Attention.LAST: is_last, Attention.ALL: True}
    if attention[architecture.attention]:
        ends.append("eSE")
    if architecture.residual and block > 0:
        ends.append("+ input")
    return tuple(ends)


def _aggregation(stage: OsaStage, channels: int, ends: Sequence[str]) -> str:
    width = channels + stage.num_layers * stage.mid_channels
    return ARROW.join([f"concat {width}", f"1x1 {stage.out_channels}", *ends])


def _picture(start: Sequence[str], chain: Sequence[str]) -> Iterator[str]:
    """Draw the chain of convolutions with a tap after each, and the line that collects the taps.

    The first tap is before the reduction, since the concatenation takes the block's input. If the
    chain is too wide for the box, three dots stand for the convolutions before the last one.
    """
    source, *reduction = start
    opening = f"{source:>4} ┬→ {''.join(f'{part} ─→ ' for part in reduction)}"
    fit = (INNER_WIDTH - len(opening)) // len(f"{chain[0]} ┬→ ")
    drawn = [*chain]
    if len(chain) > fit:
        drawn = [*chain[: fit - 2], f"{'···':^{len(chain[0])}}", chain[-1]]
    line = opening + " ┬→ ".join(drawn) + " ┐"
    below = {"┐": "┘", "┬": "┴"}
    collected = "".join(below.get(sign, "─") for sign in line)
    yield line
    yield f" ┌{collected[2:]}"


def _table(all_layers: Sequence[Layer]) -> Iterator[str]:
    """Write parameters, MACs and memory access cost of each part, with their shares of the sum."""
    totals = costs(all_layers)
    yield f"{'':12}{'output':>16}{'parameters':>16}{'MACs':>16}{'memory access':>18}"
    for name, members in groupby(all_layers, key=part):
        part_layers = list(members)
        shape = "x".join(map(str, shape_of(part_layers)))
        shares = (
            f"{shortened(cost):>8} {cost / total:>6.1%}"
            for cost, total in zip(costs(part_layers), totals, strict=True)
        )
        yield f"{name:12}{shape:>16} " + "  ".join(shares)
    yield f"{'total':28} " + "  ".join(f"{shortened(total):>8}{'':7}" for total in totals).rstrip()


def part(layer: Layer) -> str:
    """Name the box of a layer."""
    kind, index, *_ = layer.name.split(".")
    return {"stem": "stem", "head": "classifier"}.get(kind) or f"stage {int(index) + 2}"


def costs(members: Sequence[Layer]) -> tuple[int, int, int]:
    """Return the sums of parameters, MACs and memory access cost of these layers."""
    return (
        sum(layer.parameters for layer in members),
        sum(layer.macs for layer in members),
        sum(layer.memory_access_cost for layer in members),
    )


def shape_of(members: Sequence[Layer]) -> tuple[int, ...]:
    """Return the output shape of a box without the batch.

    The convolution of eSE works on means, therefore the last layer before it has the size.
    """
    last = [layer for layer in members if not layer.name.endswith(".attn.fc")][-1]
    return (last.out_channels,) if last.name == "head.fc" else (last.out_channels, *last.out_size)


def shortened(value: int) -> str:
    """Format with three digits and a prefix, such as 22.6 M. Numbers below 1000 have all digits."""
    if value < 1000:
        return str(value)
    digits, exponent = f"{value:.2e}".split("e")
    power, shift = divmod(int(exponent), 3)
    return f"{float(digits) * 10**shift:.{2 - shift}f} {PREFIXES[power]}"
