"""What a study asks: space, objectives, training, measurement, budget. Checked when built, SI units
inside.

All that a result depends on stands here and is stored with the study; `budget` and `workers` may
change between two calls of the same study, everything else is its identity.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from nas.core.errors import InvalidValueError
from nas.core.measurement import MeasurementPlan

REMOVED_KEYS: Mapping[str, str] = {
    "scores": "was removed, because zero-cost proxies gained nothing",
}
"""Keys of a study that older versions accepted, each with what became of it.

Records with such a key can be read. A study that was searched with one cannot be resumed.
"""


class Direction(StrEnum):
    """Which way is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


def require(condition: bool, message: str) -> None:
    """Raise `InvalidValueError` with the message unless the condition holds."""
    if not condition:
        raise InvalidValueError(message)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric that the study optimises, in the metric's SI unit.

    `limit` is the worst value that is still feasible; `reference` is this objective's coordinate of
    the hypervolume's reference point, `limit` where it is not given.
    """

    metric: str
    direction: Direction = Direction.MINIMIZE
    limit: float | None = None
    reference: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", Direction(self.direction))
        for name in ("limit", "reference"):
            value = getattr(self, name)
            require(
                value is None or _finite(value), f"{name} must be a finite number, not {value!r}"
            )
        if self.reference is None:
            object.__setattr__(self, "reference", self.limit)

    def loss(self, value: float) -> float:
        """The value turned so that smaller is better."""
        return value if self.direction is Direction.MINIMIZE else -value

    def violation(self, value: float) -> float:
        """How far the value is beyond the limit, as a share of the limit (of 1 where it is 0); 0
        where it is within.
        """
        if self.limit is None:
            return 0.0
        return max(self.loss(value) - self.loss(self.limit), 0.0) / (abs(self.limit) or 1.0)


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where the images come from.

    `dataset` is a name in `nas.datasets`, `folder` the image folder of the data set `folder`;
    `fallback` is the data set to use, loudly, where the first can be neither found nor downloaded.
    `validation_images` of the training images, drawn class by class, judge the trials;
    `train_images` limits how many of the rest are used. `image_size` is the side in pixels that the
    images of `folder` are resized to, 32 where it is not given.
    """

    dataset: str = "cifar10"
    folder: str | None = None
    fallback: str | None = None
    validation_images: int = 5000
    train_images: int | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        require(self.image_size is None or self.folder is not None, "image_size needs a folder")
        require(
            self.image_size is None or 8 <= self.image_size <= 1024,
            f"image_size must be from 8 to 1024 pixels, not {self.image_size}",
        )
        require(
            self.validation_images > 0,
            f"validation_images must be at least 1, not {self.validation_images}",
        )
        require(
            self.train_images is None or self.train_images > 0,
            f"train_images must be at least 1, not {self.train_images}",
        )


class AutoPrecision(StrEnum):
    """Number formats of training; `auto` takes the fastest on the device, measured once per
    study.
    """

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """The recipe of brief training: SGD with Nesterov momentum, one learning-rate cycle that ends
    at zero with the rung, no weight decay on BatchNorm and biases.

    `translate` is the largest shift in pixels of a random crop with reflected borders, `cutout` the
    side of the erased square (0: off), `warmup` the share of the cycle in which the learning rate
    rises.

    Batch size and learning rate were measured on CIFAR-10 (JPEG copies, one seed, 5,000 validation
    images), as validation error of batches of 64 at 0.4 / of 128 at the best rate tried / of 128 at
    0.2: half an epoch of 5 MMACs 42.3 / 43.7 (0.6) / 48.7 %, of 24 MMACs 38.7 / 43.9 (0.6) / 44.6
    %; two epochs of 5 MMACs 30.7 / - / 34.2 %. The other settings made less than one and a half
    points of difference at half an epoch, too little to tell by one seed.
    """

    batch_size: int = 64
    learning_rate: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warmup: float = 0.25
    flip: bool = True
    translate: int = 2
    cutout: int = 0
    precision: AutoPrecision = AutoPrecision.AUTO
    channels_last: bool | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", AutoPrecision(self.precision))
        require(self.batch_size > 0, f"batch_size must be at least 1, not {self.batch_size}")
        require(
            _finite(self.learning_rate) and self.learning_rate > 0,
            f"learning_rate must be positive, not {self.learning_rate}",
        )
        require(0 <= self.momentum < 1, f"momentum must be in [0, 1), not {self.momentum}")
        require(
            _finite(self.weight_decay) and self.weight_decay >= 0,
            f"weight_decay must not be negative, not {self.weight_decay}",
        )
        require(
            0 <= self.label_smoothing < 1,
            f"label_smoothing must be in [0, 1), not {self.label_smoothing}",
        )
        require(0 < self.warmup < 1, f"warmup must be in (0, 1), not {self.warmup}")
        require(
            0 <= self.translate <= 16, f"translate must be 0 to 16 pixels, not {self.translate}"
        )
        require(self.cutout >= 0, f"cutout must not be negative, not {self.cutout}")


