"""One architecture drawn as text of at most 80 columns: what flows where, and what each part costs.

Pure text and arithmetic. Every number comes from `nas.core.complexity`; stages are counted as in
the paper, where the stem is stage 1. The line below a block's convolutions is its one-shot
aggregation: every tap goes into the concatenation.
"""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.complexity import Layer, Size, count, layers, stage_sizes

WIDTH = 80
INSIDE = WIDTH - 4
"""Columns between a box's walls, one blank on either side left out."""
ARROW = " → "
PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def draw(architecture: Architecture, image_size: int | Size, num_classes: int) -> str:
    """Draw the network for images of `image_size` pixels (height and width, or both alike).

    `num_classes` 0 leaves the classifier out. Lines are joined by newlines, without one at the end.
    Raises `InvalidValueError` where nothing is left of the image.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    every = list(layers(architecture, size, num_classes))
    totals = count(architecture, size, num_classes)
    without = f" ({totals.backbone_parameters:,} without the classifier)" if num_classes else ""
    closing = textwrap.wrap(
        f"{totals.parameters:,} parameters{without}, {totals.macs:,} MACs, "
        f"memory access cost {totals.memory_access_cost:,} elements, "
        f"{totals.activations:,} activations, {totals.convolutions:,} convolutions.",
        WIDTH,
    )
    return "\n".join(
        [*_pictures(architecture, size, num_classes, every), "", *_table(every), "", *closing]
    )


def _pictures(
    architecture: Architecture, size: Size, num_classes: int, every: Sequence[Layer]
) -> Iterator[str]:
    """Boxes from the image to the classifier with what flows between them."""
    yield _between("image", (3, *size))
    stem = [layer for layer in every if layer.name.startswith("stem.")]
    yield from _box("stem", "", [ARROW.join(["3", *_stem_parts(stem)])])
    shape = (architecture.stem_channels[-1], *stem[-1].out_size)
    sizes = stage_sizes(architecture, size)
    for index, (stage, here) in enumerate(zip(architecture.stages, sizes, strict=True)):
        pooled = index > 0 or architecture.stem is Stem.PAPER
        padding = "padding 1" if architecture.pool_padding is PoolPadding.SAME else "rounded up"
        yield _between("", shape)
        if pooled:
            yield _between(f"max pool 3x3 /2, {padding}", (shape[0], *here))
        note = f"{_plural(stage.num_blocks, 'OSA block')} of {_plural(stage.num_layers, 'layer')}"
        yield from _box(f"stage {index + 2}", note, list(_blocks(architecture, stage, shape[0])))
        shape = (stage.out_channels, *here)
    if num_classes:
        yield _between("", shape)
        yield from _box("classifier", "", [f"mean of all positions{ARROW}linear {num_classes}"])
    yield (
        _between("logits", (num_classes,), "▼") if num_classes else _between("features", shape, "▼")
    )


def _between(label: str, shape: Sequence[int], line: str = "│") -> str:
    """What flows from one box to the next: channels x height x width."""
    text = " x ".join(map(str, shape))
    return f"  {line} {label}{text:>{WIDTH - 5 - len(label)}}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _box(title: str, note: str, content: Sequence[str]) -> Iterator[str]:
    left, right = f"┌─┴─ {title} ", f" {note} ─┐" if note else "─┐"
    yield left + "─" * (WIDTH - len(left) - len(right)) + right
    for line in content:
        yield f"│ {line:<{INSIDE}} │"
    yield "└─┬" + "─" * (WIDTH - 4) + "┘"


def _stem_parts(stem: Sequence[Layer]) -> Iterator[str]:
    """The three convolutions; a separable one is two layers, named alike."""
    for _, parts in groupby(stem, key=lambda layer: layer.name.split(".")[1]):
        first, *rest = parts
        stride = " /2" if first.in_size != first.out_size else ""
        yield (
            _convolution(
                first.kernel_size, (rest or [first])[-1].out_channels, separable=bool(rest)
            )
            + stride
        )


def _convolution(kernel_size: int, channels: int, *, separable: bool) -> str:
    return f"{'dw' if separable else ''}{kernel_size}x{kernel_size} {channels}"


def _blocks(architecture: Architecture, stage: OsaStage, channels: int) -> Iterator[str]:
    """The first block as a picture, then a line for each run of others that are alike."""
    first, *others = [block_ends(architecture, stage, block) for block in range(stage.num_blocks)]
    reduction = _reduction(architecture, stage, channels)
    convolution = _convolution(
        stage.kernel_size, stage.mid_channels, separable=architecture.depthwise
    )
    yield from _picture([str(channels), *reduction], [convolution] * stage.num_layers)
    yield f" └→ {_aggregation(stage, channels, first)}"
    number = 2
    for ends, alike in groupby(others):
        last = number + len(list(alike)) - 1
        name = f"block {number}: " if number == last else f"blocks {number} to {last}: "
        parts = [
            str(stage.out_channels),
            *_reduction(architecture, stage, stage.out_channels),
            f"{stage.num_layers} x {convolution}",
            _aggregation(stage, stage.out_channels, ends),
        ]
        yield from textwrap.wrap(name + ARROW.join(parts), INSIDE, subsequent_indent=" " * 4)
        number = last + 1


def _reduction(architecture: Architecture, stage: OsaStage, channels: int) -> list[str]:
    """The 1x1 convolution that separable ones need where the widths differ."""
    needed = architecture.depthwise and channels != stage.mid_channels
    return [f"1x1 {stage.mid_channels}"] if needed else []


def block_ends(architecture: Architecture, stage: OsaStage, block: int) -> tuple[str, ...]:
    """What comes after a block's aggregation."""
    last = block == stage.num_blocks - 1
    attended = architecture.attention is Attention.ALL or (
        architecture.attention is Attention.LAST and last
    )
    added = architecture.residual and block > 0
    return (*(["eSE"] if attended else []), *(["+ input"] if added else []))


