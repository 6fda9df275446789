"""Costs of one network by arithmetic: parameters, MACs, memory access cost, activations.

Memory access cost is the paper's "MAC", generalised to strides and groups. Each convolution adds
h_in*w_in*c_in + h_out*w_out*c_out + k*k*c_in*c_out/groups, in elements (Lee et al. 2019, section 3;
ShuffleNetV2 G1). The module needs no torch.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.errors import InvalidValueError

COUNTED_METRICS = ("parameters", "macs", "memory_access_cost")
"""Metrics that are counted exactly for every network, because they cost nothing."""

Size = tuple[int, int]
"""Height and width in pixels."""
Totals = tuple[int, int, int]
"""Parameters, MACs and memory access cost."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution, or the classifier, which is a 1x1 convolution on one pixel.

    `normalised` is true if a BatchNorm follows.
    """

    name: str
    in_channels: int
    out_channels: int
    in_size: Size
    out_size: Size
    kernel_size: int = 1
    groups: int = 1
    bias: bool = False
    normalised: bool = True

    @property
    def weights(self) -> int:
        """Elements of the kernel."""
        return self.kernel_size**2 * self.in_channels * self.out_channels // self.groups

    @property
    def parameters(self) -> int:
        """Learned numbers, including BatchNorm's scale and shift."""
        return self.weights + self.out_channels * (int(self.bias) + 2 * int(self.normalised))

    @property
    def activations(self) -> int:
        """Elements written for one image."""
        return math.prod(self.out_size) * self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return math.prod(self.out_size) * self.weights

    @property
    def memory_access_cost(self) -> int:
        """Elements read and written for one image, weights included."""
        return math.prod(self.in_size) * self.in_channels + self.activations + self.weights


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """Sums over one network for one image.

    `stages` are the output shapes (channels, height, width) of the stages.
    """

    parameters: int
    backbone_parameters: int
    macs: int
    memory_access_cost: int
    activations: int
    convolutions: int
    stages: tuple[tuple[int, int, int], ...]


