"""The data and the device that a study was prepared with."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from nas.core.study import DataSpec


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The data and the device of a study, found where its trials will run.

    It is recorded when the study begins and fixed from then on.

    `data` is the data that is used, which may be the fallback. `classes` are its names in the order
    of the labels. `mean` and `std` are those of the training pixels per channel, scaled to [0, 1],
    and `image_size` is the side of the images in pixels, to which those of rungs with `image_size:
    auto` are reduced unless `reduced_size` is another side. `numerics` are the number formats of
    training with the timings by which they were chosen. `device` is the measured device. `files`
    are digests of the data's files by part and class, which are computed at every start.
    """

    data: DataSpec
    classes: tuple[str, ...]
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    image_size: int = 32
    reduced_size: int | None = None
    numerics: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    runtime: str = ""
    """The runtime that measures if the study's is `auto`; eager if the evaluator names none."""
    files: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the preparation that `to_dict` wrote."""
        lists = {name: tuple(values[name]) for name in ("classes", "mean", "std", "warnings")}
        return cls(**{**values, **lists, "data": DataSpec(**values["data"])})
