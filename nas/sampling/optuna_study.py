"""Export of a recorded study to a database of Optuna's, for its dashboard and plots, and back.

`write_trials` does the same work in Optuna's storage as `nas bench store` does in ours, for
comparison.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from nas.core.errors import DatabaseError, StudyConflictError, UnknownNameError
from nas.core.measurement import Kind
from nas.core.passwords import ENCODING, is_readable, without_password
from nas.core.search_space import SearchSpace
from nas.core.study import StudySpec
from nas.core.trial import Trial, TrialState
from nas.sampling.proposer import STATES, constraints

CONDITIONS = "conditions"
"""User attribute of an exported study: the conditions of its figures."""


def export_study(
    spec: StudySpec,
    space: SearchSpace,
    trials: Sequence[Trial],
    url: str,
    conditions: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the trials as Optuna study `spec.name` to the database at `url` (SQLAlchemy's).

    Parameters are the choices' own values, objectives the values of complete trials in SI units,
    limits Optuna's constraints. Digest, reason, duplicate_of and every figure are user attributes,
    and the `conditions` of the figures are one of the study.

    Raises `StudyConflictError` if there is a study of this name, and `DatabaseError` if Optuna
    cannot write to the database.
    """
    _require_readable(url)
    distributions = {
        choice.name: CategoricalDistribution(choice.values) for choice in space.choices
    }
    try:
        storage = _storage(url)
        study = optuna.create_study(
            storage=storage,
            study_name=spec.name,
            directions=[objective.direction.value for objective in spec.objectives],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([objective.key for objective in spec.objectives])
        study.set_user_attr(CONDITIONS, dict(conditions))
        study.add_trials(_frozen(spec, distributions, trial) for trial in trials)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise StudyConflictError(
            f"there is an Optuna study {spec.name!r} already; name another database"
        ) from error
    except Exception as error:  # SQLAlchemy's errors, which only nas.record may import
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DatabaseError(
            f"Optuna cannot write to this database: {without_password(reason[0])}"
        ) from error


def read_study(url: str, name: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the complete trials of an Optuna study by number: params, values and user attributes,
    and the conditions of an exported study.

    Raises `UnknownNameError` if there is no study of this name, and `DatabaseError` if Optuna
    cannot read the database.
    """
    _require_readable(url)
    try:
        storage = _storage(url)
        study = optuna.load_study(storage=storage, study_name=name)
        trials = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        common = {"study": name, **study.user_attrs.get(CONDITIONS, {})}
        metrics = study.metric_names or []
    except KeyError as error:
        names = optuna.get_all_study_names(storage)
        raise UnknownNameError("Optuna's studies", name, names) from error
    except Exception as error:  # SQLAlchemy's errors, as above
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DatabaseError(
            f"Optuna cannot read this database: {without_password(reason[0])}"
        ) from error
    return [
        (
            trial.number,
            {
                **common,
                "trial": trial.number,
                **{key: each for key, each in trial.user_attrs.items() if each is not None},
                **dict(zip(metrics, trial.values, strict=False)),
                **{f"params.{key}": value for key, value in trial.params.items()},
            },
        )
        for trial in trials
    ]


def write_trials(url: str, numbers: Iterable[int], ready: Callable[[], object]) -> None:
    """Write one trial for each number into an Optuna study at `url`, with 12 params, 5 attributes
    and 3 values each. `ready` is called when the study is open.
    """
    study = optuna.create_study(
        storage=_storage(url),
        study_name="bench-store",
        load_if_exists=True,
        directions=["minimize"] * 3,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    ready()
    for number in numbers:
        trial = study.ask()
        for index in range(12):
            trial.suggest_categorical(f"choice{index}", range(32))
        for index in range(5):
            trial.set_user_attr(f"figure{index}", number)
        study.tell(trial, [1.0, 2.0, 3.0])


def _require_readable(url: str) -> None:
    if not is_readable(url):
        raise DatabaseError(f"the parts of this address cannot be told apart: {ENCODING}")


def _storage(url: str) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(url.replace("postgresql://", "postgresql+psycopg://", 1))


def _frozen(
    spec: StudySpec, distributions: Mapping[str, CategoricalDistribution], trial: Trial
) -> FrozenTrial:
    values = [trial.evaluation.value(objective.key) for objective in spec.objectives]
    complete = trial.state is TrialState.COMPLETE
    frozen = optuna.trial.create_trial(
        state=STATES[trial.state],
        params=dict(trial.params),
        distributions=dict(distributions),
        values=[float(value) for value in values if value is not None] if complete else None,
        user_attrs=_attributes(trial),
        system_attrs=constraints(spec.objectives, trial.evaluation),
    )
    frozen.datetime_start = _local(trial.started_at)
    frozen.datetime_complete = trial.finished_at and _local(trial.finished_at)
    return frozen


def _attributes(trial: Trial) -> dict[str, Any]:
    measured = trial.evaluation.measurements.items()
    figures = {name: figure.value for name, figure in measured}
    for name, figure in measured:
        if figure.kind is not Kind.COUNTED and figure.ci_low is not None:
            figures |= {f"{name}_low": figure.ci_low, f"{name}_high": figure.ci_high}
    trained = {
        f"{name} after {rung.epochs:g} epochs": value
        for rung in trial.evaluation.rungs
        for name, value in rung.metrics.items()
    }
    return {
        "digest": trial.architecture.digest,
        "reason": trial.reason,
        "duplicate_of": trial.duplicate_of,
        **figures,
        **trained,
    }


def _local(moment: datetime) -> datetime:
    """Return the moment as Optuna stores it: in this machine's time zone, without naming it."""
    return moment.astimezone().replace(tzinfo=None)
