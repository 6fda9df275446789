"""What one network costs by arithmetic alone: parameters, MACs, memory access cost, activations. No
torch.

Memory access cost is the paper's "MAC", generalised to strides and groups: for each convolution
h_in*w_in*c_in + h_out*w_out*c_out + k*k*c_in*c_out/groups, in elements (Lee et al. 2019, section 3;
ShuffleNetV2 G1).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.errors import InvalidValueError

Size = tuple[int, int]
"""Height and width in pixels."""
Totals = tuple[int, int, int]
"""Parameters, MACs, memory access cost."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution or the classifier (a 1x1 convolution on one pixel); `normalised` where
    BatchNorm follows.
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
        """Learned numbers, BatchNorm's scale and shift included."""
        return self.weights + self.out_channels * (int(self.bias) + 2 * int(self.normalised))

    @property
    def activations(self) -> int:
        """Elements written."""
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
    """Sums over one network for one image; `stages` are the output shapes (channels, height, width)
    of each stage.
    """

    parameters: int
    backbone_parameters: int
    macs: int
    memory_access_cost: int
    activations: int
    convolutions: int
    stages: tuple[tuple[int, int, int], ...]


def strided(size: Size, stride: int) -> Size:
    """Give the size after a convolution with padding k//2: rounded up."""
    return (-(-size[0] // stride), -(-size[1] // stride))


def pooled(size: Size, padding: PoolPadding) -> Size:
    """Give the size after a 3x3 stride-2 max pool; 0 where the window does not fit."""

    def one(pixels: int) -> int:
        if padding is PoolPadding.SAME:
            return (pixels - 1) // 2 + 1
        return max(-(-(pixels - 3) // 2) + 1, 0)

    return (one(size[0]), one(size[1]))


def _separable(layer: Layer) -> Iterator[Layer]:
    """Split into a depthwise convolution (no BatchNorm) and the 1x1 convolution after it."""
    yield replace(
        layer,
        name=f"{layer.name}.conv_dw",
        out_channels=layer.in_channels,
        groups=layer.in_channels,
        normalised=False,
    )
    yield replace(layer, name=f"{layer.name}.conv_pw", in_size=layer.out_size, kernel_size=1)


def _stem(architecture: Architecture, size: Size) -> Iterator[Layer]:
    strides = {Stem.CIFAR: (1, 1, 1), Stem.CODE: (2, 1, 2), Stem.PAPER: (2, 1, 1)}[
        architecture.stem
    ]
    channels = 3
    for index, (width, stride) in enumerate(zip(architecture.stem_channels, strides, strict=True)):
        layer = Layer(
            name=f"stem.{index}",
            in_channels=channels,
            out_channels=width,
            in_size=size,
            out_size=strided(size, stride),
            kernel_size=3,
        )
        yield from _separable(layer) if architecture.depthwise and index else [layer]
        channels, size = width, layer.out_size


def _block(
    architecture: Architecture, stage: OsaStage, name: str, channels: int, size: Size, *, last: bool
) -> Iterator[Layer]:
    mid = stage.mid_channels
    width = channels
    if architecture.depthwise and channels != mid:
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
        yield from _separable(layer) if architecture.depthwise else [layer]
        width = mid
    out = stage.out_channels
    yield Layer(
        name=f"{name}.conv_concat",
        in_channels=channels + stage.num_layers * mid,
        out_channels=out,
        in_size=size,
        out_size=size,
    )
    if architecture.attention is Attention.ALL or (
        architecture.attention is Attention.LAST and last
    ):
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
    """Height and width of each stage. Raises `InvalidValueError` where nothing is left of the
    image.
    """
    for stride in {Stem.CIFAR: (), Stem.CODE: (2, 2), Stem.PAPER: (2,)}[architecture.stem]:
        size = strided(size, stride)
    sizes = []
    for index in range(len(architecture.stages)):
        if index or architecture.stem is Stem.PAPER:
            size = pooled(size, architecture.pool_padding)
        if min(size) < 1:
            message = f"the image is too small: nothing is left of it in stage {index + 2}"
            raise InvalidValueError(message)
        sizes.append(size)
    return tuple(sizes)


def layers(
    architecture: Architecture, image_size: int | Size = 224, num_classes: int = 1000
) -> Iterator[Layer]:
    """Every convolution and the classifier, in order of execution, for an image of three channels.

    `num_classes` 0 leaves the classifier out.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    sizes = stage_sizes(architecture, size)
    yield from _stem(architecture, size)
    channels = architecture.stem_channels[-1]
    for index, (stage, here) in enumerate(zip(architecture.stages, sizes, strict=True)):
        for block in range(stage.num_blocks):
            yield from _block(
                architecture,
                stage,
                f"stages.{index}.blocks.{block}",
                channels,
                here,
                last=block == stage.num_blocks - 1,
            )
            channels = stage.out_channels
    if num_classes:
        yield Layer(
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
    """Sum up for one image of `image_size` pixels (height and width, or both alike)."""
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    every = list(layers(architecture, size, num_classes))
    convolutions = [layer for layer in every if layer.name != "head.fc"]
    sizes = stage_sizes(architecture, size)
    return Complexity(
        parameters=sum(layer.parameters for layer in every),
        backbone_parameters=sum(layer.parameters for layer in convolutions),
        macs=sum(layer.macs for layer in every),
        memory_access_cost=sum(layer.memory_access_cost for layer in every),
        activations=sum(layer.activations for layer in convolutions),
        convolutions=len(convolutions),
        stages=tuple(
            (stage.out_channels, *here)
            for stage, here in zip(architecture.stages, sizes, strict=True)
        ),
    )


def totals(architecture: Architecture, image_size: int, num_classes: int) -> dict[str, float]:
    """`parameters`, `macs` and `memory_access_cost` as `count` gives them, many times faster once
    most blocks were seen before, for a sampler that counts a thousand networks at every step.

    Each further layer of a block adds the same, so blocks of one and of two layers tell all others.
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
        head = Layer(
            name="head.fc",
            in_channels=channels,
            out_channels=num_classes,
            in_size=(1, 1),
            out_size=(1, 1),
            bias=True,
            normalised=False,
        )
        parts.append(_sums([head]))
    return dict(
        zip(
            ("parameters", "macs", "memory_access_cost"),
            map(float, map(sum, zip(*parts, strict=True))),
            strict=True,
        )
    )


def _sums(every: Iterable[Layer]) -> Totals:
    listed = list(every)
    return (
        sum(layer.parameters for layer in listed),
        sum(layer.macs for layer in listed),
        sum(layer.memory_access_cost for layer in listed),
    )


@lru_cache(maxsize=10_000)
def _stem_totals(stem: Stem, channels: tuple[int, int, int], depthwise: bool, size: Size) -> Totals:
    smallest = OsaStage(mid_channels=1, out_channels=1, num_layers=1)
    network = Architecture(
        stem_channels=channels, stages=(smallest,) * 3, stem=stem, depthwise=depthwise
    )
    return _sums(_stem(network, size))


@lru_cache(maxsize=200_000)
def _stage_totals(
    stage: OsaStage, channels: int, size: Size, depthwise: bool, attention: Attention
) -> Totals:
    shape = (stage.mid_channels, stage.out_channels, stage.kernel_size)
    parts = []
    for block in range(stage.num_blocks):
        last = block == stage.num_blocks - 1
        attended = attention is Attention.ALL or (attention is Attention.LAST and last)
        one, further = _block_totals(shape, channels, size, depthwise, attended)
        parts += [one, *[further] * (stage.num_layers - 1)]
        channels = stage.out_channels
    parameters, macs, moved = map(sum, zip(*parts, strict=True))
    return parameters, macs, moved


@lru_cache(maxsize=200_000)
def _block_totals(
    shape: tuple[int, int, int], channels: int, size: Size, depthwise: bool, attention: bool
) -> tuple[Totals, Totals]:
    """Of a block of one layer, and of each further one."""
    mid, out, kernel = shape
    found = []
    for depth in (1, 2):
        stage = OsaStage(mid_channels=mid, out_channels=out, num_layers=depth, kernel_size=kernel)
        network = Architecture(
            stem_channels=(1, 1, 1),
            stages=(stage,) * 3,
            depthwise=depthwise,
            attention=Attention.ALL if attention else Attention.NONE,
        )
        found.append(_sums(_block(network, stage, "block", channels, size, last=True)))
    one, two = found
    return one, (two[0] - one[0], two[1] - one[1], two[2] - one[2])
