"""The parts of a writing transaction.

Each function takes the open connection of the transaction and does not commit.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError, StudyConflictError
from nas.core.measurement import Measurement, plan_key, same_class
from nas.core.recipe import FinalTraining
from nas.core.tasks import Result, Trained
from nas.core.trial import Rung, Trial
from nas.record.differences import differences
from nas.record.rows import (
    of_device,
    of_final,
    of_measurement,
    of_metrics,
    of_plan,
    of_rung,
    of_trial,
)
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
    METRIC_CONTEXT,
    RUNG,
    RUNG_METRIC,
    TRIAL,
)


def insert_once(connection: Connection, table: Table, values: Sequence[dict[str, Any]]) -> None:
    """Insert the rows whose keys the table does not hold yet."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    if values:
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(values))


def evaluation_id(connection: Connection, study_id: int, number: int) -> int:
    """Return the key of a trial's evaluation. Raises `InvalidValueError` for an unknown trial."""
    recorded = connection.execute(
        select(TRIAL.c.evaluation_id).where(TRIAL.c.study_id == study_id, TRIAL.c.number == number)
    ).scalar_one_or_none()
    if recorded is None:
        raise InvalidValueError(f"there is no trial {number} in the record")
    return int(recorded)


def write_architecture(connection: Connection, architecture: Architecture) -> None:
    """Insert an architecture, unless the record holds it."""
    insert_once(
        connection,
        ARCHITECTURE,
        [{"digest": architecture.digest, "spec": architecture.canonical.to_dict()}],
    )


def write_trial(connection: Connection, study_id: int, trial: Trial) -> int:
    """Insert a trial and return the key of its evaluation.

    The evaluation is a new one, or for a duplicate that of its original.
    """
    digest = trial.architecture.digest
    original = connection.execute(
        select(EVALUATION.c.id, TRIAL.c.number)
        .join(TRIAL, TRIAL.c.evaluation_id == EVALUATION.c.id)
        .where(
            EVALUATION.c.study_id == study_id,
            EVALUATION.c.digest == digest,
            TRIAL.c.duplicate_of.is_(None),
        ),
    ).one_or_none()
    number = original.number if original else None
    if trial.duplicate_of != number:
        raise InvalidValueError(
            f"trial {trial.number} is marked as a duplicate of {trial.duplicate_of}, but its "
            f"architecture {digest[:12]} was first evaluated by {number}"
        )
    if original:
        evaluation = int(original.id)
    else:
        write_architecture(connection, trial.architecture)
        evaluation = connection.execute(
            insert(EVALUATION).returning(EVALUATION.c.id),
            {"study_id": study_id, "digest": digest, "measure_s": 0.0},
        ).scalar_one()
    connection.execute(
        insert(TRIAL), {"study_id": study_id, "evaluation_id": evaluation, **of_trial(trial)}
    )
    return evaluation


def write_measurements(
    connection: Connection,
    study_id: int,
    evaluation: int,
    measurements: Sequence[Measurement],
    seconds: float,
) -> None:
    """Add figures, and the seconds that they took.

    Raises `StudyConflictError` for a figure that cannot be compared with the others of its metric.
    """
    key = {"evaluation_id": evaluation}
    insert_figures(connection, MEASUREMENT, key, measurements, study_id)
    connection.execute(
        update(EVALUATION)
        .where(EVALUATION.c.id == evaluation)
        .values(measure_s=EVALUATION.c.measure_s + seconds)
    )


def write_effort(
    connection: Connection, evaluation: int, waiting_s: float, **joules: float | None
) -> None:
    """Add waiting time, and energy to the columns of these names unless it is None."""
    values: dict[str, Any] = {"waiting_s": func.coalesce(EVALUATION.c.waiting_s, 0.0) + waiting_s}
    for name, energy_j in joules.items():
        if energy_j is not None:
            values[name] = func.coalesce(EVALUATION.c[name], 0.0) + energy_j
    connection.execute(update(EVALUATION).where(EVALUATION.c.id == evaluation).values(values))


