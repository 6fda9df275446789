"""Load trials with all their figures. Any number of trials takes nine queries."""

import gc
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, select

from nas.core.architecture import Architecture
from nas.core.measurement import Device, Measurement, MeasurementPlan
from nas.core.recipe import FinalTraining
from nas.core.trial import Baseline, Evaluation, Replicate, Trial, TrialState, sum_measured
from nas.record.rows import to_device, to_final, to_measurement, to_rung
from nas.record.schema.tables import (
    ARCHITECTURE,
    BASELINE,
    BASELINE_MEASUREMENT,
    BASELINE_RUNG,
    BASELINE_RUNG_METRIC,
    DEVICE,
    EVALUATION,
    FINAL_TRAINING,
    FINAL_TRAINING_METRIC,
    MEASUREMENT,
    MEASUREMENT_PLAN,
    REPLICATE_RUNG,
    REPLICATE_RUNG_METRIC,
    RUNG,
    RUNG_METRIC,
    SINGLE_MEASUREMENT,
    TRIAL,
)

MAX_EVALUATIONS = 5000
"""Largest number of evaluations whose rungs are compared.

More of them would make the status of a long study slow, and the agreement of rungs no more certain.
"""


def load_trials(
    connection: Connection, study_id: int, numbers: Collection[int] | None = None
) -> list[Trial]:
    """Return the trials of a study, or those with these numbers, in order of their numbers."""
    wanted = TRIAL.c.study_id == study_id
    if isinstance(numbers, range):
        wanted &= TRIAL.c.number.between(numbers.start, numbers.stop - 1)
    elif numbers is not None:
        wanted &= TRIAL.c.number.in_(numbers)
    rows = connection.execute(
        select(TRIAL, ARCHITECTURE.c.digest, ARCHITECTURE.c.spec)
        .join_from(TRIAL, EVALUATION, TRIAL.c.evaluation_id == EVALUATION.c.id)
        .join(ARCHITECTURE)
        .where(wanted)
        .order_by(TRIAL.c.number)
    ).all()
    with without_garbage_collection():
        evaluations = load_evaluations(
            connection,
            EVALUATION.c.study_id == study_id
            if numbers is None
            else EVALUATION.c.id.in_(select(TRIAL.c.evaluation_id).where(wanted)),
        )
        canonical = {row.digest: Architecture.from_dict(row.spec) for row in rows}
        return [_trial(row, canonical[row.digest], evaluations[row.evaluation_id]) for row in rows]


def load_evaluations(connection: Connection, wanted: ColumnElement[bool]) -> dict[int, Evaluation]:
    """Return evaluations by id. Of repeated measurements they hold the newest one."""
    devices, plans = _contexts(connection)
    measurements: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in connection.execute(
        select(MEASUREMENT).join(EVALUATION).where(wanted).order_by(MEASUREMENT.c.id)
    ).all():
        measurements[row.evaluation_id][row.metric] = row
    rungs: dict[int, list[Any]] = defaultdict(list)
    trained = _metrics(connection, RUNG_METRIC, ("evaluation_id", "epochs"), wanted)
    for row in connection.execute(
        select(RUNG).join(EVALUATION).where(wanted).order_by(RUNG.c.epochs)
    ).all():
        figures = trained[row.evaluation_id, row.epochs]
        rungs[row.evaluation_id].append(to_rung(row, figures))
    replicates = load_replicates(connection, wanted)
    return {
        row.id: Evaluation(
            measurements={
                metric: to_measurement(m, devices, plans)
                for metric, m in measurements[row.id].items()
            },
            rungs=tuple(rungs[row.id]),
            measure_s=row.measure_s,
            replicates=replicates.get(row.id, ()),
            waiting_s=row.waiting_s or 0.0,
            energy_j=row.energy_j,
            measuring_j=row.measuring_j,
        )
        for row in connection.execute(select(EVALUATION).where(wanted))
    }


def _metrics(
    connection: Connection, table: Table, key: Sequence[str], wanted: ColumnElement[bool]
) -> dict[tuple[Any, ...], dict[str, float]]:
    """Return the trained figures of the wanted evaluations by metric, by these columns."""
    metrics: dict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
    columns = [table.c[name] for name in (*key, "metric", "value")]
    in_evaluation = table.c.evaluation_id == EVALUATION.c.id
    query = select(*columns).join_from(table, EVALUATION, in_evaluation).where(wanted)
    for *values, metric, value in connection.execute(query):
        metrics[tuple(values)][metric] = value
    return metrics


def load_replicates(
    connection: Connection, wanted: ColumnElement[bool]
) -> dict[int, tuple[Replicate, ...]]:
    """Return the replicates of each evaluation, in the order in which their seeds began."""
    replicates: dict[int, dict[int, Replicate]] = defaultdict(dict)
    key = ("evaluation_id", "seed", "epochs")
    trained = _metrics(connection, REPLICATE_RUNG_METRIC, key, wanted)
    for row in connection.execute(
        select(REPLICATE_RUNG)
        .join(EVALUATION)
        .where(wanted)
        .order_by(REPLICATE_RUNG.c.epochs, REPLICATE_RUNG.c.finished_at, REPLICATE_RUNG.c.seed)
    ).all():
        replicate = replicates[row.evaluation_id].get(row.seed, Replicate(seed=row.seed))
        figures = trained[row.evaluation_id, row.seed, row.epochs]
        replicates[row.evaluation_id][row.seed] = replace(
            replicate,
            rungs=(*replicate.rungs, to_rung(row, figures)),
            energy_j=sum_measured(replicate.energy_j, row.energy_j),
        )
    return {evaluation: tuple(seeds.values()) for evaluation, seeds in replicates.items()}


