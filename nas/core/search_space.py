"""Search spaces: choices with their values, and the maps between choices and architectures."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Protocol, runtime_checkable

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.errors import InvalidValueError

Value = int | float | str | bool
"""One value of a choice."""
Params = Mapping[str, Value]
"""The values of all choices by name."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One coordinate of a space.

    The values of an ordered choice (widths, depths) have neighbours; those of any other choice are
    categories.
    """

    name: str
    values: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """True if all values are numbers, which must then be in increasing order."""
        return all(type(value) in {int, float} for value in self.values)

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise InvalidValueError(
                f"choice {self.name}: values must be distinct and at least one, not {self.values!r}"
            )
        if self.ordered and list(self.values) != sorted(self.values):
            raise InvalidValueError(
                f"choice {self.name}: numbers must be in increasing order, not {self.values!r}"
            )


@runtime_checkable
class SearchSpace(Protocol):
    """The interface of a search space.

    Law: `decode(encode(a)) == a` for every architecture of the space.
    """

    @property
    def choices(self) -> Sequence[Choice]:
        """The coordinates, in a fixed order."""

    @property
    def cardinality(self) -> int:
        """The number of different networks (digests)."""

    def decode(self, params: Params) -> Architecture:
        """Return the architecture with these values of all choices."""

    def encode(self, architecture: Architecture) -> dict[str, Value]:
        """Return the values of all choices for this architecture.

        Raises `InvalidValueError` if the architecture is not in the space.
        """


def decoded(space: SearchSpace, params: Params) -> Architecture:
    """Decode params. Raises `InvalidValueError` for any error of the space's own code."""
    try:
        return space.decode(params)
    except Exception as error:  # the code of a study's own space may raise anything
        raise InvalidValueError(
            f"the space cannot decode its own params {json.dumps(dict(params), default=str)}: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


STAGE_FIELDS = ("mid_channels", "out_channels", "num_layers", "num_blocks", "kernel_size")
"""Fields of `OsaSpace` with values for each stage."""
NETWORK_FIELDS = (
    "stem",
    "stem_mid",
    "stem_out",
    "residual",
    "depthwise",
    "attention",
    "pool_padding",
)
"""Fields of `OsaSpace` with values for the whole network."""


@dataclass(frozen=True, kw_only=True)
class OsaSpace:
    """All OSA networks whose widths, depths and switches are among the given values.

    The fields for stages hold one tuple of values for each stage, or one tuple of values for all
    stages alike. Their choices are named `stage2.mid_channels` and so on, with stages counted as in
    the paper, where the stem is stage 1. `stem_mid` is the width of the stem's first two
    convolutions and `stem_out` that of the third. A field with one value is fixed and no choice.
    """

    mid_channels: tuple[tuple[int, ...], ...]
    out_channels: tuple[tuple[int, ...], ...]
    num_layers: tuple[tuple[int, ...], ...] | tuple[int, ...]
    num_blocks: tuple[tuple[int, ...], ...] | tuple[int, ...] = (1,)
    kernel_size: tuple[tuple[int, ...], ...] | tuple[int, ...] = (3,)
    stem: tuple[Stem, ...] = (Stem.CODE,)
    stem_mid: tuple[int, ...] = (64,)
    stem_out: tuple[int, ...] = (128,)
    residual: tuple[bool, ...] = (False,)
    depthwise: tuple[bool, ...] = (False,)
    attention: tuple[Attention, ...] = (Attention.NONE,)
    pool_padding: tuple[PoolPadding, ...] = (PoolPadding.CEIL,)

    def __post_init__(self) -> None:
        stages = len(self.mid_channels)
        if any(isinstance(values, int) for values in self.mid_channels):
            raise InvalidValueError(
                "mid_channels must be one tuple of widths for each stage, "
                f"not {self.mid_channels!r}"
            )
        for name in STAGE_FIELDS:
            values: Any = getattr(self, name)
            if all(isinstance(value, int) for value in values):
                values = (values,) * stages
            if len(values) != stages:
                raise InvalidValueError(
                    f"{name} gives values for {len(values)} stages, mid_channels for {stages}"
                )
            object.__setattr__(self, name, tuple(tuple(value) for value in values))
        for name, values in self._values.items():
            if not values:
                raise InvalidValueError(f"{name} needs at least one value")
        smallest = {choice.name: choice.values[0] for choice in self.choices}
        self.decode(smallest)
        for choice in self.choices:
            for value in choice.values[1:]:
                self.decode({**smallest, choice.name: value})

    @cached_property
    def _values(self) -> dict[str, tuple[Value, ...]]:
        """Values of every field by the name of its choice, fixed fields included."""
        network = {name: tuple(getattr(self, name)) for name in NETWORK_FIELDS}
        stages = {
            f"stage{index + 2}.{name}": tuple(getattr(self, name)[index])
            for index in range(len(self.mid_channels))
            for name in STAGE_FIELDS
        }
        return {
            name: tuple(str(value) if isinstance(value, str) else value for value in values)
            for name, values in {**network, **stages}.items()
        }

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The fields with more than one value, in a fixed order."""
        return tuple(
            Choice(name=name, values=values)
            for name, values in self._values.items()
            if len(values) > 1
        )

    def decode(self, params: Params) -> Architecture:
        """Return the architecture with these values.

        Raises `InvalidValueError` for unknown or missing names and for values that are not in the
        space.
        """
        unknown = sorted(set(params) - {choice.name for choice in self.choices})
        if unknown:
            raise InvalidValueError(f"no choice named {', '.join(unknown)} in this space")
        value: dict[str, Any] = {
            name: params.get(name, values[0]) for name, values in self._values.items()
        }
        for name, values in self._values.items():
            if name not in params and len(values) > 1:
                raise InvalidValueError(f"no value for choice {name}")
            if value[name] not in values:
                raise InvalidValueError(
                    f"{name} must be one of {', '.join(map(str, values))}, not {value[name]!r}"
                )
        stages = tuple(
            OsaStage(**{name: value[f"stage{index + 2}.{name}"] for name in STAGE_FIELDS})
            for index in range(len(self.mid_channels))
        )
        switches = {name: value[name] for name in NETWORK_FIELDS if not name.startswith("stem_")}
        stem_channels = (value["stem_mid"], value["stem_mid"], value["stem_out"])
        return Architecture(stem_channels=stem_channels, stages=stages, **switches)

    def encode(self, architecture: Architecture) -> dict[str, Value]:
        """Return the values of all choices for this architecture.

        Raises `InvalidValueError` if the architecture is not in the space.
        """
        first, second, third = architecture.stem_channels
        if first != second or len(architecture.stages) != len(self.mid_channels):
            raise InvalidValueError(
                "the architecture's stem or number of stages is not of this space"
            )
        value: dict[str, Value] = {"stem_mid": first, "stem_out": third}
        for name in NETWORK_FIELDS:
            if not name.startswith("stem_"):
                setting = getattr(architecture, name)
                value[name] = str(setting) if isinstance(setting, str) else setting
        for index, stage in enumerate(architecture.stages):
            value |= {f"stage{index + 2}.{name}": getattr(stage, name) for name in STAGE_FIELDS}
        for name, values in self._values.items():
            if value[name] not in values:
                allowed = ", ".join(map(str, values))
                raise InvalidValueError(
                    f"{name}={value[name]} is not in this space; it has {allowed}"
                )
        return {choice.name: value[choice.name] for choice in self.choices}

    @cached_property
    def cardinality(self) -> int:
        """The number of different networks; settings without effect are merged."""
        switches = ("residual", "attention")
        others = math.prod(
            len(values)
            for name, values in self._values.items()
            if name not in switches and not name.endswith("num_blocks")
        )
        blocks = [values for name, values in self._values.items() if name.endswith("num_blocks")]
        block_settings = math.prod(len(values) for values in blocks)
        single = int(all(1 in values for values in blocks))
        merged = {
            Attention.LAST if value == Attention.ALL else Attention(value)
            for value in self.attention
        }
        with_switches = (block_settings - single) * len(self.residual) * len(self.attention)
        return others * (with_switches + single * len(merged))


def enumerate_params(space: SearchSpace) -> "product[tuple[Value, ...]]":
    """Return every combination of values, in the order of `space.choices`.

    Use it for spaces that are small enough to list.
    """
    return product(*(choice.values for choice in space.choices))
