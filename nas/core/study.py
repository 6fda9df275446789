"""The settings of a study: space, objectives, training, measurement, budget, workers.

They are checked when they are built, and are in SI units. Everything on which a result depends is
here and is stored with the study. `baselines`, `first`, `budget` and `workers` may change between
two runs of the same study; everything else is its identity.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from nas.core import plugins
from nas.core.checks import make_floats, require, require_finite, require_whole
from nas.core.errors import InvalidValueError
from nas.core.measurement import MeasurementPlan, figure_name

REMOVED_KEYS: Mapping[str, str] = {
    "scores": "was removed, because zero-cost proxies gained nothing",
    "stopping.keep": "was removed, because it stopped members of the front; futility stopped none",
    "stopping.min_trials": "was removed together with stopping.keep",
}
"""Keys of a study that older versions accepted, each with what became of it.

Records with such a key can be read. A study that was searched with one cannot be resumed.
"""


def removed_keys(values: Mapping[str, Any]) -> list[str]:
    """Return the removed keys that a study was searched with; `values` are those of its record."""
    rungs = values["rungs"]
    rules = rungs if isinstance(rungs, Mapping) else values.get("stopping", {})
    used = {"scores": values.get("scores"), "stopping.keep": rules.get("keep")}
    return [key for key, value in used.items() if value]


class Direction(StrEnum):
    """Direction in which values of a metric become better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True, kw_only=True)
class TrainedMetric:
    """A figure that training gives at every rung, as an evaluator declares it.

    Values are in the SI unit `unit` ("1" for counts and shares), from `low` to `high`; None stands
    for no bound. `direction` says which values are better.
    """

    name: str
    unit: str = "1"
    direction: Direction = Direction.MINIMIZE
    low: float | None = 0.0
    high: float | None = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", Direction(self.direction))
        require(self.name.isidentifier(), f"a metric's name must be a word, not {self.name!r}")
        require_finite(optional=True, low=self.low, high=self.high)
        require(
            self.low is None or self.high is None or self.low < self.high,
            f"{self.name}: low must be less than high, not {self.low} and {self.high}",
        )

    @property
    def best(self) -> float | None:
        """The best possible value, None if there is no bound."""
        return self.low if self.direction is Direction.MINIMIZE else self.high

    @property
    def is_share(self) -> bool:
        """True if the values are shares, which are shown in per cent."""
        return self.unit == "1" and (self.low, self.high) == (0.0, 1.0)

    def shortfall(self, value: float) -> float:
        """Return the distance to the best value, whose logarithm is modelled.

        It is the error itself for an error, and 1 - AP for an average precision.
        """
        return abs(value - (self.best or 0.0))

    def clip(self, value: float) -> float:
        """Return the nearest possible value."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return min(max(value, low), high)

    def problem(self, value: float) -> str:
        """Return what is wrong with a value, or an empty string."""
        if math.isfinite(value) and self.clip(value) == value:
            return ""
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{self.name} must be from {low} to {high}, not {value!r}"


ERROR = TrainedMetric(name="error")
"""Share of wrong answers. It is the only trained metric of records that name none."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric that the study optimises, in the metric's SI unit.

    `device` is the device on which it is measured, as `MeasurementPlan.device`; None is the device
    of the study's plan. `limit` is the worst value that is still feasible. `reference` is this
    objective's coordinate of the hypervolume's reference point; by default it is the limit.
    """

    metric: str
    direction: Direction = Direction.MINIMIZE
    limit: float | None = None
    reference: float | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", Direction(self.direction))
        require(
            self.device is None or (isinstance(self.device, str) and bool(self.device)),
            f"device must be a name, not {self.device!r}",
        )
        require_finite(optional=True, limit=self.limit, reference=self.reference)
        if self.reference is None:
            object.__setattr__(self, "reference", self.limit)

    @property
    def key(self) -> str:
        """The name of its figures: the metric, or `METRIC@DEVICE` if it names a device."""
        return figure_name(self.metric, self.device)

    def loss(self, value: float) -> float:
        """Return the value, negated if larger is better, so that smaller is better."""
        return value if self.direction is Direction.MINIMIZE else -value

    def violation(self, value: float) -> float:
        """Return how far the value is over the limit, as a share of the limit.

        The share is one of 1 if the limit is 0. A value within the limit gives 0.
        """
        if self.limit is None:
            return 0.0
        return max(self.loss(value) - self.loss(self.limit), 0.0) / (abs(self.limit) or 1.0)


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The source of the images.

    `dataset` is a name in `nas.datasets`, and `folder` the image folder of the data set `folder`.
    `fallback` is the data set to use if the first can be neither found nor downloaded; a warning
    says so. `validation_images` of the training images, drawn class by class, validate the trials.
    `train_images` limits how many of the others are used. `image_size` is the side in pixels to
    which images of `folder` are resized, by default 32.
    """

    dataset: str = "cifar10"
    folder: str | None = None
    fallback: str | None = None
    validation_images: int = 5000
    train_images: int | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        require_whole(validation_images=self.validation_images)
        require_whole(optional=True, train_images=self.train_images, image_size=self.image_size)
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