def strided(size: Size, stride: int) -> Size:
    """Return the size after a convolution with padding k//2, which is rounded up."""
    return (-(-size[0] // stride), -(-size[1] // stride))


def pooled(size: Size, padding: PoolPadding) -> Size:
    """Return the size after a 3x3 stride-2 max pool, 0 if the window does not fit."""

    def side(pixels: int) -> int:
        if padding is PoolPadding.SAME:
            return (pixels - 1) // 2 + 1
        return max(-(-(pixels - 3) // 2) + 1, 0)

    return (side(size[0]), side(size[1]))


def _separable(layer: Layer) -> Iterator[Layer]:
    """Split into a depthwise convolution without BatchNorm and the 1x1 convolution after it."""
    yield replace(
        layer,
        name=f"{layer.name}.conv_dw",
        out_channels=layer.in_channels,
        groups=layer.in_channels,
        normalised=False,
    )
    yield replace(layer, name=f"{layer.name}.conv_pw", in_size=layer.out_size, kernel_size=1)


def _stem(
    stem: Stem, widths: tuple[int, int, int], size: Size, *, depthwise: bool
) -> Iterator[Layer]:
    strides = {Stem.CIFAR: (1, 1, 1), Stem.CODE: (2, 1, 2), Stem.PAPER: (2, 1, 1)}[stem]
    channels = 3
    for index, (width, stride) in enumerate(zip(widths, strides, strict=True)):
        layer = Layer(
            name=f"stem.{index}",
            in_channels=channels,
            out_channels=width,
            in_size=size,
            out_size=strided(size, stride),
            kernel_size=3,
        )
        yield from _separable(layer) if depthwise and index else [layer]
        channels, size = width, layer.out_size


def _attended(stage: OsaStage, attention: Attention) -> list[bool]:
    """Return for each block of a stage whether it ends with attention."""
    every, last = attention is Attention.ALL, attention is not Attention.NONE
    return [every] * (stage.num_blocks - 1) + [last]


def _block(
    stage: OsaStage, name: str, channels: int, size: Size, *, depthwise: bool, attended: bool
) -> Iterator[Layer]:
    mid = stage.mid_channels
    width = channels
    if depthwise and channels != mid:
        yield Layer(
            name=f"{name}.conv_reduction",
            in_channels=channels,
            out_channels=mid,
            in_size=size,
            out_size=size,
        )
        width = mid
    for index in range(stage.num_layers):
        layer = Layer(
            name=f"{name}.conv_mid.{index}",
            in_channels=width,
            out_channels=mid,
            in_size=size,
            out_size=size,
            kernel_size=stage.kernel_size,
        )
        yield from _separable(layer) if depthwise else [layer]
        width = mid
    out = stage.out_channels
    yield Layer(
        name=f"{name}.conv_concat",
        in_channels=channels + stage.num_layers * mid,
        out_channels=out,
        in_size=size,
        out_size=size,
    )
    if attended:
        yield Layer(
            name=f"{name}.attn.fc",
            in_channels=out,
            out_channels=out,
            in_size=(1, 1),
            out_size=(1, 1),
            bias=True,
            normalised=False,
        )


def stage_sizes(architecture: Architecture, size: Size) -> tuple[Size, ...]:
    """Return height and width of each stage.

    Raises `InvalidValueError` if the image is too small for the network.
    """
    height, width = size
    strides = {Stem.CIFAR: (), Stem.CODE: (2, 2), Stem.PAPER: (2,)}
    for stride in strides[architecture.stem]:
        size = strided(size, stride)
    sizes = []
    for index in range(len(architecture.stages)):
        if index or architecture.stem is Stem.PAPER:
            size = pooled(size, architecture.pool_padding)
        if min(size) < 1:
            raise InvalidValueError(
                f"an image of {height}x{width} pixels is too small: stage {index + 2} "
                "would have no pixels"
            )
        sizes.append(size)
    return tuple(sizes)


def layers(
    architecture: Architecture, image_size: int | Size = 224, num_classes: int = 1000
) -> Iterator[Layer]:
    """Yield every convolution and the classifier for an image of three channels.

    They come in the order of execution. `num_classes` 0 leaves out the classifier.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    sizes = stage_sizes(architecture, size)
    depthwise, widths = architecture.depthwise, architecture.stem_channels
    yield from _stem(architecture.stem, widths, size, depthwise=depthwise)
    channels = widths[-1]
    for index, (stage, here) in enumerate(zip(architecture.stages, sizes, strict=True)):
        for block, attended in enumerate(_attended(stage, architecture.attention)):
            name = f"stages.{index}.blocks.{block}"
            yield from _block(stage, name, channels, here, depthwise=depthwise, attended=attended)
            channels = stage.out_channels
    if num_classes:
        yield _classifier(channels, num_classes)


def _classifier(channels: int, num_classes: int) -> Layer:
    """Return the linear layer after the mean of all positions."""
    return Layer(
        name="head.fc",
        in_channels=channels,
        out_channels=num_classes,
        in_size=(1, 1),
        out_size=(1, 1),
        bias=True,
        normalised=False,
    )


def count(
    architecture: Architecture, image_size: int | Size = 224, num_classes: int = 1000
) -> Complexity:
    """Return the sums for one image of `image_size` pixels.

    `image_size` is height and width, or one number for both.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    all_layers = list(layers(architecture, size, num_classes))
    convolutions = [layer for layer in all_layers if layer.name != "head.fc"]
    sizes = stage_sizes(architecture, size)
    return Complexity(
        parameters=sum(layer.parameters for layer in all_layers),
        backbone_parameters=sum(layer.parameters for layer in convolutions),
        macs=sum(layer.macs for layer in all_layers),
        memory_access_cost=sum(layer.memory_access_cost for layer in all_layers),
        activations=sum(layer.activations for layer in convolutions),
        convolutions=len(convolutions),
        stages=tuple(
            (stage.out_channels, *here)
            for stage, here in zip(architecture.stages, sizes, strict=True)
        ),
    )


def totals(architecture: Architecture, image_size: int, num_classes: int) -> dict[str, float]:
    """Return `parameters`, `macs` and `memory_access_cost`, the same as `count`.

    Once most blocks are in the cache this is many times faster, for a sampler that counts a
    thousand networks at every step. Each further layer of a block adds the same amount, so that
    blocks of one and of two layers determine all others.
    """
    size = (image_size, image_size)
    parts = [
        _stem_totals(architecture.stem, architecture.stem_channels, architecture.depthwise, size)
    ]
    channels = architecture.stem_channels[-1]
    for stage, here in zip(architecture.stages, stage_sizes(architecture, size), strict=True):
        parts.append(
            _stage_totals(stage, channels, here, architecture.depthwise, architecture.attention)
        )
        channels = stage.out_channels
    if num_classes:
        parts.append(_sums([_classifier(channels, num_classes)]))
    parameters, macs, moved = map(sum, zip(*parts, strict=True))
    return {
        "parameters": float(parameters),
        "macs": float(macs),
        "memory_access_cost": float(moved),
    }


def _sums(parts: Iterable[Layer]) -> Totals:
    parameters, macs, moved = 0, 0, 0
    for layer in parts:
        parameters += layer.parameters
        macs += layer.macs
        moved += layer.memory_access_cost
    return parameters, macs, moved


@lru_cache(maxsize=10_000)
def _stem_totals(stem: Stem, channels: tuple[int, int, int], depthwise: bool, size: Size) -> Totals:
    """Return the totals of a stem."""
    return _sums(_stem(stem, channels, size, depthwise=depthwise))


@lru_cache(maxsize=200_000)
def _stage_totals(
    stage: OsaStage, channels: int, size: Size, depthwise: bool, attention: Attention
) -> Totals:
    """Return the totals of a stage with this number of input channels."""
    shape = (stage.mid_channels, stage.out_channels, stage.kernel_size)
    parts = []
    for attended in _attended(stage, attention):
        one, further = _block_totals(shape, channels, size, depthwise, attended)
        parts += [one, *[further] * (stage.num_layers - 1)]
        channels = stage.out_channels
    parameters, macs, moved = map(sum, zip(*parts, strict=True))
    return parameters, macs, moved


@lru_cache(maxsize=200_000)
def _block_totals(
    shape: tuple[int, int, int], channels: int, size: Size, depthwise: bool, attended: bool
) -> tuple[Totals, Totals]:
    """Return the totals of a block with one layer, and those that each further layer adds."""
    mid, out, kernel = shape
    sums = []
    for depth in (1, 2):
        stage = OsaStage(mid_channels=mid, out_channels=out, num_layers=depth, kernel_size=kernel)
        block = _block(stage, "", channels, size, depthwise=depthwise, attended=attended)
        sums.append(_sums(block))
    one, two = sums
    return one, (two[0] - one[0], two[1] - one[1], two[2] - one[2])
