"""Architectures of OSA networks: stem, stages and switches, as numbers without any framework.

Source of the design: Lee et al., "An Energy and GPU-Computation Efficient Backbone Network for
Real-Time Object Detection", CVPRW 2019 (VoVNet) and Lee & Park, "CenterMask", CVPR 2020 (VoVNetV2:
identity and eSE).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from nas.core.errors import InvalidValueError

MAX_CHANNELS = 8192
"""Largest width of a convolution."""
MAX_REPEATS = 64
"""Largest number of layers in a block and of blocks in a stage."""


class Stem(StrEnum):
    """The strides of the stem, which is three 3x3 convolutions."""

    CIFAR = "cifar"
    """Strides 1, 1, 1: images of 32x32 keep their size."""
    CODE = "code"
    """Strides 2, 1, 2, as in all PyTorch code of the authors and in timm."""
    PAPER = "paper"
    """Strides 2, 1, 1 and then a max pool, as in the paper and its Caffe code."""


class Attention(StrEnum):
    """The OSA blocks of a stage that end in eSE."""

    NONE = "none"
    LAST = "last"
    """The last block of each stage (timm)."""
    ALL = "all"
    """Every block (the authors' VoVNetV2)."""


class PoolPadding(StrEnum):
    """The treatment of the border by the 3x3 stride-2 max pools."""

    CEIL = "ceil"
    """No padding, and the size is rounded up (the authors, timm)."""
    SAME = "same"
    """Padding 1, as in ResNet's stem."""


def _check_count(name: str, value: object, high: int) -> None:
    """Raise `InvalidValueError` unless the value is a whole number from 1 to `high`."""
    if type(value) is not int or not 1 <= value <= high:
        raise InvalidValueError(f"{name} must be a whole number from 1 to {high}, not {value!r}")


def _enum_member(kind: type[StrEnum], name: str, value: object) -> StrEnum:
    """Return the member of the enumeration that has this value."""
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        raise InvalidValueError(f"{name} must be one of {', '.join(kind)}, not {value!r}") from None


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass for JSON.

    This takes a tenth of the time of `asdict`, which matters for ten thousand digests.
    """
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class OsaStage:
    """A stage of `num_blocks` OSA blocks, all at one resolution.

    A block has `num_layers` convolutions of `mid_channels` outputs. These are concatenated once
    with the block's input and aggregated to `out_channels` by a 1x1 convolution. Raises
    `InvalidValueError` for values that make no stage.
    """

    mid_channels: int
    out_channels: int
    num_layers: int
    num_blocks: int = 1
    kernel_size: int = 3

    def __post_init__(self) -> None:
        _check_count("mid_channels", self.mid_channels, MAX_CHANNELS)
        _check_count("out_channels", self.out_channels, MAX_CHANNELS)
        _check_count("num_layers", self.num_layers, MAX_REPEATS)
        _check_count("num_blocks", self.num_blocks, MAX_REPEATS)
        if type(self.kernel_size) is not int or self.kernel_size not in (3, 5):
            raise InvalidValueError(f"kernel_size must be 3 or 5, not {self.kernel_size!r}")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network of the OSA design space, without its classifier.

    `stem_channels` are the widths of the stem's three convolutions. `residual` adds a block's input
    to its output, from the second block of a stage on. `depthwise` makes every 3x3 or 5x5
    convolution except the stem's first one separable; in a block whose input has another width than
    its layers, a 1x1 reduction comes first. Raises `InvalidValueError` for values that make no
    network.
    """

    stem_channels: tuple[int, int, int]
    stages: tuple[OsaStage, ...]
    stem: Stem = Stem.CODE
    residual: bool = False
    depthwise: bool = False
    attention: Attention = Attention.NONE
    pool_padding: PoolPadding = PoolPadding.CEIL

    def __post_init__(self) -> None:
        for name in ("stem_channels", "stages"):
            values = getattr(self, name)
            if not isinstance(values, tuple | list):
                raise InvalidValueError(f"{name} must be a list, not {values!r}")
            object.__setattr__(self, name, tuple(values))
        object.__setattr__(self, "stem", _enum_member(Stem, "stem", self.stem))
        object.__setattr__(self, "attention", _enum_member(Attention, "attention", self.attention))
        object.__setattr__(
            self, "pool_padding", _enum_member(PoolPadding, "pool_padding", self.pool_padding)
        )
        if len(self.stem_channels) != 3:
            raise InvalidValueError(
                f"stem_channels must be three widths, not {self.stem_channels!r}"
            )
        for width in self.stem_channels:
            _check_count("stem_channels", width, MAX_CHANNELS)
        if len(self.stages) not in (3, 4):
            raise InvalidValueError(f"there must be 3 or 4 stages, not {len(self.stages)}")
        for stage in self.stages:
            if not isinstance(stage, OsaStage):
                raise InvalidValueError(f"stages must be OsaStage values, not {stage!r}")
        for name in ("residual", "depthwise"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidValueError(
                    f"{name} must be true or false, not {getattr(self, name)!r}"
                )

    @cached_property
    def canonical(self) -> Self:
        """The same network, with the settings that change nothing merged.

        If every stage has one block, no identity is ever added, and eSE in the last block is eSE in
        all blocks.
        """
        if any(stage.num_blocks > 1 for stage in self.stages):
            return self
        attention = Attention.LAST if self.attention is Attention.ALL else self.attention
        return replace(self, residual=False, attention=attention)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON, which is equal for equal networks."""
        text = json.dumps(self.canonical, default=_fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_dict` makes the architecture again."""
        return json.loads(json.dumps(self, default=_fields))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the architecture that `to_dict` wrote.

        Raises `InvalidValueError` for missing or unknown keys.
        """
        try:
            missing = [name for name in ("stem_channels", "stages") if name not in values]
            if missing:
                raise InvalidValueError(f"not an architecture: {' and '.join(missing)} missing")
            stages = tuple(OsaStage(**stage) for stage in values["stages"])
            return cls(**{**values, "stages": stages})
        except TypeError as error:
            raise InvalidValueError(f"not an architecture: {error}") from None