def load_finals(connection: Connection, study_id: int) -> list[FinalTraining]:
    """Return the final trainings of a study in the order in which they ended."""
    finals = select(FINAL_TRAINING).where(FINAL_TRAINING.c.study_id == study_id)
    metrics: dict[int, dict[str, float]] = defaultdict(dict)
    for row in connection.execute(
        select(FINAL_TRAINING_METRIC)
        .join(FINAL_TRAINING)
        .where(FINAL_TRAINING.c.study_id == study_id)
    ):
        metrics[row.final_training_id][row.metric] = row.value
    rows = connection.execute(finals.order_by(FINAL_TRAINING.c.id))
    return [to_final(row, metrics[row.id]) for row in rows]


def load_baselines(connection: Connection, study_id: int, names: Sequence[str]) -> list[Baseline]:
    """Return the recorded baselines among these, in this order."""
    its = BASELINE.c
    rows = connection.execute(
        select(BASELINE).where(its.study_id == study_id, its.name.in_(names))
    ).all()
    baselines = {row.name: _baseline(connection, row) for row in rows}
    return [baselines[name] for name in names if name in baselines]


def _baseline(connection: Connection, row: Row[Any]) -> Baseline:
    devices, plans = _contexts(connection)
    figures = select(BASELINE_MEASUREMENT).filter_by(baseline_id=row.id)
    measured = [
        to_measurement(each, devices, plans)
        for each in connection.execute(figures.order_by(BASELINE_MEASUREMENT.c.id))
    ]
    metrics: dict[float, dict[str, float]] = defaultdict(dict)
    trained = select(BASELINE_RUNG_METRIC).filter_by(baseline_id=row.id)
    for each in connection.execute(trained):
        metrics[each.epochs][each.metric] = each.value
    rungs = select(BASELINE_RUNG).filter_by(baseline_id=row.id).order_by(BASELINE_RUNG.c.epochs)
    return Baseline(
        name=row.name,
        digest=row.digest,
        evaluation=Evaluation(
            measurements={figure.metric: figure for figure in measured},
            rungs=tuple(to_rung(each, metrics[each.epochs]) for each in connection.execute(rungs)),
            measure_s=row.measure_s,
            waiting_s=row.waiting_s,
            energy_j=row.energy_j,
        ),
    )


def load_rung_values(
    connection: Connection, study_id: int, metric: str
) -> list[dict[float, float]]:
    """Return a trained metric by epochs, of each of the newest evaluations that have rungs."""
    newest = (
        select(EVALUATION.c.id)
        .where(EVALUATION.c.study_id == study_id)
        .order_by(EVALUATION.c.id.desc())
        .limit(MAX_EVALUATIONS)
        .subquery()
    )
    values: dict[int, dict[float, float]] = defaultdict(dict)
    for row in connection.execute(
        select(RUNG_METRIC)
        .join(newest, RUNG_METRIC.c.evaluation_id == newest.c.id)
        .where(RUNG_METRIC.c.metric == metric)
        .order_by(RUNG_METRIC.c.evaluation_id, RUNG_METRIC.c.epochs)
    ):
        values[row.evaluation_id][row.epochs] = row.value
    return list(values.values())


def load_singles(
    connection: Connection, targets: Collection[str] | None
) -> list[tuple[str, str | None, Measurement]]:
    """Return target, digest and figure of measurements outside any study, the oldest first: those
    of these targets, or all of them.
    """
    devices, plans = _contexts(connection)
    its = SINGLE_MEASUREMENT.c
    wanted = select(SINGLE_MEASUREMENT).order_by(its.id)
    if targets is not None:
        wanted = wanted.where(its.target.in_(targets))
    return [
        (row.target, row.digest, to_measurement(row, devices, plans))
        for row in connection.execute(wanted)
    ]


def load_last_measured(connection: Connection, study_id: int) -> tuple[int, Measurement] | None:
    """Return the newest figure of a device with the number of its trial, None without one."""
    row = connection.execute(
        select(MEASUREMENT, TRIAL.c.number)
        .join(EVALUATION, MEASUREMENT.c.evaluation_id == EVALUATION.c.id)
        .join(TRIAL, TRIAL.c.evaluation_id == EVALUATION.c.id)
        .where(
            EVALUATION.c.study_id + 0 == study_id,  # keeps SQLite from sorting all figures
            MEASUREMENT.c.device_id.is_not(None),
            TRIAL.c.duplicate_of.is_(None),
        )
        .order_by(MEASUREMENT.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.number, to_measurement(row, *_contexts(connection)))


def _contexts(connection: Connection) -> tuple[dict[int, Device], dict[str, MeasurementPlan]]:
    """Return devices and plans by their keys."""
    devices = {row.id: to_device(row) for row in connection.execute(select(DEVICE))}
    plans = {
        row.digest: MeasurementPlan.from_dict(row.spec)
        for row in connection.execute(select(MEASUREMENT_PLAN))
    }
    return devices, plans


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause the search for cyclic garbage while many values are built.

    For 100,000 values this saves a quarter of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _trial(row: Row[Any], canonical: Architecture, evaluation: Evaluation) -> Trial:
    return Trial(
        number=row.number,
        params=row.params,
        seed=row.seed,
        state=TrialState(row.state),
        evaluation=evaluation,
        architecture=canonical
        if row.as_proposed is None
        else Architecture.from_dict(row.as_proposed),
        reason=row.reason,
        duplicate_of=row.duplicate_of,
        origin=row.origin or "",
        worker=row.worker,
        sampler_state=row.sampler_state,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