def write_engine(connection: Connection, evaluation: int, lasted_s: float) -> None:
    """Record the part of a trial's duration that is neither recorded work nor recorded waiting."""
    its = EVALUATION.c
    recorded_s = its.measure_s + func.coalesce(its.waiting_s, 0.0) + its.train_s + its.validation_s
    connection.execute(
        update(EVALUATION).where(its.id == evaluation).values(engine_s=lasted_s - recorded_s)
    )


def baseline_id(connection: Connection, study_id: int, name: str) -> int:
    """Return the key of a baseline. Raises `InvalidValueError` for an unknown one."""
    its = BASELINE.c
    key: int | None = connection.execute(
        select(its.id).where(its.study_id == study_id, its.name == name)
    ).scalar_one_or_none()
    if key is None:
        raise InvalidValueError(f"there is no baseline {name!r} in the record")
    return key


def write_baseline(connection: Connection, study_id: int, name: str, digest: str) -> None:
    """Insert a baseline, unless the study has it.

    Raises `StudyConflictError` if the study has another network of this name.
    """
    its, key = BASELINE.c, {"study_id": study_id, "name": name}
    values = {**key, "digest": digest, "measure_s": 0.0, "waiting_s": 0.0}
    insert_once(connection, BASELINE, [values])
    recorded = connection.execute(select(its.digest).filter_by(**key)).scalar_one()
    if recorded != digest:
        raise StudyConflictError(
            f"baseline {name} is another network than when it was measured; give its file "
            "another name"
        )


def write_baseline_event(
    connection: Connection, study_id: int, baseline: int, event: Result
) -> None:
    """Add the figures or the rung of a baseline, and the resources that they took."""
    key = {"baseline_id": baseline}
    measure_s = 0.0
    if isinstance(event, Trained):
        add_rung(connection, (BASELINE_RUNG, BASELINE_RUNG_METRIC), key, event.rung)
    else:
        insert_figures(connection, BASELINE_MEASUREMENT, key, event.measurements, study_id)
        measure_s = event.seconds
    its = BASELINE.c
    values: dict[str, Any] = {
        "measure_s": its.measure_s + measure_s,
        "waiting_s": its.waiting_s + event.waiting_s,
    }
    if event.energy_j is not None:
        values["energy_j"] = func.coalesce(its.energy_j, 0.0) + event.energy_j
    connection.execute(update(BASELINE).where(its.id == baseline).values(values))


def write_rung(connection: Connection, evaluation: int, rung: Rung) -> None:
    """Add a rung. Raises `InvalidValueError` unless it has more epochs than the last one."""
    add_rung(connection, (RUNG, RUNG_METRIC), {"evaluation_id": evaluation}, rung)
    connection.execute(
        update(EVALUATION)
        .where(EVALUATION.c.id == evaluation)
        .values(
            epochs=rung.epochs,
            train_s=EVALUATION.c.train_s + (rung.train_s or 0.0),
            validation_s=EVALUATION.c.validation_s + (rung.validation_s or 0.0),
        )
    )


def write_final(connection: Connection, study_id: int, final: FinalTraining) -> None:
    """Add a finished final training."""
    key = connection.execute(
        insert(FINAL_TRAINING).returning(FINAL_TRAINING.c.id),
        {"study_id": study_id, **of_final(final)},
    ).scalar_one()
    if figures := of_metrics(final.reached, {"final_training_id": key}):
        connection.execute(insert(FINAL_TRAINING_METRIC), figures)


def add_rung(
    connection: Connection,
    tables: tuple[Table, Table],
    key: dict[str, int],
    rung: Rung,
    **others: Any,
) -> None:
    """Add a rung to the first table, and its figures to the second one.

    Raises `InvalidValueError` unless it has more epochs than the last one.
    """
    table, figures = tables
    last = connection.execute(select(func.max(table.c.epochs)).filter_by(**key)).scalar_one()
    if last is not None and rung.epochs <= last:
        raise InvalidValueError(f"a rung at {rung.epochs} epochs comes after one at {last}")
    connection.execute(insert(table), {**key, **of_rung(rung), **others})
    if rung.metrics:
        connection.execute(insert(figures), of_metrics(rung, {**key, "epochs": rung.epochs}))


