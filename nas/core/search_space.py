"""Design spaces: the values a search may choose from, and the two ways between choices and an
architecture.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Protocol, runtime_checkable

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.errors import InvalidValueError

Value = int | float | str | bool
Params = Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One coordinate of a space. `ordered` values (widths, depths) have neighbours, others are
    categories.
    """

    name: str
    values: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers in increasing order."""
        return all(type(value) in {int, float} for value in self.values)

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise InvalidValueError(
                f"choice {self.name}: values must be distinct and at least one, not {self.values!r}"
            )
        if self.ordered and list(self.values) != sorted(self.values):
            raise InvalidValueError(
                f"choice {self.name}: numbers must be in increasing order, not {self.values!r}"
            )


@runtime_checkable
class SearchSpace(Protocol):
    """What a search needs of a space. Law: `decode(encode(a)) == a` for every architecture of the
    space.
    """

    @property
    def choices(self) -> Sequence[Choice]:
        """The coordinates, in a fixed order."""

    @property
    def cardinality(self) -> int:
        """How many different networks (digests) there are."""

    def decode(self, params: Params) -> Architecture:
        """Build the architecture that these values of all choices stand for."""

    def encode(self, architecture: Architecture) -> dict[str, Value]:
        """Find the values that stand for this architecture. Raises `InvalidValueError` where it is
        not in the space.
        """


STAGE_FIELDS = ("mid_channels", "out_channels", "num_layers", "num_blocks", "kernel_size")
NETWORK_FIELDS = (
    "stem",
    "stem_mid",
    "stem_out",
    "residual",
    "depthwise",
    "attention",
    "pool_padding",
)


@dataclass(frozen=True, kw_only=True)
class OsaSpace:
    """All OSA networks whose widths, depths and switches are among the given values.

    Per-stage fields hold one tuple of values for each stage, or one tuple of values for all stages
    alike; their choices are named `stage2.mid_channels` and so on, stages counted as in the paper
    (the stem is stage 1). `stem_mid` is the width of the stem's first two convolutions, `stem_out`
    of its third. A field with one value is fixed and no choice.
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
                f"mid_channels must be one tuple of widths for each stage, not {self.mid_channels!r}"
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
        for name, values in self._all.items():
            if not values:
                raise InvalidValueError(f"{name} needs at least one value")
        smallest = {choice.name: choice.values[0] for choice in self.choices}
        self.decode(smallest)
        for choice in self.choices:
            for value in choice.values[1:]:
                self.decode({**smallest, choice.name: value})

    @cached_property
    def _all(self) -> dict[str, tuple[Value, ...]]:
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
        """The coordinates with more than one value."""
        return tuple(
            Choice(name=name, values=values)
            for name, values in self._all.items()
            if len(values) > 1
        )

    def decode(self, params: Params) -> Architecture:
        """Build the architecture with these values. Raises `InvalidValueError` for unknown names or
        values.
        """
        unknown = sorted(set(params) - {choice.name for choice in self.choices})
        if unknown:
            raise InvalidValueError(f"no choice named {', '.join(unknown)} in this space")
        value: dict[str, Any] = {
            name: params.get(name, values[0]) for name, values in self._all.items()
        }
        for name, values in self._all.items():
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
        """Find the values that stand for this architecture. Raises `InvalidValueError` where it is
        not in the space.
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
        for name, values in self._all.items():
            if value[name] not in values:
                raise InvalidValueError(
                    f"{name}={value[name]} is not in this space; it has {', '.join(map(str, values))}"
                )
        return {choice.name: value[choice.name] for choice in self.choices}

    @cached_property
    def cardinality(self) -> int:
        """How many different networks there are, settings without effect merged."""
        switches = ("residual", "attention")
        others = math.prod(
            len(values)
            for name, values in self._all.items()
            if name not in switches and not name.endswith("num_blocks")
        )
        blocks = [values for name, values in self._all.items() if name.endswith("num_blocks")]
        block_settings = math.prod(len(values) for values in blocks)
        single = int(all(1 in values for values in blocks))
        merged = {
            Attention.LAST if value == Attention.ALL else Attention(value)
            for value in self.attention
        }
        with_switches = (block_settings - single) * len(self.residual) * len(self.attention)
        return others * (with_switches + single * len(merged))


def enumerate_params(space: SearchSpace) -> "product[tuple[Value, ...]]":
    """Every combination of values, in the order of `space.choices`; for spaces small enough to
    list.
    """
    return product(*(choice.values for choice in space.choices))