class AutoSize(StrEnum):
    """The side of reduced images that osa-nas chooses."""

    AUTO = "auto"


class AutoPrecision(StrEnum):
    """Number formats of training.

    `auto` takes the fastest one on the device, measured once per study.
    """

    AUTO = "auto"
    FP32 = "fp32"
    TF32 = "tf32"
    """fp32 with TF32 in convolutions, on NVIDIA GPUs only."""
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """The recipe of brief training.

    It is SGD with Nesterov momentum and one learning-rate cycle that ends at zero with the rung,
    without weight decay on BatchNorm and biases. `translate` is the largest shift in pixels of a
    random crop with reflected borders, `cutout` the side of the erased square (0: off), and
    `warmup` the share of the cycle in which the learning rate rises.

    Batch size and learning rate were measured on CIFAR-10 (JPEG copies, one seed, 5,000 validation
    images). The validation errors of batches of 64 at 0.4 / of 128 at the best rate tried / of 128
    at 0.2 were: half an epoch of 5 MMACs 42.3 / 43.7 (0.6) / 48.7 %, of 24 MMACs 38.7 / 43.9 (0.6)
    / 44.6 %; two epochs of 5 MMACs 30.7 / - / 34.2 %. The other settings made less than one and a
    half points of difference at half an epoch, too little for one seed to show.
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
        require_whole(batch_size=self.batch_size, translate=self.translate, cutout=self.cutout)
        make_floats(self, "learning_rate", "momentum", "weight_decay", "label_smoothing", "warmup")
        require(self.batch_size > 0, f"batch_size must be at least 1, not {self.batch_size}")
        require(self.learning_rate > 0, f"learning_rate must be positive, not {self.learning_rate}")
        require(0 <= self.momentum < 1, f"momentum must be in [0, 1), not {self.momentum}")
        require(
            self.weight_decay >= 0, f"weight_decay must not be negative, not {self.weight_decay}"
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

    def check_side(self, side: int) -> None:
        """Raise `InvalidValueError` unless shifts are smaller than images of `side` pixels."""
        require(
            self.translate < side,
            f"training.translate must be less than the {side} pixels of the images, not "
            f"{self.translate}",
        )


@dataclass(frozen=True, kw_only=True)
class RungSpec:
    """A point of a brief training at which the trial is judged.

    Exactly one of `epochs` (fractions allowed), `steps` and `images` says where: how much the
    training has done in all when it reaches the rung. `images` are counted in whole batches.

    `image_size` is the side in pixels to which the images are reduced for the training up to this
    rung and for judging at it; None, or more pixels than the images have, leaves them as they are.
    `auto` is half of the images' side, or the next larger one that the networks take; it is
    replaced by pixels when a study begins. On CIFAR-10, 0.6 epochs of 16 pixels rank networks far
    better than 0.15 epochs of 32 pixels in the same time (Kendall's tau with a long training .67
    and .22, 24 networks).
    """

    epochs: float | None = None
    steps: int | None = None
    images: int | None = None
    image_size: int | AutoSize | None = None

    def __post_init__(self) -> None:
        if isinstance(self.image_size, str):
            object.__setattr__(self, "image_size", AutoSize(self.image_size))
        given = [name for name in RUNG_UNITS if getattr(self, name) is not None]
        require(
            len(given) == 1, f"a rung needs one of {', '.join(RUNG_UNITS)}, not {given or 'none'}"
        )
        make_floats(self, "epochs", optional=True)
        require_whole(optional=True, steps=self.steps, images=self.images)
        require(self.amount > 0, f"{self.unit} must be positive, not {self.amount}")
        if not isinstance(self.image_size, AutoSize):
            require_whole(optional=True, image_size=self.image_size)
            require(
                self.image_size is None or 4 <= self.image_size <= 1024,
                f"image_size must be from 4 to 1024 pixels, not {self.image_size}",
            )

    @property
    def unit(self) -> str:
        """The unit of the rung: epochs, steps or images."""
        return next(name for name in RUNG_UNITS if getattr(self, name) is not None)

    @property
    def amount(self) -> float:
        """The number of epochs, steps or images before the rung."""
        return float(getattr(self, self.unit))

    def side(self, full: int) -> int:
        """Return the side in pixels, at this rung, of images of `full` pixels.

        Raises `InvalidValueError` for `auto`: `with_side` replaces it first.
        """
        if isinstance(self.image_size, AutoSize):
            raise InvalidValueError("image_size: auto is replaced by pixels when a study begins")
        return min(self.image_size or full, full)

    def with_side(self, side: int | AutoSize | None) -> "RungSpec":
        """Return the rung with images of `side` pixels in place of `auto`, if that is a number."""
        automatic = isinstance(self.image_size, AutoSize) and isinstance(side, int)
        return replace(self, image_size=side) if automatic else self

    def epochs_of(self, train_images: int, batch_size: int) -> float:
        """Return the rung in epochs of this many training images, in whole batches."""
        if self.epochs is not None:
            return self.epochs
        batch = min(batch_size, train_images)
        steps = self.steps if self.steps is not None else max(round(self.amount / batch), 1)
        return steps / (train_images // batch)

    def __str__(self) -> str:
        if isinstance(self.image_size, AutoSize):
            size = " of reduced images"
        else:
            size = "" if self.image_size is None else f" of {self.image_size} pixels"
        return f"{self.amount:,g} {self.unit}{size}"


RUNG_UNITS = ("epochs", "steps", "images")


def rungs_at(*epochs: float) -> tuple[RungSpec, ...]:
    """Return rungs at these numbers of epochs."""
    return tuple(RungSpec(epochs=value) for value in epochs)


DEFAULT_RUNGS = (RungSpec(epochs=1.0, image_size=AutoSize.AUTO),)
"""The rungs of a study that names none."""


def check_rungs(rungs: Sequence[RungSpec]) -> None:
    """Raise `InvalidValueError` unless the rungs of a study have one unit and increase."""
    units = sorted({rung.unit for rung in rungs})
    amounts = [rung.amount for rung in rungs]
    require(len(rungs) > 0, "rungs must be at least one")
    require(len(units) == 1, f"rungs must be counted in one unit, not in {' and '.join(units)}")
    require(
        amounts == sorted(set(amounts)),
        f"rungs must be increasing, not {', '.join(f'{amount:g}' for amount in amounts)}",
    )


@dataclass(frozen=True, kw_only=True)
class StoppingSpec:
    """The rule that ends a trial at a rung before the last one.

    `futility` stops a trial whose final error, even if it became better than nearly all such
    predictions did, would be dominated (`nas.core.stopping.Futility`). One trial in ten, chosen by
    its seed, is exempt, so that the rule can be judged.
    """

    futility: bool = False


def from_rung_mapping(rungs: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return `rungs` and `stopping` for the older form of a study, one mapping with a list of
    epochs: `{epochs: [1, 3], futility: true}`.
    """
    stopping = {key: value for key, value in rungs.items() if key != "epochs"}
    return [{"epochs": float(value)} for value in rungs.get("epochs", [1.0])], stopping