def insert_figures(
    connection: Connection,
    table: Table,
    key: dict[str, Any],
    measurements: Sequence[Measurement],
    study_id: int | None = None,
) -> None:
    """Insert figures with the columns `key`, their plans and their devices.

    Raises `StudyConflictError` if they cannot be compared with those of the study, if there is one.
    """
    _write_plans(connection, measurements)
    if study_id is not None:
        _require_context(connection, study_id, measurements)
    devices = _device_ids(connection, measurements)
    if measurements:
        connection.execute(
            insert(table),
            [
                {
                    **key,
                    "device_id": m.device and devices[of_device(m.device)["digest"]],
                    **of_measurement(m),
                }
                for m in measurements
            ],
        )


def _write_plans(connection: Connection, measurements: Sequence[Measurement]) -> None:
    insert_once(
        connection,
        MEASUREMENT_PLAN,
        [of_plan(plan) for plan in dict.fromkeys(m.plan for m in measurements if m.plan)],
    )


def _device_ids(connection: Connection, measurements: Sequence[Measurement]) -> dict[str, int]:
    rows = {row["digest"]: row for row in (of_device(m.device) for m in measurements if m.device)}
    insert_once(connection, DEVICE, list(rows.values()))
    recorded = connection.execute(
        select(DEVICE.c.digest, DEVICE.c.id).where(DEVICE.c.digest.in_(rows))
    )
    return {row.digest: row.id for row in recorded}


def _require_context(
    connection: Connection, study_id: int, measurements: Sequence[Measurement]
) -> None:
    """Require the context of all figures of a metric in a study to equal that of its first one.

    The plans must be recorded.
    """
    figures = [figure for figure in measurements if figure.value is not None]
    contexts = {m.metric: _context(m) for m in figures}
    insert_once(
        connection,
        METRIC_CONTEXT,
        [
            {"study_id": study_id, "metric": metric, **context}
            for metric, context in contexts.items()
        ],
    )
    rows = connection.execute(
        select(METRIC_CONTEXT).where(
            METRIC_CONTEXT.c.study_id == study_id, METRIC_CONTEXT.c.metric.in_(contexts)
        )
    ).mappings()
    fixed = {
        row["metric"]: {name: row[name] for name in row if name not in ("study_id", "metric")}
        for row in rows
    }
    for measurement in figures:
        context, recorded = _context(measurement), fixed[measurement.metric]
        if same_class(recorded["device_class"], context["device_class"]):
            context["device_class"] = recorded["device_class"]
        if context != recorded:
            problems = _mismatch(connection, fixed[measurement.metric], measurement)
            raise StudyConflictError(
                f"{measurement.metric} cannot be compared with the study's: {'; '.join(problems)}"
            )


def _context(measurement: Measurement) -> dict[str, Any]:
    return {
        "unit": measurement.unit,
        "kind": measurement.kind,
        "device_class": measurement.device and measurement.device.device_class,
        "plan": measurement.plan and plan_key(measurement.plan),
        "method": measurement.method if measurement.unit == "J" else None,
    }


def _mismatch(connection: Connection, fixed: dict[str, Any], measurement: Measurement) -> list[str]:
    """Return a line for each difference in the context, and for each key of the plans."""
    spec = connection.execute(
        select(MEASUREMENT_PLAN.c.spec).where(MEASUREMENT_PLAN.c.digest == fixed["plan"])
    ).scalar_one_or_none()
    recorded = {**fixed, "plan": spec}
    now = {**_context(measurement), "plan": measurement.plan and measurement.plan.to_dict()}
    return [
        f"{path}: {old} in the record, {new} here" for path, old, new in differences(recorded, now)
    ]
