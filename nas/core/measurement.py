"""Measured figures: what was measured, on which device, how, and how far it can be trusted. SI
units inside.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, Self

from nas.core.errors import InvalidValueError

MAX_IMAGE_SIZE = 4096
"""Pixels of a side that may be asked for: beyond, a few images of a small network take more memory
than there is.
"""


class Kind(StrEnum):
    """Where a figure comes from. Kinds are never mixed on one front."""

    MEASURED = "measured"
    COUNTED = "counted"
    """Exact arithmetic on the architecture: parameters, MACs."""
    MODELLED = "modelled"


class Status(StrEnum):
    """Whether a figure may be used."""

    OK = "ok"
    NOISY = "noisy"
    """The interval did not become as narrow as the plan asks; the value stands with its
    interval.
    """
    CONTENDED = "contended"
    """Something else used the device; there is no value."""
    THROTTLED = "throttled"
    """The device slowed itself down; there is no value."""
    UNAVAILABLE = "unavailable"
    """This machine cannot measure it; `reason` says why and there is no value."""


USABLE_STATUSES = frozenset({Status.OK, Status.NOISY})


class Precision(StrEnum):
    """Number formats of one named profile."""

    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"


@dataclass(frozen=True, kw_only=True)
class Device:
    """The hardware as found.

    `identity` names this one device (GPU UUID, machine id), `device_class` what makes figures
    comparable (model, threads, driver, torch); `details` is everything else worth keeping.
    """

    kind: str
    name: str
    identity: str
    device_class: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MeasurementPlan:
    """The conditions of a measurement. Figures under different plans are different quantities.

    `batch_size` images of `image_size` pixels square; `threads` is the number of CPU threads
    (ignored on a GPU); timing stops once at least `min_blocks` blocks and `min_time_s` seconds are
    in and the 95 % interval's half width is below `max_half_width` of the median, or at
    `max_time_s`, then with status `noisy`.
    """

    batch_size: int = 1
    image_size: int = 32
    precision: Precision = Precision.FP32
    runtime: str = "eager"
    threads: int = 1
    warmup_s: float = 0.3
    block_s: float = 0.02
    min_blocks: int = 10
    min_time_s: float = 0.3
    max_time_s: float = 2.0
    max_half_width: float = 0.02

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", Precision(self.precision))
        for name in ("batch_size", "image_size", "threads", "min_blocks"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                message = f"{name} must be a whole number of at least 1, not {value!r}"
                raise InvalidValueError(message)
        for name in ("warmup_s", "block_s", "min_time_s", "max_time_s", "max_half_width"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                message = f"{name} must be a positive number, not {value!r}"
                raise InvalidValueError(message)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure with its 95 % interval, in the metric's SI unit.

    `value`, `ci_low` and `ci_high` are None exactly where `status` is not usable; then `reason`
    says why. `samples` are the accepted readings, in order; `details` are JSON values that say more
    of how the figure came about (protocol, load before and after, clocks). Raises
    `InvalidValueError` for a value that is not finite.
    """

    metric: str
    unit: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    samples: tuple[float, ...] = ()
    kind: Kind = Kind.MEASURED
    method: str
    status: Status = Status.OK
    reason: str = ""
    device: Device | None = None
    plan: MeasurementPlan | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))
        object.__setattr__(self, "status", Status(self.status))
        object.__setattr__(self, "samples", tuple(self.samples))
        numbers = [
            n for n in (self.value, self.ci_low, self.ci_high, *self.samples) if n is not None
        ]
        if not all(math.isfinite(n) for n in numbers):
            message = f"{self.metric} must be finite, not {numbers!r}"
            raise InvalidValueError(message)
        if (self.value is None) == (self.status in USABLE_STATUSES):
            message = f"{self.metric}: status {self.status} does not go with value {self.value!r}"
            raise InvalidValueError(message)
        if self.value is None and not self.reason:
            message = f"{self.metric}: a figure without a value needs a reason"
            raise InvalidValueError(message)

    @classmethod
    def counted(cls, metric: str, unit: str, value: float) -> Self:
        """A figure that was counted exactly, so its interval is a point."""
        exact = float(value)
        return cls(
            metric=metric,
            unit=unit,
            value=exact,
            ci_low=exact,
            ci_high=exact,
            kind=Kind.COUNTED,
            method="counted",
        )

    @classmethod
    def unavailable(cls, metric: str, unit: str, reason: str, **context: Any) -> Self:
        """A figure this machine cannot give."""
        return cls(
            metric=metric,
            unit=unit,
            value=None,
            method="none",
            status=Status.UNAVAILABLE,
            reason=reason,
            **context,
        )


@cache
def plan_key(plan: MeasurementPlan) -> str:
    """A short stable name of a plan, for keys and file names."""
    return hashlib.sha256(json.dumps(plan.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