DEFAULT_FRESH_SHARE = 0.1
"""Share of the budget that is reserved for new seeds by default."""
MIN_TRIALS_FOR_FRESH = 20
"""Smallest number of trials with which a share is reserved by default."""
PROPOSALS_PER_TRIAL = 20
"""Largest number of proposals for each trial by default."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits after which no new trial starts.

    At a limit other than `trials` and `proposals`, running trials stop at their next rung. They
    resume there if the limit is raised.

    All runs of a study count together. `trials` are different architectures, without those that
    were over a limit before any training. With them there are at most `proposals`, by default 20
    times `trials`, so that a search ends even if few architectures or none are feasible. `epochs`
    are those of all trials together. `device_s` are seconds of measuring, training and validating
    on all workers together, and `energy_j` is the energy drawn meanwhile. `wall_time_s` are seconds
    of searching.

    `certify` makes `nas search` measure the front members again at the end, together and
    interleaved with a reference network, which takes half a minute or more for each. The default,
    None, does so if latency is an objective.

    `fresh` is the share of every budget reserved for retraining front members with new seeds, so
    that their hypervolume can be reported without selection bias. The default, None, is a tenth if
    an objective needs training and there are at least 20 `trials` (of 20 trials, two are reserved).

    `patience` ends the search once this number of trained networks added no more hypervolume than
    noise explains. The default, None, never does.
    """

    trials: int = 100
    wall_time_s: float | None = None
    proposals: int | None = None
    epochs: float | None = None
    device_s: float | None = None
    energy_j: float | None = None
    certify: bool | None = None
    fresh: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        require_whole(trials=self.trials)
        require_whole(optional=True, proposals=self.proposals, patience=self.patience)
        require(
            self.patience is None or self.patience >= 1,
            f"patience must be at least 1, not {self.patience}",
        )
        require_finite(
            optional=True,
            wall_time_s=self.wall_time_s,
            epochs=self.epochs,
            device_s=self.device_s,
            energy_j=self.energy_j,
            fresh=self.fresh,
        )
        require(self.trials > 0, f"trials must be at least 1, not {self.trials}")
        require(
            self.proposals is None or self.proposals >= self.trials,
            f"proposals must be at least trials, {self.trials}, not {self.proposals}",
        )
        for name in ("wall_time_s", "epochs", "device_s", "energy_j"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} must be positive, not {value}")
        require(
            self.fresh is None or 0 <= self.fresh <= 0.5,
            f"fresh must be from 0 to 0.5, not {self.fresh}",
        )

    def share(self, part: float) -> Self:
        """Return this part of the budget, with at least one trial."""
        limits: dict[str, Any] = {}
        for name in ("wall_time_s", "epochs", "device_s", "energy_j"):
            limit = getattr(self, name)
            if limit is not None:
                limits[name] = limit * part
        return replace(self, trials=max(round(self.trials * part), 1), **limits)

    @property
    def max_proposals(self) -> int:
        """`proposals`, or its default."""
        if self.proposals is None:
            return PROPOSALS_PER_TRIAL * self.trials
        return self.proposals