def _aggregation(stage: OsaStage, channels: int, ends: Sequence[str]) -> str:
    width = channels + stage.num_layers * stage.mid_channels
    return ARROW.join([f"concat {width}", f"1x1 {stage.out_channels}", *ends])


def _picture(start: Sequence[str], chain: Sequence[str]) -> Iterator[str]:
    """The chain of convolutions with a tap after each, and the line that collects the taps.

    Taps go off before the reduction, since the concatenation takes the block's input. What does not
    fit into the box is left out before the last convolution and told as three dots.
    """
    source, *reduction = start
    opening = f"{source:>4} ┬→ {''.join(f'{part} ─→ ' for part in reduction)}"
    fit = (INSIDE - len(opening)) // len(f"{chain[0]} ┬→ ")
    drawn = (
        [*chain]
        if len(chain) <= fit
        else [*chain[: fit - 2], f"{'···':^{len(chain[0])}}", chain[-1]]
    )
    line = opening + " ┬→ ".join(drawn) + " ┐"
    collected = "".join("┘" if sign == "┐" else "┴" if sign == "┬" else "─" for sign in line)
    yield line
    yield f" ┌{collected[2:]}"


def _table(every: Sequence[Layer]) -> Iterator[str]:
    """Parameters, MACs and memory access cost of each part with its share of the sum."""
    totals = costs(every)
    yield f"{'':12}{'output':>16}{'parameters':>16}{'MACs':>16}{'memory access':>18}"
    for name, members in groupby(every, key=part):
        own = list(members)
        shape = "x".join(map(str, shape_of(own)))
        shares = (
            f"{shortened(cost):>8} {cost / total:>6.1%}"
            for cost, total in zip(costs(own), totals, strict=True)
        )
        yield f"{name:12}{shape:>16} " + "  ".join(shares)
    yield f"{'total':28} " + "  ".join(f"{shortened(total):>8}{'':7}" for total in totals).rstrip()


def part(layer: Layer) -> str:
    """The box a layer stands in."""
    kind, index, *_ = layer.name.split(".")
    return {"stem": "stem", "head": "classifier"}.get(kind) or f"stage {int(index) + 2}"


def costs(some: Sequence[Layer]) -> tuple[int, int, int]:
    """Parameters, MACs and memory access cost of these layers together."""
    return (
        sum(layer.parameters for layer in some),
        sum(layer.macs for layer in some),
        sum(layer.memory_access_cost for layer in some),
    )


def shape_of(some: Sequence[Layer]) -> tuple[int, ...]:
    """What a box gives: eSE's convolution works on means, so the last before it tells the size."""
    last = [layer for layer in some if not layer.name.endswith(".attn.fc")][-1]
    return (last.out_channels,) if last.name == "head.fc" else (last.out_channels, *last.out_size)


def shortened(value: int) -> str:
    """Three significant digits and a prefix: 22.6 M; whole numbers below a thousand as they are."""
    if value < 1000:
        return str(value)
    digits, exponent = f"{value:.2e}".split("e")
    power, shift = divmod(int(exponent), 3)
    return f"{float(digits) * 10**shift:.{2 - shift}f} {PREFIXES[power]}"
