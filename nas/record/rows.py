"""Conversion of values to rows and back.

A value that is read equals the written one to the last bit.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Row

from nas.core.measurement import Device, Measurement, MeasurementPlan, plan_key
from nas.core.recipe import FinalTraining, Recipe
from nas.core.study import StudySpec
from nas.core.trial import Rung, Trial, TrialState
from nas.record.engines import to_json
from nas.record.records import Artifact, StudyRecord

Values = dict[str, Any]

RUNG = tuple(field.name for field in fields(Rung) if field.name != "metrics")
"""Columns of a rung that have the names of its fields, as those below."""
DEVICE = tuple(field.name for field in fields(Device))
ARTIFACT = tuple(field.name for field in fields(Artifact))
STUDY = tuple(field.name for field in fields(StudyRecord) if field.name not in {"spec", "counts"})


def _by_name(source: Any, names: Sequence[str]) -> Values:
    """Return the attributes of these names of a value or a row."""
    return {name: getattr(source, name) for name in names}


def of_objectives(study_id: int, spec: StudySpec) -> list[Values]:
    """Return a row for each objective, in order."""
    trained = spec.trained_metrics
    return [
        {
            "study_id": study_id,
            "position": position,
            "metric": o.metric,
            "device": o.device,
            "direction": o.direction,
            "limit_value": o.limit,
            "reference_value": o.reference,
            "unit": trained[o.metric].unit if o.metric in trained else None,
        }
        for position, o in enumerate(spec.objectives)
    ]


def of_trial(trial: Trial) -> Values:
    """Return the row of a trial without the keys of its study and evaluation."""
    as_proposed = (
        None if trial.architecture == trial.architecture.canonical else trial.architecture.to_dict()
    )
    return {
        "number": trial.number,
        "duplicate_of": trial.duplicate_of,
        "params": dict(trial.params),
        "as_proposed": as_proposed,
        "seed": trial.seed,
        "origin": trial.origin or None,
        **of_progress(trial),
    }


def of_progress(trial: Trial) -> Values:
    """Return the columns of a trial that may change."""
    return {
        "state": trial.state,
        "reason": _storable(trial.reason),
        "worker": trial.worker,
        "sampler_state": dict(trial.sampler_state),
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
    }


def _storable(text: str) -> str:
    """Escape characters that no database stores: NUL and broken Unicode.

    Messages of errors from anywhere may hold them.
    """
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def of_rung(rung: Rung) -> Values:
    """Return the row of a rung without the keys of the trained network and without its figures."""
    return {**_by_name(rung, RUNG), "numerics": dict(rung.numerics)}


def of_metrics(rung: Rung, key: Mapping[str, Any]) -> list[Values]:
    """Return a row for each figure of a rung, with this key of its network."""
    return [{**key, "metric": name, "value": value} for name, value in rung.metrics.items()]


def of_final(final: FinalTraining) -> Values:
    """Return the row of a final training without the key of its study."""
    return {
        "network": final.network,
        "digest": final.digest,
        "recipe_digest": final.recipe.digest,
        "recipe": final.recipe.to_dict(),
        "seed": final.seed,
        "test_images": final.test_images,
        **of_rung(final.reached),
        "energy_j": final.energy_j,
    }


def to_final(row: Row[Any], metrics: Mapping[str, float]) -> FinalTraining:
    """Return the training in a row of `final_training`, with these figures."""
    return FinalTraining(
        network=row.network,
        digest=row.digest,
        recipe=Recipe.from_dict(row.recipe),
        seed=row.seed,
        test_images=row.test_images,
        reached=to_rung(row, metrics),
        energy_j=row.energy_j,
    )


def of_measurement(measurement: Measurement) -> Values:
    """Return the row of a measurement without the keys of its evaluation and device."""
    m = measurement
    return {
        "metric": m.metric,
        "unit": m.unit,
        "value": m.value,
        "ci_low": m.ci_low,
        "ci_high": m.ci_high,
        "samples": [float(sample) for sample in m.samples],
        "kind": m.kind,
        "method": m.method,
        "status": m.status,
        "reason": _storable(m.reason),
        "plan": m.plan and plan_key(m.plan),
        "started_at": m.started_at,
        "details": dict(m.details),
    }


def of_device(device: Device) -> Values:
    """Return the whole row of a device. Only equal devices have the same digest."""
    values = {**_by_name(device, DEVICE), "details": dict(device.details)}
    return {"digest": hashlib.sha256(to_json(values).encode()).hexdigest(), **values}


def of_plan(plan: MeasurementPlan) -> Values:
    """Return the whole row of a plan."""
    return {"digest": plan_key(plan), "spec": plan.to_dict()}


def to_device(row: Row[Any]) -> Device:
    """Return the device in a row of `device`."""
    return Device(**_by_name(row, DEVICE))


def to_measurement(
    row: Row[Any], devices: Mapping[int, Device], plans: Mapping[str, MeasurementPlan]
) -> Measurement:
    """Return the figure in a row of `measurement` or `single_measurement`."""
    return Measurement(
        metric=row.metric,
        unit=row.unit,
        value=row.value,
        ci_low=row.ci_low,
        ci_high=row.ci_high,
        samples=tuple(row.samples),
        kind=row.kind,
        method=row.method,
        status=row.status,
        reason=row.reason,
        device=None if row.device_id is None else devices[row.device_id],
        plan=None if row.plan is None else plans[row.plan],
        started_at=row.started_at,
        details=row.details or {},
    )


def to_rung(row: Row[Any], metrics: Mapping[str, float]) -> Rung:
    """Return a rung in a row of `rung`, `replicate_rung` or `final_training`, with its figures."""
    return Rung(metrics=metrics, **_by_name(row, RUNG))


def of_artifact(study_id: int, artifact: Artifact) -> Values:
    """Return the whole row of a file of this study."""
    return {"study_id": study_id, **_by_name(artifact, ARTIFACT)}


def to_artifact(row: Row[Any]) -> Artifact:
    """Return the file in a row of `artifact`."""
    return Artifact(**_by_name(row, ARTIFACT))


def to_study(row: Row[Any], counts: Mapping[TrialState, int]) -> StudyRecord:
    """Return the study in a row of `study`, with its number of trials by state."""
    return StudyRecord(spec=StudySpec.from_dict(row.spec), counts=counts, **_by_name(row, STUDY))