@dataclass(frozen=True, kw_only=True)
class WorkersSpec:
    """The workers: a name in `nas.workers`, their number, and the resources of each.

    A `local` worker is the process of the search itself, so that there is only one. `cpus` is also
    the number of threads with which a worker trains; `gpus` may be a fraction. A trial whose worker
    died is tried again `retries` times, from its last rung.
    """

    kind: str = "local"
    count: int = 1
    cpus: int = 1
    gpus: float = 0.0
    retries: int = 2

    def __post_init__(self) -> None:
        require_whole(count=self.count, cpus=self.cpus, retries=self.retries)
        require_finite(gpus=self.gpus)
        require(self.count > 0, f"count must be at least 1, not {self.count}")
        require(self.cpus > 0, f"cpus must be at least 1, not {self.cpus}")
        require(self.gpus >= 0, f"gpus must not be negative, not {self.gpus}")
        require(self.retries >= 0, f"retries must not be negative, not {self.retries}")

    def of_kind(self, kind: str) -> Self:
        """Return the same with workers of another kind."""
        return replace(self, kind=kind, count=1 if kind == "local" else self.count)


PARTS: Mapping[str, type] = {
    "stopping": StoppingSpec,
    "data": DataSpec,
    "training": TrainingSpec,
    "measurement": MeasurementPlan,
    "budget": Budget,
    "workers": WorkersSpec,
}
"""Keys of a study that hold a mapping, and the dataclass of each."""


