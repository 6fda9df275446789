"""Trials of a study and their evaluations. States move by one table and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError
from nas.core.measurement import Measurement, Status, figure_name, metric_and_device
from nas.core.search_space import Params
from nas.core.study import Objective

MAX_TRIALS = 2**31 - 1
"""Largest number of trials in a study (the column is a signed 32-bit integer)."""


class TrialState(StrEnum):
    """State of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    """Every objective has a value; the trial may still be infeasible."""
    STOPPED = "stopped"
    """Ended early on purpose: over a limit, skipped before training, or stopped at a rung."""
    FAILED = "failed"


CERTIFIED_METRICS: Mapping[str, str] = {
    "latency": "certified_latency",
    "energy": "certified_energy",
}
"""Names of the figures that were measured together for all members of a front, by metric. They are
recorded beside the screened figures.
"""


def certified_name(name: str) -> str | None:
    """Return the name of the certified figure beside this one, None if there is no such figure."""
    metric, device = metric_and_device(name)
    certified = CERTIFIED_METRICS.get(metric)
    return None if certified is None else figure_name(certified, device)


def is_certified(name: str) -> bool:
    """Return whether this is the name of a certified figure."""
    return metric_and_device(name)[0] in CERTIFIED_METRICS.values()


MOVES: Mapping[TrialState, frozenset[TrialState]] = {
    TrialState.RUNNING: frozenset({TrialState.COMPLETE, TrialState.STOPPED, TrialState.FAILED}),
    TrialState.COMPLETE: frozenset(),
    TrialState.STOPPED: frozenset(),
    TrialState.FAILED: frozenset({TrialState.RUNNING}),
}
"""Allowed moves between states. A failed trial may be tried again."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A trained architecture, validated after `epochs` epochs.

    `metrics` are figures on the validation images by name, such as `error`; `StudySpec.trained`
    describes them. `checkpoint` names the weights in the artifact store. `train_s`, `validation_s`
    and `images`, the number of training images, are what this rung took more than the previous one.
    They and `train_loss` are None if they are unknown; a loss of NaN is stored as unknown.

    Raises `InvalidValueError` for a figure that is not finite.
    """

    epochs: float
    metrics: Mapping[str, float]
    train_loss: float | None = None
    images: int | None = None
    train_s: float | None = None
    validation_s: float | None = None
    numerics: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise InvalidValueError(f"{name} must be finite, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """The same network trained again by the search's recipe with a new seed.

    It is validated on the same images. `energy_j` is the energy that it drew, None if it was not
    measured.
    """

    seed: int
    rungs: tuple[Rung, ...] = ()
    energy_j: float | None = None


def rungs_after(replicates: Sequence[Replicate], epochs: float) -> tuple[Rung, ...]:
    """Return the last rungs of the replicates if they have this number of epochs."""
    last_rungs = [replicate.rungs[-1] for replicate in replicates if replicate.rungs]
    return tuple(rung for rung in last_rungs if rung.epochs == epochs)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Epochs, seconds and energy of work on all workers together.

    Energies are None if they were not measured. `measuring_j` is the part of `energy_j` that
    measuring drew; training and validation drew the rest. `waiting_s` is the time until workers got
    the device, exclusively or shared, which is no device time.
    """

    epochs: float = 0.0
    measuring_s: float = 0.0
    training_s: float = 0.0
    validation_s: float = 0.0
    waiting_s: float = 0.0
    energy_j: float | None = None
    measuring_j: float | None = None

    @property
    def device_s(self) -> float:
        """Seconds of measuring, training and validating."""
        return self.measuring_s + self.training_s + self.validation_s

    def __add__(self, other: Self) -> Self:
        names = [each.name for each in fields(self) if not each.name.endswith("_j")]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return replace(
            self,
            **sums,
            energy_j=sum_measured(self.energy_j, other.energy_j),
            measuring_j=sum_measured(self.measuring_j, other.measuring_j),
        )


def sum_measured(*energies_j: float | None) -> float | None:
    """Return the sum of the energies that were measured, None if none was."""
    measured = [energy_j for energy_j in energies_j if energy_j is not None]
    return sum(measured) if measured else None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The results of one architecture in a study: measurements by metric, and rungs by epochs.

    `replicates` show how far a rung's figures depend on the seed; no decision of the search depends
    on them. `waiting_s`, `energy_j` and `measuring_j` are what the work took besides, see `Usage`.
    """

    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    measure_s: float = 0.0
    replicates: tuple[Replicate, ...] = ()
    waiting_s: float = 0.0
    energy_j: float | None = None
    measuring_j: float | None = None

    @property
    def spent(self) -> Usage:
        """Resources used so far, without replicates."""
        return Usage(
            epochs=self.rungs[-1].epochs if self.rungs else 0.0,
            measuring_s=self.measure_s,
            training_s=sum(rung.train_s or 0.0 for rung in self.rungs),
            validation_s=sum(rung.validation_s or 0.0 for rung in self.rungs),
            waiting_s=self.waiting_s,
            energy_j=self.energy_j,
            measuring_j=self.measuring_j,
        )

    @property
    def finished_replicates(self) -> tuple[Rung, ...]:
        """The last rungs of the replicates that reached the last rung of this evaluation.

        Their seeds are new ones, by which nothing was selected.
        """
        return rungs_after(self.replicates, self.rungs[-1].epochs) if self.rungs else ()

    def value(self, metric: str) -> float | None:
        """Return the metric's value, None if it has none (yet).

        The value of a trained metric is that of the last rung.
        """
        if self.rungs and metric in self.rungs[-1].metrics:
            return self.rungs[-1].metrics[metric]
        measurement = self.measurements.get(metric)
        return measurement.value if measurement else None

    def values_of_seeds(self, metric: str) -> tuple[float, ...]:
        """Return a trained metric's values at the last rung, that of the search's own seed first.

        Returns an empty tuple for a network without that figure.
        """
        if not self.rungs or metric not in self.rungs[-1].metrics:
            return ()
        rungs = (self.rungs[-1], *self.finished_replicates)
        return tuple(rung.metrics[metric] for rung in rungs if metric in rung.metrics)

    def best_figure(self, metric: str) -> Measurement | None:
        """Return the certified figure of the metric if it has a value, else the screened one."""
        certified = self.measurements.get(certified_name(metric) or "")
        if certified and certified.value is not None:
            return certified
        return self.measurements.get(metric)

    @property
    def certified_session(self) -> str | None:
        """The session of the certified figures, or the sessions of all devices.

        None if there are no such figures or if one of them has no value.
        """
        figures = [figure for name, figure in self.measurements.items() if is_certified(name)]
        if not figures or any(figure.value is None for figure in figures):
            return None
        return " ".join(sorted({str(figure.details.get("session")) for figure in figures}))

    def usable(self) -> Self:
        """Return the evaluation without the figures that have no value."""
        figures = {name: m for name, m in self.measurements.items() if m.value is not None}
        return replace(self, measurements=figures)

    def with_measurements(
        self, measurements: Sequence[Measurement], measure_s: float = 0.0
    ) -> Self:
        """Return the evaluation with these figures added.

        A metric that was measured again gets the new figure.
        """
        figures = {**self.measurements, **{figure.metric: figure for figure in measurements}}
        return replace(self, measurements=figures, measure_s=self.measure_s + measure_s)

    def with_usage(self, waiting_s: float, energy_j: float | None, *, measuring: bool) -> Self:
        """Return the evaluation with more waiting time and, if it was measured, more energy.

        `measuring` says whether measuring or training drew the energy.
        """
        drawn_j = energy_j if measuring else None
        return replace(
            self,
            waiting_s=self.waiting_s + waiting_s,
            energy_j=sum_measured(self.energy_j, energy_j),
            measuring_j=sum_measured(self.measuring_j, drawn_j),
        )

    def with_rung(self, rung: Rung) -> Self:
        """Return the evaluation with one more rung.

        Raises `InvalidValueError` unless the rung has more epochs than the last one.
        """
        if self.rungs and rung.epochs <= self.rungs[-1].epochs:
            raise InvalidValueError(
                f"rung at {rung.epochs} epochs comes after one at {self.rungs[-1].epochs}"
            )
        return replace(self, rungs=(*self.rungs, rung))


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A network with the results of its evaluation: a trial or a baseline."""

    evaluation: Evaluation = field(default_factory=Evaluation)

    def losses(self, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
        """Return one loss for each objective, or None if an objective has no value."""
        values = [self.evaluation.value(objective.key) for objective in objectives]
        if any(value is None for value in values):
            return None
        return tuple(o.loss(v) for o, v in zip(objectives, values, strict=True) if v is not None)

    def bounds(
        self, objectives: Sequence[Objective], *, certified: bool = False
    ) -> tuple[tuple[float, float], ...] | None:
        """Return the best and the worst of each loss within the 95 % interval.

        Returns None if an objective has no value. The bounds of a value that was not measured are
        the value itself; those of a measured value without an interval are infinite. `certified`
        takes certified figures if there are any.
        """
        if self.losses(objectives) is None:
            return None
        evaluation = self.evaluation
        figure_of = evaluation.best_figure if certified else evaluation.measurements.get
        return tuple(_bounds(o, figure_of(o.key), evaluation.value(o.key)) for o in objectives)

    def violation(self, objectives: Sequence[Objective]) -> float:
        """Return the sum of the violations of limits, over the objectives that have a value.

        Each violation is a share of its limit. A sum of 0 is feasible.
        """
        values = [(o, self.evaluation.value(o.key)) for o in objectives]
        return sum(o.violation(value) for o, value in values if value is not None)


@dataclass(frozen=True, kw_only=True)
class Baseline(Evaluated):
    """A network beside the search, measured and trained as its trials are.

    It is never on the front, and the sampler does not learn it. `name` is that of the study file,
    and `digest` is that of the network.
    """

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Trial(Evaluated):
    """One point of a study.

    `duplicate_of` is the earlier trial of the same architecture whose evaluation this trial shares.
    `sampler_state` is what the sampler needs of this trial when it is rebuilt from the record.
    `origin` says where the evaluation comes from if it was made elsewhere, such as `first:12`; such
    a trial teaches the sampler and counts in no budget.
    """

    number: int
    params: Params
    architecture: Architecture
    seed: int
    state: TrialState = TrialState.RUNNING
    reason: str = ""
    duplicate_of: int | None = None
    origin: str = ""
    worker: str = ""
    sampler_state: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None

    @property
    def skipped(self) -> bool:
        """True if it ended before any training: over a limit, or skipped by the sampler."""
        return self.state is TrialState.STOPPED and not self.evaluation.rungs

    def moved_to(self, state: TrialState, **changes: Any) -> Self:
        """Return this trial in another state.

        Raises `InvalidValueError` for a move that is not in `MOVES`.
        """
        if state not in MOVES[self.state]:
            raise InvalidValueError(f"trial {self.number} cannot go from {self.state} to {state}")
        return replace(self, state=state, **changes)


def _bounds(
    objective: Objective, figure: Measurement | None, value: float | None
) -> tuple[float, float]:
    """Return the best and the worst of one loss."""
    if figure is not None and figure.status is Status.NOISY and figure.ci_low is None:
        return -math.inf, math.inf
    ends = (figure.value, figure.ci_low, figure.ci_high) if figure else (value,)
    losses = [objective.loss(end) for end in ends if end is not None]
    return min(losses), max(losses)
