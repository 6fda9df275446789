"""One point of a study and what became of it. States move by one table and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError
from nas.core.measurement import Measurement, Status
from nas.core.search_space import Params
from nas.core.study import Objective

MAX_TRIALS = 2**31 - 1
"""Of a study; a larger number has no place in the record."""


class TrialState(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"
    COMPLETE = "complete"
    """Every objective has a value; the trial may still be infeasible."""
    STOPPED = "stopped"
    """Ended early on purpose: beyond a limit or passed over before training, or behind the others
    at a rung.
    """
    FAILED = "failed"


CERTIFIED_METRICS: Mapping[str, str] = {
    "latency": "certified_latency",
    "energy": "certified_energy",
}
"""What a metric is called where it was measured together with the other members of a front: beside
it, not instead.
"""

MOVES: Mapping[TrialState, frozenset[TrialState]] = {
    TrialState.RUNNING: frozenset({TrialState.COMPLETE, TrialState.STOPPED, TrialState.FAILED}),
    TrialState.COMPLETE: frozenset(),
    TrialState.STOPPED: frozenset(),
    TrialState.FAILED: frozenset({TrialState.RUNNING}),
}
"""The whole life of a trial; a failed one may be tried again."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A trained architecture judged: after `epochs` epochs its share of wrong validation answers is
    `error`.

    `checkpoint` names its weights in the artifact store; `train_s` and `validation_s` are the
    seconds this rung took beyond the one before; `images` were trained on in them.
    """

    epochs: float
    error: float
    train_loss: float
    images: int
    train_s: float
    validation_s: float
    numerics: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        if not 0 <= self.error <= 1:
            raise InvalidValueError(f"error must be from 0 to 1, not {self.error!r}")


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """The same network trained again by the search's recipe with another seed, judged on the same
    images; it drew `energy_j` joules, None where nobody measured them.
    """

    seed: int
    rungs: tuple[Rung, ...] = ()
    energy_j: float | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What work took on all workers together: epochs, seconds, and joules where they were measured,
    else None.

    `waiting_s` are seconds until a worker got the device, to itself or shared; they are no device
    time. `measuring_j` are those of the joules that measuring drew; training and validating drew
    the others.
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
        sums = {
            each.name: getattr(self, each.name) + getattr(other, each.name)
            for each in fields(self)
            if not each.name.endswith("_j")
        }
        return replace(
            self,
            **sums,
            energy_j=sum_measured(self.energy_j, other.energy_j),
            measuring_j=sum_measured(self.measuring_j, other.measuring_j),
        )


def sum_measured(*joules: float | None) -> float | None:
    """The sum of those that somebody measured."""
    known = [each for each in joules if each is not None]
    return sum(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that is known of one architecture in a study: measurements by metric, and rungs in order
    of epochs.

    `replicates` say how far a rung's error depends on the seed; no decision of the search depends
    on them. `waiting_s`, `energy_j` and `measuring_j` are what its work took besides, see `Usage`.
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
        """What the work so far took, replicates left out."""
        return Usage(
            epochs=self.rungs[-1].epochs if self.rungs else 0.0,
            measuring_s=self.measure_s,
            training_s=sum(rung.train_s for rung in self.rungs),
            validation_s=sum(rung.validation_s for rung in self.rungs),
            waiting_s=self.waiting_s,
            energy_j=self.energy_j,
            measuring_j=self.measuring_j,
        )

    def replicate_errors(self) -> tuple[float, ...]:
        """The errors of the replicates that reached the last rung: of seeds that nothing was chosen
        by.
        """
        return tuple(
            replicate.rungs[-1].error
            for replicate in self.replicates
            if self.rungs
            and replicate.rungs
            and replicate.rungs[-1].epochs == self.rungs[-1].epochs
        )

    def value(self, metric: str) -> float | None:
        """The metric's value, None where there is none (yet). `error` is the last rung's."""
        if metric == "error":
            return self.rungs[-1].error if self.rungs else None
        measurement = self.measurements.get(metric)
        return measurement.value if measurement else None

    def best_figure(self, metric: str) -> Measurement | None:
        """The best figure there is: the certified one, where it has a value."""
        certified = self.measurements.get(CERTIFIED_METRICS.get(metric, ""))
        return (
            certified
            if certified and certified.value is not None
            else self.measurements.get(metric)
        )

    @property
    def certified_session(self) -> str | None:
        """The session of the certified figures, None where there are none or one has no value."""
        figures = [
            self.measurements[name]
            for name in CERTIFIED_METRICS.values()
            if name in self.measurements
        ]
        whole = figures and all(figure.value is not None for figure in figures)
        return str(figures[0].details.get("session")) if whole else None

    def with_measurements(
        self, measurements: Sequence[Measurement], measure_s: float = 0.0
    ) -> Self:
        """With these measurements added; a metric measured again replaces its old figure."""
        known = {**self.measurements, **{m.metric: m for m in measurements}}
        return replace(self, measurements=known, measure_s=self.measure_s + measure_s)

    def with_usage(self, waiting_s: float, energy_j: float | None, *, measuring: bool) -> Self:
        """With more seconds waited and, where they were measured, joules drawn, by measuring or by
        training.
        """
        found = replace(self, waiting_s=self.waiting_s + waiting_s)
        if energy_j is not None:
            found = replace(found, energy_j=(self.energy_j or 0.0) + energy_j)
            if measuring:
                found = replace(found, measuring_j=(self.measuring_j or 0.0) + energy_j)
        return found

    def with_rung(self, rung: Rung) -> Self:
        """With one more rung. Raises `InvalidValueError` unless it is beyond the last."""
        if self.rungs and rung.epochs <= self.rungs[-1].epochs:
            raise InvalidValueError(
                f"rung at {rung.epochs} epochs comes after one at {self.rungs[-1].epochs}"
            )
        return replace(self, rungs=(*self.rungs, rung))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a study. `duplicate_of` is the earlier trial of the same architecture whose
    evaluation this one shares; `sampler_state` is what the sampler wants back when it is rebuilt
    from the record.
    """

    number: int
    params: Params
    architecture: Architecture
    seed: int
    state: TrialState = TrialState.RUNNING
    evaluation: Evaluation = field(default_factory=Evaluation)
    reason: str = ""
    duplicate_of: int | None = None
    worker: str = ""
    sampler_state: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None

    @property
    def skipped(self) -> bool:
        """Whether it ended before any training: beyond a limit, or passed over for networks that
        promise more.
        """
        return self.state is TrialState.STOPPED and not self.evaluation.rungs

    def moved_to(self, state: TrialState, **changes: Any) -> Self:
        """This trial in another state. Raises `InvalidValueError` for a move that is not in
        `MOVES`.
        """
        if state not in MOVES[self.state]:
            raise InvalidValueError(f"trial {self.number} cannot go from {self.state} to {state}")
        return replace(self, state=state, **changes)

    def losses(self, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
        """One loss for each objective, or None where one has no value."""
        values = [self.evaluation.value(objective.metric) for objective in objectives]
        if any(value is None for value in values):
            return None
        return tuple(o.loss(v) for o, v in zip(objectives, values, strict=True) if v is not None)

    def bounds(
        self, objectives: Sequence[Objective], *, certified: bool = False
    ) -> tuple[tuple[float, float], ...] | None:
        """Of each loss its best and its worst within the 95 % interval, or None where one has no
        value.

        The value itself where nothing was measured; a measured value without interval may be
        anything. `certified` takes the certified figures.
        """
        if self.losses(objectives) is None:
            return None
        known = self.evaluation
        figures = [
            known.best_figure(o.metric) if certified else known.measurements.get(o.metric)
            for o in objectives
        ]
        return tuple(
            _bounds(objective, figure, known.value(objective.metric))
            for objective, figure in zip(objectives, figures, strict=True)
        )

    def violation(self, objectives: Sequence[Objective]) -> float:
        """Sum of the violated limits as shares of them, over the objectives that have a value; 0 is
        feasible.
        """
        values = [(o, self.evaluation.value(o.metric)) for o in objectives]
        return sum(o.violation(value) for o, value in values if value is not None)


def _bounds(
    objective: Objective, figure: Measurement | None, value: float | None
) -> tuple[float, float]:
    """Of one loss."""
    if figure is not None and figure.status is Status.NOISY and figure.ci_low is None:
        return -math.inf, math.inf
    ends = (figure.value, figure.ci_low, figure.ci_high) if figure else (value,)
    losses = [objective.loss(end) for end in ends if end is not None]
    return min(losses), max(losses)
