"""One Optuna study in memory that mirrors the record: trial n of the record is trial n of the
study.

A proposal depends only on the record, the study's seed and the number of the new trial, because a
new sampler with a seed of its own is made for each proposal. Therefore a search that was killed
proposes the same networks after it resumes. A sampler that ignores earlier trials receives none,
and none are stored for it.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from nas.core.architecture import Architecture
from nas.core.search_space import Choice, Params, SearchSpace, Value, decoded
from nas.core.seeds import derived_seed
from nas.core.study import ERROR, Objective, TrainedMetric
from nas.core.trial import Evaluation, Trial, TrialState
from nas.sampling.problem import CURVE, FIGURES, InformedSampler, Problem

optuna.logging.set_verbosity(optuna.logging.WARNING)

STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}
"""Optuna's state for each of ours."""
CONSTRAINT = "constraints:"
"""Prefix of the system attributes in which Optuna 5 stores constraints. The constraint `name` is
`constraints:name`, and at most 0 is feasible.
"""
OF_STUDY = "study:"
"""Prefix in the record for what a sampler stores with the study, as NSGA-II stores the parents of a
generation. It is recorded with the trial in whose proposal it arose.
"""


class Rebuilt(FrozenTrial):
    """A trial that Optuna's storage may keep without a copy, because no other code holds it.

    Copying each trial deeply takes most of the time of rebuilding, and would give each trial
    distributions of its own.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Proposer:
    """Proposes params for new trials and learns their results.

    `counts` returns all counts of an architecture, by metric, for informed samplers. `trained` are
    the metrics that require training, by name.
    """

    def __init__(
        self,
        *,
        space: SearchSpace,
        objectives: Sequence[Objective],
        make_sampler: Callable[[int], optuna.samplers.BaseSampler],
        seed: int,
        counts: Callable[[Architecture], Mapping[str, float]] = lambda _: {},
        trained: Mapping[str, TrainedMetric] = MappingProxyType({ERROR.name: ERROR}),
    ) -> None:
        self._choices = {choice.name: choice for choice in space.choices}
        self._distributions = {name: distribution(choice) for name, choice in self._choices.items()}
        self._objectives = objectives
        self._make_sampler = make_sampler
        self._seed = seed
        self._problem = Problem(
            choices=space.choices,
            objectives=objectives,
            distributions=self._distributions,
            identify=lambda params: decoded(space, params).digest,
            counts=lambda params: counts(decoded(space, params)),
            trained=trained,
        )
        self._ignores_trials = isinstance(self._sampler(seed), optuna.samplers.RandomSampler)
        self._study = self._new_study()
        self._count = 0

    def rebuild(self, trials: Iterable[Trial]) -> None:
        """Add the recorded trials, or the next part of them, in order of their numbers from 0."""
        now = datetime.now()  # noqa: DTZ005 - as Optuna keeps times
        for trial in trials:
            self._count += 1
            if not self._ignores_trials:
                self._study.add_trial(self._rebuilt(trial, now))

    def _rebuilt(self, trial: Trial, now: datetime) -> Rebuilt:
        """Return the trial for Optuna, and store what its sampler had stored with the study."""
        of_trial = {}
        for key, value in trial.sampler_state.items():
            if key.startswith(OF_STUDY):
                self._storage.set_study_system_attr(self._id, key.removeprefix(OF_STUDY), value)
            else:
                of_trial[key] = value
        return self._frozen(
            trial.number,
            STATES[trial.state],
            trial.params,
            now,
            values=self._values(trial) if trial.state is TrialState.COMPLETE else None,
            user_attrs=self._user_attributes(trial),
            system_attrs={**of_trial, **self._constraints(trial)},
        )

    def _frozen(
        self, number: int, state: OptunaState, params: Params, now: datetime, **results: Any
    ) -> Rebuilt:
        """Return a trial for Optuna, which has no results unless they are given."""
        nothing: dict[str, Any] = {"values": None, "user_attrs": {}, "system_attrs": {}}
        return Rebuilt(
            number=number,
            trial_id=number,
            state=state,
            params=self._indices(params),
            distributions=self._distributions,
            value=None,
            intermediate_values={},
            datetime_start=now,
            datetime_complete=None if state is OptunaState.RUNNING else now,
            **{**nothing, **results},
        )

    def ask(self, start: Params | None = None) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Return the number of a new trial, its params, and the sampler state to record with it.

        With `start` the new trial has these params, and the sampler is not asked.
        """
        number = self._count
        self._count += 1
        if start is not None:
            if not self._ignores_trials:
                now = datetime.now()  # noqa: DTZ005 - as Optuna keeps times
                self._study.add_trial(self._frozen(number, OptunaState.RUNNING, start, now))
            return number, dict(start), {}
        if self._ignores_trials:
            self._study = self._new_study()
        attributes_before = set(self._storage.get_study_system_attrs(self._id))
        self._study.sampler = self._sampler(derived_seed("proposal", self._seed, number))
        asked = self._study.ask(self._distributions)
        params = {
            name: choice.values[asked.params[name]] if choice.ordered else asked.params[name]
            for name, choice in self._choices.items()
        }
        of_trial = self._study.get_trials(deepcopy=False)[asked.number].system_attrs
        of_study = {
            f"{OF_STUDY}{key}": value
            for key, value in self._storage.get_study_system_attrs(self._id).items()
            if key not in attributes_before
        }
        return number, params, {**of_trial, **of_study}

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended that was asked for, or rebuilt as running."""
        if self._ignores_trials:
            return
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        live = optuna.trial.Trial(self._study, frozen._trial_id)  # noqa: SLF001 - the only way to a live trial
        for key, value in self._constraints(trial).items():
            live.set_constraint(key.removeprefix(CONSTRAINT), value)
        for key, attribute in self._user_attributes(trial).items():
            live.set_user_attr(key, attribute)
        state = STATES[trial.state]
        self._study.tell(
            trial.number,
            self._values(trial) if state is OptunaState.COMPLETE else None,
            state=state,
        )

    def skips(self, trial: Trial) -> bool:
        """Return whether the sampler would rather train another network than this trial's, whose
        costs are measured. Only informed samplers can.
        """
        sampler = self._sampler(derived_seed("measured", self._seed, trial.number))
        if not isinstance(sampler, InformedSampler):
            return False
        others = [t for t in self._study.get_trials(deepcopy=False) if t.number != trial.number]
        network = np.array(self._problem.vector(self._indices(trial.params)))
        return sampler.skips(others, network, self._measured_figures(trial))

    def _new_study(self) -> optuna.Study:
        directions = [StudyDirection[each.direction.name] for each in self._objectives]
        return optuna.create_study(directions=directions, sampler=self._sampler(self._seed))

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = self._make_sampler(seed)
        if isinstance(sampler, InformedSampler):
            sampler.problem = self._problem
        return sampler

    @property
    def _storage(self) -> optuna.storages.BaseStorage:
        return self._study._storage  # noqa: SLF001 - where samplers themselves store their state

    @property
    def _id(self) -> int:
        return self._study._study_id  # noqa: SLF001 - as above

    def _indices(self, params: Params) -> dict[str, Any]:
        return {
            name: position_or_value(self._choices[name], value) for name, value in params.items()
        }

    def _values(self, trial: Trial) -> list[float]:
        values = [trial.evaluation.value(objective.key) for objective in self._objectives]
        return [float(value) for value in values if value is not None]

    def _user_attributes(self, trial: Trial) -> dict[str, Any]:
        """Return the curve of the modelled metric, and the figures of a trial that ended early.

        Trials that run or have failed have none.
        """
        if trial.state not in (TrialState.COMPLETE, TrialState.STOPPED):
            return {}
        attributes: dict[str, Any] = {}
        if trial.evaluation.rungs:
            attributes[CURVE] = self._curve(trial)
        if trial.state is TrialState.STOPPED:
            attributes[FIGURES] = self._measured_figures(trial)
        return attributes

    def _curve(self, trial: Trial) -> list[float]:
        """Return the shortfalls of the modelled metric at the trial's rungs, if there is one."""
        metric = self._problem.modelled
        if metric is None:
            return []
        return [metric.shortfall(rung.metrics[metric.name]) for rung in trial.evaluation.rungs]

    def _measured_figures(self, trial: Trial) -> dict[str, float]:
        values = {o.key: trial.evaluation.value(o.key) for o in self._objectives}
        return {metric: value for metric, value in values.items() if value is not None}

    def _constraints(self, trial: Trial) -> Mapping[str, float]:
        if trial.state is TrialState.RUNNING:
            return {}
        return constraints(self._objectives, trial.evaluation)


def constraints(objectives: Sequence[Objective], evaluation: Evaluation) -> dict[str, float]:
    """Return how far each limited objective that has a value is over its limit, as a loss, by
    Optuna's system attribute.
    """
    excesses = {}
    for objective in objectives:
        value = evaluation.value(objective.key)
        if value is not None and objective.limit is not None:
            excess = objective.loss(value) - objective.loss(objective.limit)
            excesses[f"{CONSTRAINT}{objective.key}"] = excess
    return excesses


def distribution(choice: Choice) -> BaseDistribution:
    """Return the choice for Optuna. Ordered values are positions, so that neighbours stay
    neighbours, however far apart their values are.
    """
    if choice.ordered:
        return IntDistribution(0, len(choice.values) - 1)
    return CategoricalDistribution(choice.values)


def position_or_value(choice: Choice, value: Value) -> Value:
    """Return this value of the choice as `distribution` has it."""
    return choice.values.index(value) if choice.ordered else value