CHANGEABLE = frozenset({"baselines", "first", "budget", "workers", "trained"})
"""Keys of a study that are no part of its identity."""


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One study. `space`, `sampler` and `evaluator` are names of plugins or `module:attribute`.

    `baselines` name networks that are measured and trained as the trials are, beside the search.
    `first` are start networks, by name or by params, which are tried before the sampler is asked.
    `evaluator_settings` are the evaluator's own, as plain JSON values (`EvaluatorPlugin.settings`).

    `trained` are the metrics that training gives. By default they are those of the evaluator, which
    is loaded to find them; a study file does not have this key.
    """

    name: str
    space: str
    objectives: tuple[Objective, ...]
    sampler: str = "known-cost"
    evaluator: str = "classification"
    evaluator_settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    rungs: tuple[RungSpec, ...] = DEFAULT_RUNGS
    stopping: StoppingSpec = field(default_factory=StoppingSpec)
    data: DataSpec = field(default_factory=DataSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    measurement: MeasurementPlan = field(default_factory=MeasurementPlan)
    budget: Budget = field(default_factory=Budget)
    workers: WorkersSpec = field(default_factory=WorkersSpec)
    baselines: tuple[str, ...] = ()
    first: tuple[str | Mapping[str, int | float | str | bool], ...] = ()
    trained: tuple[TrainedMetric, ...] | None = None

    def __post_init__(self) -> None:
        if self.trained is None:
            evaluator = plugins.load("nas.evaluators", self.evaluator)
            object.__setattr__(self, "trained", tuple(evaluator.trained))
        object.__setattr__(self, "objectives", tuple(self.objectives))
        object.__setattr__(self, "rungs", tuple(self.rungs))
        object.__setattr__(self, "baselines", tuple(self.baselines))
        object.__setattr__(self, "first", tuple(self.first))
        check_rungs(self.rungs)
        require(
            bool(self.name)
            and self.name.isprintable()
            and "/" not in self.name
            and ":" not in self.name,
            f"name must be printable text without '/' and ':', not {self.name!r}",
        )
        metrics = [objective.metric for objective in self.objectives]
        require(len(metrics) > 0, "objectives must name at least one metric")
        measured_on = [(o.metric, o.device or self.measurement.device) for o in self.objectives]
        require(
            len(set(measured_on)) == len(metrics),
            "objectives must name each metric once, or once for each device, not "
            f"{[objective.key for objective in self.objectives]}",
        )
        without = [o.key for o in self.objectives if o.reference is None]
        require(
            self.budget.patience is None or not without,
            "budget.patience compares hypervolumes, so every objective needs a reference or a "
            f"limit; {', '.join(without)} has none",
        )
        require(
            self.budget.patience is None or self.evaluator == "classification",
            "budget.patience compares gains with the noise of errors on the validation images, "
            f"which the evaluator {self.evaluator} does not give",
        )
        on_devices = [o for o in self.trained_objectives if o.device is not None]
        require(
            not on_devices,
            f"training gives {', '.join(o.metric for o in on_devices)}, which has no device",
        )
        require(
            len(set(self.baselines)) == len(self.baselines),
            f"baselines must name each network once, not {list(self.baselines)}",
        )
        require(
            not {"energy", "modelled_energy"} <= set(metrics),
            "objectives must not name both energy, which is "
            "measured, and modelled_energy: no front holds the two",
        )
        require(
            not self.stopping.futility
            or (self.modelled is not None and len(self.trained_objectives) == 1),
            "stopping.futility needs exactly one trained objective, such as error, minimized",
        )
        require(
            not self.budget.certify or "latency" in metrics,
            "budget.certify needs the objective latency",
        )
        require(0 <= self.seed < 2**31, f"seed must be from 0 to 2**31 - 1, not {self.seed}")

    @property
    def needs_training(self) -> bool:
        """True if an objective needs training."""
        return bool(self.trained_objectives)

    @property
    def trained_metrics(self) -> Mapping[str, TrainedMetric]:
        """The metrics that training gives, by name."""
        return {metric.name: metric for metric in self.trained or ()}

    @property
    def trained_objectives(self) -> tuple[Objective, ...]:
        """The objectives that training gives."""
        trained = self.trained_metrics
        return tuple(o for o in self.objectives if o.metric in trained)

    @property
    def measured_objectives(self) -> tuple[Objective, ...]:
        """The objectives that are measured or counted, before any training."""
        trained = self.trained_metrics
        return tuple(o for o in self.objectives if o.metric not in trained)

    @property
    def devices(self) -> tuple[str | None, ...]:
        """The devices that objectives name, each once and in their order; None is the plan's."""
        return tuple(dict.fromkeys(o.device for o in self.measured_objectives))

    @property
    def devices_elsewhere(self) -> tuple[str, ...]:
        """The devices of the device book that measure for this study."""
        named = [device or self.measurement.device for device in self.devices]
        here = plugins.names("nas.meters")
        return tuple(name for name in named if name and name not in here and ":" not in name)

    @property
    def measured_ahead(self) -> int:
        """How many trials are measured elsewhere while all workers train others."""
        return len(self.devices_elsewhere) if self.needs_training else 0

    @property
    def quality_metrics(self) -> tuple[TrainedMetric, ...]:
        """The trained metrics by which networks are compared: those of the objectives, or the
        evaluator's first one if no objective is trained.
        """
        trained = self.trained_metrics
        named = tuple(trained[objective.metric] for objective in self.trained_objectives)
        return named or tuple(trained.values())[:1]

    @property
    def modelled(self) -> TrainedMetric | None:
        """The metric whose shortfall rules and samplers model (`modelled_metric`)."""
        return modelled_metric(self.objectives, self.trained_metrics)

    @property
    def reference_box(self) -> float | None:
        """The largest hypervolume that is possible, in the objectives' units.

        It is the volume between the best possible figures and the references. The best possible
        figure of a cost is 0. None if a reference or a best possible figure is missing.
        """
        box = 1.0
        for objective in self.objectives:
            trained = self.trained_metrics.get(objective.metric)
            best = trained.best if trained else 0.0
            if objective.reference is None or best is None:
                return None
            box *= max(objective.loss(objective.reference) - objective.loss(best), 0.0)
        return box or None

    def is_share(self, metric: str) -> bool:
        """Return whether values of this metric are shares, which are shown in per cent."""
        trained = self.trained_metrics.get(metric)
        return trained is not None and trained.is_share

    def rung_problem(self, metrics: Mapping[str, float]) -> str:
        """Return what is wrong with the figures that training gave, or an empty string.

        Every trained objective needs a value, and a value must be within the metric's bounds.
        """
        missing = [o.metric for o in self.trained_objectives if o.metric not in metrics]
        if missing:
            return f"training gave no {', '.join(missing)}"
        trained = self.trained_metrics
        problems = [trained[name].problem(v) for name, v in metrics.items() if name in trained]
        return "; ".join(filter(None, problems))

    def trained_size(self, image_size: int) -> int:
        """Return the side in pixels of the images at the last rung, of images of this size."""
        return self.rungs[-1].side(image_size)

    @property
    def certifies(self) -> bool:
        """True if the front members are measured again together at the end."""
        if self.budget.certify is not None:
            return self.budget.certify
        return any(objective.metric == "latency" for objective in self.objectives)

    @property
    def fresh(self) -> float:
        """The share of the budget that is reserved for new seeds of the front members."""
        if self.budget.fresh is not None:
            return self.budget.fresh
        if self.needs_training and self.budget.trials >= MIN_TRIALS_FOR_FRESH:
            return DEFAULT_FRESH_SHARE
        return 0.0

    @property
    def search_budget(self) -> Budget:
        """The budget of the search, without the share for new seeds."""
        return self.budget.share(1 - self.fresh)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values. An objective has the key `device` only if it names one: older
        records do not have it.
        """
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for objective in values["objectives"]:
            if objective["device"] is None:
                del objective["device"]
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "StudySpec":
        """Return the study that `to_dict` wrote, without keys that were removed since."""
        parts = {key: value for key, value in values.items() if key not in REMOVED_KEYS}
        parts["objectives"] = tuple(Objective(**objective) for objective in parts["objectives"])
        trained = parts.get("trained")
        parts["trained"] = (
            (ERROR,) if trained is None else tuple(TrainedMetric(**each) for each in trained)
        )
        if isinstance(parts["rungs"], Mapping):
            parts["rungs"], parts["stopping"] = from_rung_mapping(parts["rungs"])
        rules = parts["stopping"].items()
        parts["stopping"] = {key: v for key, v in rules if f"stopping.{key}" not in REMOVED_KEYS}
        parts["rungs"] = tuple(RungSpec(**rung) for rung in parts["rungs"])
        for name, kind in PARTS.items():
            parts[name] = kind(**parts[name])
        parts["measurement"] = MeasurementPlan.from_dict(values["measurement"])
        return StudySpec(**parts)

    def identity(self) -> dict[str, Any]:
        """Return the settings on which results depend: all except those in `CHANGEABLE`.

        The trained metrics follow from the evaluator.
        """
        values = self.to_dict()
        return {key: value for key, value in values.items() if key not in CHANGEABLE}


def modelled_metric(
    objectives: Sequence[Objective], trained: Mapping[str, TrainedMetric]
) -> TrainedMetric | None:
    """Return the first trained objective's metric.

    Returns None if no objective is trained, if the metric has no best value, or if the study
    optimises it in the other direction.
    """
    for objective in objectives:
        metric = trained.get(objective.metric)
        if metric is not None:
            fits = metric.best is not None and objective.direction is metric.direction
            return metric if fits else None
    return None
