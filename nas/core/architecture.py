"""What fixes one OSA network: its stem, its stages and its switches. Numbers only, no framework.

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
MAX_REPEATS = 64


class Stem(StrEnum):
    """Where the three 3x3 convolutions of the stem lose resolution."""

    CIFAR = "cifar"
    """Strides 1, 1, 1: 32x32 images keep their size."""
    CODE = "code"
    """Strides 2, 1, 2, as in every PyTorch code of the authors and in timm."""
    PAPER = "paper"
    """Strides 2, 1, 1, then a max pool, as in the paper and its Caffe code."""


class Attention(StrEnum):
    """Which OSA blocks of a stage end in eSE."""

    NONE = "none"
    LAST = "last"
    """The last block of each stage (timm)."""
    ALL = "all"
    """Every block (the authors' VoVNetV2)."""


class PoolPadding(StrEnum):
    """How the 3x3 stride-2 max pool treats the border."""

    CEIL = "ceil"
    """No padding, the size is rounded up (the authors, timm)."""
    SAME = "same"
    """Padding 1, as ResNet's stem."""


def _check(name: str, value: object, high: int) -> None:
    if type(value) is not int or not 1 <= value <= high:
        message = f"{name} must be a whole number from 1 to {high}, not {value!r}"
        raise InvalidValueError(message)


def _enum(kind: type[StrEnum], name: str, value: object) -> StrEnum:
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        message = f"{name} must be one of {', '.join(kind)}, not {value!r}"
        raise InvalidValueError(message) from None


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass for JSON: a tenth of the time of `asdict`, which counts where ten thousand
    digests are needed.
    """
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class OsaStage:
    """One resolution: `num_blocks` OSA blocks.

    Each has `num_layers` convolutions of `mid_channels` outputs that are concatenated once with the
    block's input and aggregated to `out_channels` by a 1x1 convolution. Raises `InvalidValueError`
    for what is not a stage.
    """

    mid_channels: int
    out_channels: int
    num_layers: int
    num_blocks: int = 1
    kernel_size: int = 3

    def __post_init__(self) -> None:
        _check("mid_channels", self.mid_channels, MAX_CHANNELS)
        _check("out_channels", self.out_channels, MAX_CHANNELS)
        _check("num_layers", self.num_layers, MAX_REPEATS)
        _check("num_blocks", self.num_blocks, MAX_REPEATS)
        if type(self.kernel_size) is not int or self.kernel_size not in (3, 5):
            message = f"kernel_size must be 3 or 5, not {self.kernel_size!r}"
            raise InvalidValueError(message)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network of the OSA design space, without its classifier.

    `stem_channels` are the widths of the stem's three convolutions; `residual` adds a block's input
    to its output from the second block of a stage on; `depthwise` makes every 3x3 or 5x5
    convolution but the stem's first separable, after a 1x1 reduction where the widths differ.
    Raises `InvalidValueError` for anything that is not a network.
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
                message = f"{name} must be a list, not {values!r}"
                raise InvalidValueError(message)
            object.__setattr__(self, name, tuple(values))
        object.__setattr__(self, "stem", _enum(Stem, "stem", self.stem))
        object.__setattr__(self, "attention", _enum(Attention, "attention", self.attention))
        object.__setattr__(
            self, "pool_padding", _enum(PoolPadding, "pool_padding", self.pool_padding)
        )
        if len(self.stem_channels) != 3:
            message = f"stem_channels must be three widths, not {self.stem_channels!r}"
            raise InvalidValueError(message)
        for width in self.stem_channels:
            _check("stem_channels", width, MAX_CHANNELS)
        if len(self.stages) not in (3, 4):
            message = f"there must be 3 or 4 stages, not {len(self.stages)}"
            raise InvalidValueError(message)
        for stage in self.stages:
            if not isinstance(stage, OsaStage):
                message = f"stages must be OsaStage values, not {stage!r}"
                raise InvalidValueError(message)
        for name in ("residual", "depthwise"):
            if not isinstance(getattr(self, name), bool):
                message = f"{name} must be true or false, not {getattr(self, name)!r}"
                raise InvalidValueError(message)

    @cached_property
    def canonical(self) -> Self:
        """The same network with the settings that change nothing merged.

        With one block in every stage the identity is never added, and eSE in the last block is eSE
        in all.
        """
        if any(stage.num_blocks > 1 for stage in self.stages):
            return self
        attention = Attention.LAST if self.attention is Attention.ALL else self.attention
        return replace(self, residual=False, attention=attention)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal networks have equal digests."""
        text = json.dumps(self.canonical, default=_fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` takes them back."""
        return json.loads(json.dumps(self, default=_fields))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the architecture that `to_dict` wrote. Raises `InvalidValueError` for missing or
        unknown keys.
        """
        try:
            missing = [name for name in ("stem_channels", "stages") if name not in values]
            if missing:
                message = f"not an architecture: {' and '.join(missing)} missing"
                raise InvalidValueError(message)
            stages = tuple(OsaStage(**stage) for stage in values["stages"])
            return cls(**{**values, "stages": stages})
        except TypeError as error:
            message = f"not an architecture: {error}"
            raise InvalidValueError(message) from None
