"""Measured figures: the metric, its value with an interval, the device, the conditions, the status.

All values are in SI units.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, Self

from nas.core.checks import require, require_finite, require_whole
from nas.core.errors import InvalidValueError

MAX_IMAGE_SIZE = 4096
"""Largest side of an image in pixels. A few larger images of a small network need more memory than
machines have.
"""


AUTO_RUNTIME = "auto"
"""The runtime of a study that takes the one that people deploy on the device. It is replaced by
the name of that runtime when the study begins, so no figure has it.
"""


NO_CONDITIONS = frozenset({"device", "busy", "busy_wait_s"})
"""Fields of a plan that are no conditions of a figure."""


def figure_name(metric: str, device: str | None) -> str:
    """Return the name of a metric's figures in a study: the metric, with the device that an
    objective names.
    """
    return metric if device is None else f"{metric}@{device}"


def metric_and_device(name: str) -> tuple[str, str | None]:
    """Return metric and device of a `figure_name`."""
    metric, _, device = name.partition("@")
    return metric, device or None


class Kind(StrEnum):
    """The source of a figure. Figures of different kinds never share a front."""

    MEASURED = "measured"
    COUNTED = "counted"
    """Exact arithmetic on the architecture: parameters, MACs."""
    MODELLED = "modelled"


class Status(StrEnum):
    """Usability of a figure."""

    OK = "ok"
    NOISY = "noisy"
    """The interval is wider than the plan allows; value and interval are reported all the same."""
    CONTENDED = "contended"
    """Something else used the device, so that there is no value."""
    THROTTLED = "throttled"
    """The device slowed itself down, so that there is no value."""
    UNAVAILABLE = "unavailable"
    """This machine cannot measure it; `reason` says why, and there is no value."""


USABLE_STATUSES = frozenset({Status.OK, Status.NOISY})
"""Statuses of figures that have a value."""


class Precision(StrEnum):
    """Number formats, each with a fixed set of torch settings."""

    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"


@dataclass(frozen=True, kw_only=True)
class Device:
    """The hardware of a measurement.

    `identity` names this one device (GPU UUID, machine id). Figures of equal `device_class` (model,
    threads, driver, torch) can be compared. `details` holds all other facts worth recording.
    """

    kind: str
    name: str
    identity: str
    device_class: str
    details: Mapping[str, Any] = field(default_factory=dict)


def minor_version(version: str) -> str:
    """Return major and minor number of a version: "2.14" of "2.14.1+cpu"."""
    return ".".join(version.split(".")[:2])


def same_class(recorded: str | None, present: str | None) -> bool:
    """Return whether figures of two device classes can be compared.

    Older records have all numbers of torch's version in a class, of which two count, and lack the
    version of another runtime.
    """
    if recorded is None or present is None:
        return recorded == present
    recorded, present = (
        re.sub(r"\btorch ([^,]+)", lambda torch: f"torch {minor_version(torch[1])}", name)
        for name in (recorded, present)
    )
    return recorded == present or present.startswith(f"{recorded}, ")


class Busy(StrEnum):
    """What becomes of a figure if others still use the device after the longest wait."""

    FAIL = "fail"
    """It has no value, and its trial is measured again later."""
    NOISY = "noisy"
    """It is recorded from all its blocks, as noisy."""
    WAIT = "wait"
    """It is waited for."""


@dataclass(frozen=True, kw_only=True)
class MeasurementPlan:
    """The conditions of a measurement. Figures under different plans are different quantities.

    A batch has `batch_size` images of `image_size` pixels square. `threads` is the number of CPU
    threads, which a GPU ignores. Timing stops after at least `min_blocks` blocks and `min_time_s`
    seconds, as soon as the half width of the 95 % interval is below `max_half_width` of the median.
    It stops at `max_time_s` in any case, then with the status `noisy`.

    `device` is the device that a search measures on: cpu, cuda, or a name in the device book; None
    is the GPU if there is one. A figure has its own device, so this is no condition either.

    `channels_last` is the layout of weights and inputs in PyTorch's runtimes; others choose their
    own. None is the layout that people deploy: channels last in half precision, whose multipliers
    want it on every device, and channels first in float32. A value that is the default becomes
    None, so that equal conditions are equal plans.

    A search measures a contended figure again after pauses, for `busy_wait_s` seconds; then `busy`
    says what becomes of it. Plans that differ in nothing but these three are equal.
    """

    batch_size: int = 1
    image_size: int = 32
    precision: Precision = Precision.FP32
    runtime: str = "eager"
    threads: int = 1
    channels_last: bool | None = None
    warmup_s: float = 0.3
    block_s: float = 0.02
    min_blocks: int = 10
    min_time_s: float = 0.3
    max_time_s: float = 2.0
    max_half_width: float = 0.02
    device: str | None = field(default=None, compare=False)
    busy: Busy = field(default=Busy.FAIL, compare=False)
    busy_wait_s: float = field(default=40.0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", Precision(self.precision))
        object.__setattr__(self, "busy", Busy(self.busy))
        require(
            self.device is None or isinstance(self.device, str),
            f"device must be a name, not {self.device!r}",
        )
        require(
            self.channels_last is None or isinstance(self.channels_last, bool),
            f"channels_last must be true or false, not {self.channels_last!r}",
        )
        if self.channels_last == self._deployed_channels_last:
            object.__setattr__(self, "channels_last", None)
        require_finite(busy_wait_s=self.busy_wait_s)
        require(
            self.busy_wait_s >= 0, f"busy_wait_s must not be negative, not {self.busy_wait_s!r}"
        )
        for name in ("batch_size", "image_size", "threads", "min_blocks"):
            value = getattr(self, name)
            require_whole(**{name: value})
            require(value >= 1, f"{name} must be a whole number of at least 1, not {value!r}")
        for name in ("warmup_s", "block_s", "min_time_s", "max_time_s", "max_half_width"):
            value = getattr(self, name)
            require_finite(**{name: value})
            require(value > 0, f"{name} must be a positive number, not {value!r}")

    @property
    def in_channels_last(self) -> bool:
        """True if weights and inputs have the layout channels last."""
        return self._deployed_channels_last if self.channels_last is None else self.channels_last

    @property
    def _deployed_channels_last(self) -> bool:
        return self.precision in {Precision.FP16, Precision.BF16}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values of the conditions. `channels_last` is there only if it is true:
        older records do not have the key.
        """
        values = json.loads(json.dumps(asdict(self)))
        values["channels_last"] = self.in_channels_last
        return {
            key: value
            for key, value in values.items()
            if key not in NO_CONDITIONS and not (key == "channels_last" and not value)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the plan that `to_dict` wrote."""
        return cls(**{"channels_last": False, **values})


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure with its 95 % interval, in the metric's SI unit.

    `value`, `ci_low` and `ci_high` are None if `status` is not usable, and then `reason` says why.
    `samples` are the accepted readings in order. `details` are JSON values about the way the figure
    was measured (protocol, load before and after, clocks). Raises `InvalidValueError` for a value
    that is not finite.
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
        optional = (self.value, self.ci_low, self.ci_high, *self.samples)
        numbers = [number for number in optional if number is not None]
        if not all(math.isfinite(number) for number in numbers):
            raise InvalidValueError(f"{self.metric} must be finite, not {numbers!r}")
        if (self.value is None) == (self.status in USABLE_STATUSES):
            raise InvalidValueError(
                f"{self.metric}: status {self.status} does not go with value {self.value!r}"
            )
        if self.value is None and not self.reason:
            raise InvalidValueError(f"{self.metric}: a figure without a value needs a reason")

    @property
    def problem(self) -> str:
        """Why there is no value, as in "latency is contended: ..."; empty if there is one."""
        return "" if self.value is not None else f"{self.metric} is {self.status}: {self.reason}"

    @classmethod
    def counted(cls, metric: str, unit: str, value: float) -> Self:
        """Return a figure that was counted exactly, with a point as its interval."""
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
        """Return a figure without a value, which this machine cannot measure."""
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
    """Return a short, stable name of a plan, for keys and file names."""
    return hashlib.sha256(json.dumps(plan.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