@dataclass(frozen=True, kw_only=True)
class RungSpec:
    """The numbers of epochs at which a trial is judged, increasing, fractions allowed.

    `keep`: at every rung but the last, a trial goes on where its non-dominated rank puts it in this
    share of the trials that reached the rung; None (the default) stops nobody. The rule needs
    `min_trials` trials at the rung. `futility` stops a trial whose final error, even if it became
    better than nearly all such predictions did, would be dominated (`nas.core.stopping.Futility`).
    Either lets one trial in ten run through, so that it can be judged itself.
    """

    epochs: tuple[float, ...] = (1.0,)
    keep: float | None = None
    min_trials: int = 4
    futility: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", tuple(float(value) for value in self.epochs))
        require(
            len(self.epochs) > 0
            and self.epochs[0] > 0
            and list(self.epochs) == sorted(set(self.epochs)),
            f"epochs must be positive and increasing, not {list(self.epochs)}",
        )
        require(self.keep is None or 0 < self.keep <= 1, f"keep must be in (0, 1], not {self.keep}")
        require(self.min_trials > 0, f"min_trials must be at least 1, not {self.min_trials}")


DEFAULT_FRESH_SHARE, MIN_TRIALS_FOR_FRESH = 0.1, 20
"""The share of a budget that fresh seeds have where nothing is said, and from how many trials
on.
"""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When no new trial may start; trials that run go on to their ends. All calls of the study
    count together.

    `trials` are different architectures, without those that were beyond a limit before any
    training; with them at most `proposals`, 20 times `trials` where not given, so that a search
    ends where little or nothing is feasible. `epochs` are of all trials together, `device_s`
    seconds of measuring, training and validating on all workers together, `energy_j` joules drawn
    meanwhile, `wall_time_s` seconds of searching.

    `certify`: in the end `nas search` measures the members of the front again together, in turns
    with a reference network, which takes half a minute or more for each. None: where latency is an
    objective.

    `fresh` is the share of all this that the search leaves for fresh seeds: then the members of the
    front are trained again, so that the hypervolume can be told without the luck that it was chosen
    by. None: a tenth, where an objective needs training and `trials` are at least 20, of which two
    are left.
    """

    trials: int = 100
    wall_time_s: float | None = None
    proposals: int | None = None
    epochs: float | None = None
    device_s: float | None = None
    energy_j: float | None = None
    certify: bool | None = None
    fresh: float | None = None

    def __post_init__(self) -> None:
        require(self.trials > 0, f"trials must be at least 1, not {self.trials}")
        require(
            self.proposals is None or self.proposals >= self.trials,
            f"proposals must be at least trials, {self.trials}, not {self.proposals}",
        )
        for name in ("wall_time_s", "epochs", "device_s", "energy_j"):
            value = getattr(self, name)
            require(
                value is None or (_finite(value) and value > 0),
                f"{name} must be positive, not {value}",
            )
        require(
            self.fresh is None or 0 <= self.fresh <= 0.5,
            f"fresh must be from 0 to 0.5, not {self.fresh}",
        )

    def share(self, part: float) -> Self:
        """So much of it; of trials one at least."""
        limits: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value * part
            for name in ("wall_time_s", "epochs", "device_s", "energy_j")
        }
        return replace(self, trials=max(round(self.trials * part), 1), **limits)

    @property
    def max_proposals(self) -> int:
        """`proposals`, or what it is where it is not given."""
        return 20 * self.trials if self.proposals is None else self.proposals


@dataclass(frozen=True, kw_only=True)
class WorkersSpec:
    """Who works: a name in `nas.workers`, how many at once, and what each one gets.

    A `local` worker is the process of the search itself, so there is one. `cpus` is also the number
    of threads a worker trains with; `gpus` may be a fraction. A trial whose worker died is tried
    again `retries` times, from its last rung.
    """

    kind: str = "local"
    count: int = 1
    cpus: int = 1
    gpus: float = 0.0
    retries: int = 2

    def __post_init__(self) -> None:
        require(self.count > 0, f"count must be at least 1, not {self.count}")
        require(self.cpus > 0, f"cpus must be at least 1, not {self.cpus}")
        require(
            _finite(self.gpus) and self.gpus >= 0, f"gpus must not be negative, not {self.gpus}"
        )
        require(self.retries >= 0, f"retries must not be negative, not {self.retries}")

    def of_kind(self, kind: str) -> Self:
        """The same by workers of another kind."""
        return replace(self, kind=kind, count=1 if kind == "local" else self.count)


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One study. `space` and `sampler` are names of plugins or `module:attribute`."""

    name: str
    space: str
    objectives: tuple[Objective, ...]
    sampler: str = "known-cost"
    seed: int = 0
    rungs: RungSpec = field(default_factory=RungSpec)
    data: DataSpec = field(default_factory=DataSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    measurement: MeasurementPlan = field(default_factory=MeasurementPlan)
    budget: Budget = field(default_factory=Budget)
    workers: WorkersSpec = field(default_factory=WorkersSpec)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objectives", tuple(self.objectives))
        require(
            bool(self.name)
            and self.name.isprintable()
            and "/" not in self.name
            and ":" not in self.name,
            f"name must be printable text without '/' and ':', not {self.name!r}",
        )
        metrics = [objective.metric for objective in self.objectives]
        require(len(metrics) > 0, "objectives must name at least one metric")
        require(
            len(set(metrics)) == len(metrics),
            f"objectives must name each metric once, not {metrics}",
        )
        require(
            not {"energy", "modelled_energy"} <= set(metrics),
            "objectives must not name both energy, which is "
            "measured, and modelled_energy: no front holds the two",
        )
        minimized = [o.metric for o in self.objectives if o.direction is Direction.MINIMIZE]
        require(
            not self.rungs.futility or "error" in minimized,
            "rungs.futility needs the objective error, minimized",
        )
        require(
            not self.budget.certify or "latency" in metrics,
            "budget.certify needs the objective latency",
        )
        require(0 <= self.seed < 2**31, f"seed must be from 0 to 2**31 - 1, not {self.seed}")

    @property
    def needs_training(self) -> bool:
        """Whether an objective can only be had by training."""
        return any(objective.metric == "error" for objective in self.objectives)

    @property
    def certifies(self) -> bool:
        """Whether the members of the front are measured again together in the end."""
        asked = self.budget.certify
        return (
            any(objective.metric == "latency" for objective in self.objectives)
            if asked is None
            else asked
        )

    @property
    def fresh(self) -> float:
        """The share of the budget that is left for fresh seeds of the front's members."""
        asked = self.budget.fresh
        return (
            asked
            if asked is not None
            else DEFAULT_FRESH_SHARE
            if self.needs_training and self.budget.trials >= MIN_TRIALS_FOR_FRESH
            else 0.0
        )

    @property
    def search_budget(self) -> Budget:
        """What the search may spend."""
        return self.budget.share(1 - self.fresh)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "StudySpec":
        """Return the study that `to_dict` wrote, without keys that were removed since."""
        parts = {key: value for key, value in values.items() if key not in REMOVED_KEYS}
        parts["objectives"] = tuple(Objective(**objective) for objective in parts["objectives"])
        kinds = {
            "rungs": RungSpec,
            "data": DataSpec,
            "training": TrainingSpec,
            "measurement": MeasurementPlan,
            "budget": Budget,
            "workers": WorkersSpec,
        }
        for name, kind in kinds.items():
            parts[name] = kind(**parts[name])
        return StudySpec(**parts)

    def identity(self) -> dict[str, Any]:
        """What results depend on: all but budget and workers."""
        values = self.to_dict()
        del values["budget"], values["workers"]
        return values
