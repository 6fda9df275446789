"""Write throughput of the record, measured with synthetic trials that any number of processes write
as a search does.
"""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import DatabaseError
from nas.core.measurement import Device, Kind, Measurement, MeasurementPlan
from nas.core.pareto import front
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.record.store import Store

NAME = "bench-store"
"""Name of the study."""
OBJECTIVES = (
    Objective(metric="error", reference=1.0),
    Objective(metric="latency", reference=0.1),
    Objective(metric="energy", reference=1.0),
)
SAMPLES = 30
"""Number of readings of each measured figure."""
DEVICE = Device(kind="cpu", name="made up", identity="made up", device_class="made up")
PLAN = MeasurementPlan()


def begin(store: Store, count: int) -> int:
    """Create or extend the study by `count` synthetic trials, and return the first one's number.

    That number is larger than those of all trials of earlier runs, also of interrupted ones. Raises
    `DatabaseError` for a record of other studies.
    """
    spec = StudySpec(
        name=NAME,
        space="osa_cifar",
        sampler="random",
        objectives=OBJECTIVES,
        rungs=rungs_at(1),
    )
    names = [record.name for record in store.studies()]
    if names not in ([], [NAME]):
        raise DatabaseError(f"{store} holds studies; name a new database")
    if not names:
        store.create_study(spec, dataset="none", classes=10)
    first = max((trial.number for trial in store.each_trial(NAME)), default=-1) + 1
    store.update_study(replace(spec, budget=Budget(trials=first + count)))
    return first


def synthetic_trial(number: int) -> Trial:
    """Return the finished trial of this number, with 12 params, 5 figures and one rung.

    Each number has an architecture of its own.
    """
    rng = random.Random(number)
    digits = [number // 32**place % 32 for place in range(4)]
    stages = tuple(
        OsaStage(mid_channels=8 * (digit + 1), out_channels=64, num_layers=3)
        for digit in digits[:3]
    )
    architecture = Architecture(
        stem=Stem.CIFAR, stem_channels=(8 * (digits[3] + 1), 16, 32), stages=stages
    )
    size = rng.random()
    latency = 0.01 * (0.1 + size) * rng.uniform(0.8, 1.2)
    energy = 10 * latency * rng.uniform(0.99, 1.01)
    error = 0.5 - 0.4 * math.sqrt(size) + rng.uniform(0.0, 0.1)
    figures = (
        *(
            Measurement.counted(metric, "1", number)
            for metric in ("parameters", "macs", "memory_access_cost")
        ),
        _measured("latency", "s", latency),
        _measured("energy", "J", energy),
    )
    rung = Rung(
        epochs=1,
        metrics={"error": error},
        train_loss=error,
        images=45_000,
        train_s=20.0,
        validation_s=1.0,
    )
    trial = Trial(
        number=number,
        params={f"choice{index}": digits[index % 4] for index in range(12)},
        seed=number,
        architecture=architecture,
        evaluation=Evaluation(measurements={each.metric: each for each in figures}, rungs=(rung,)),
    )
    return trial.moved_to(TrialState.COMPLETE, finished_at=rung.finished_at)


def _measured(metric: str, unit: str, value: float) -> Measurement:
    return Measurement(
        metric=metric,
        unit=unit,
        value=value,
        ci_low=0.99 * value,
        ci_high=1.01 * value,
        samples=(value,) * SAMPLES,
        kind=Kind.MEASURED,
        method="made up",
        device=DEVICE,
        plan=PLAN,
    )


def write_trials(url: str, numbers: Iterable[int], ready: Callable[[], object]) -> None:
    """Write the synthetic trials of these numbers. `ready` is called when the database is open."""
    trials = [synthetic_trial(number) for number in numbers]
    with Store.open(url) as store:
        ready()
        for trial in trials:
            write_trial(store, trial)


def write_trial(store: Store, trial: Trial) -> None:
    """Write this trial in the three transactions of a search."""
    store.add_trial(
        NAME, replace(trial, state=TrialState.RUNNING, finished_at=None, evaluation=Evaluation())
    )
    store.add_measurements(NAME, trial.number, trial.evaluation.measurements.values(), 1.0)
    with store.transaction():
        store.add_rung(NAME, trial.number, trial.evaluation.rungs[0])
        store.finish_trial(NAME, trial)


def add_fronts(store: Store, numbers: Iterable[int]) -> None:
    """Store a snapshot of the front for every one of these trials that changed it, as a search
    does.
    """
    newest = store.newest_front(NAME)
    members = [synthetic_trial(number) for number in newest.members] if newest else []
    losses = np.asarray([each.losses(OBJECTIVES) for each in members]).reshape(-1, len(OBJECTIVES))
    with store.transaction():
        for number in numbers:
            trial = synthetic_trial(number)
            point = np.asarray(trial.losses(OBJECTIVES))
            if not (losses <= point).all(axis=1).any():
                new_front = replace(front([*members, trial], OBJECTIVES), after=number + 1)
                members = [each for each in (*members, trial) if each.number in new_front.members]
                losses = np.asarray([each.losses(OBJECTIVES) for each in members])
                store.add_front(NAME, new_front)
