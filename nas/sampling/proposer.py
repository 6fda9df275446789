"""One Optuna study in memory that mirrors the record: trial n there is trial n here.

A proposal depends on nothing but the record, the study's seed and the number of the new trial: the
sampler is made anew for each, with a seed of its own. So a search that was killed proposes what it
would have proposed anyway. A sampler that looks at no trial is shown none, and nothing is kept for
it.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from nas.core.architecture import Architecture
from nas.core.search_space import Choice, Params, SearchSpace
from nas.core.seeds import derived_seed
from nas.core.study import Direction, Objective
from nas.core.trial import Trial, TrialState
from nas.sampling.problem import CURVE, FIGURES, InformedSampler, Problem

optuna.logging.set_verbosity(optuna.logging.WARNING)

STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}
CONSTRAINT = "constraints:"
"""Optuna 5 keeps the constraint `name` as the system attribute `constraints:name`; at most 0 is
feasible.
"""
OF_STUDY = "study:"
"""Some samplers keep something with the study, as NSGA-II does the parents of a generation. The
record keeps it under this prefix with the trial in whose proposal it arose.
"""


class Rebuilt(FrozenTrial):
    """A trial that nobody else holds: Optuna's storage keeps it as it is. A deep copy of each takes
    most of the time of rebuilding, and each would have distributions of its own.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Proposer:
    """Proposes params for new trials and learns what became of them.

    `counts` is what arithmetic knows of an architecture, by metric, for informed samplers.
    """

    def __init__(
        self,
        *,
        space: SearchSpace,
        objectives: Sequence[Objective],
        make_sampler: Callable[[int], optuna.samplers.BaseSampler],
        seed: int,
        counts: Callable[[Architecture], Mapping[str, float]] = lambda _: {},
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
            identify=lambda params: space.decode(params).digest,
            counts=lambda params: counts(space.decode(params)),
        )
        self._directions = [
            StudyDirection.MINIMIZE
            if o.direction is Direction.MINIMIZE
            else StudyDirection.MAXIMIZE
            for o in objectives
        ]
        self._forgets = isinstance(self._sampler(seed), optuna.samplers.RandomSampler)
        self._study = self._new_study()
        self._known = 0

    def rebuild(self, trials: Iterable[Trial]) -> None:
        """Learn the record, or its next part, in order of the trials' numbers, from 0."""
        now = datetime.now()  # noqa: DTZ005 - as Optuna keeps times
        for trial in trials:
            self._known += 1
            if self._forgets:
                continue
            for key, value in trial.sampler_state.items():
                if key.startswith(OF_STUDY):
                    self._storage.set_study_system_attr(self._id, key.removeprefix(OF_STUDY), value)
            own = {
                key: value
                for key, value in trial.sampler_state.items()
                if not key.startswith(OF_STUDY)
            }
            self._study.add_trial(
                Rebuilt(
                    number=trial.number,
                    trial_id=trial.number,
                    state=STATES[trial.state],
                    params=self._indices(trial.params),
                    distributions=self._distributions,
                    value=None,
                    values=self._values(trial) if trial.state is TrialState.COMPLETE else None,
                    user_attrs=self._figures(trial),
                    system_attrs={**own, **self._constraints(trial)},
                    intermediate_values={},
                    datetime_start=now,
                    datetime_complete=None if trial.state is TrialState.RUNNING else now,
                )
            )

    def ask(self) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """The number of a new trial, its params, and what the sampler wants kept with it."""
        number = self._known
        self._known += 1
        if self._forgets:
            self._study = self._new_study()
        before = set(self._storage.get_study_system_attrs(self._id))
        self._study.sampler = self._sampler(derived_seed("proposal", self._seed, number))
        asked = self._study.ask(self._distributions)
        params = {
            name: self._choices[name].values[asked.params[name]]
            if self._choices[name].ordered
            else asked.params[name]
            for name in self._choices
        }
        own = self._study.get_trials(deepcopy=False)[asked.number].system_attrs
        of_study = {
            f"{OF_STUDY}{key}": value
            for key, value in self._storage.get_study_system_attrs(self._id).items()
            if key not in before
        }
        return number, params, {**own, **of_study}

    def tell(self, trial: Trial) -> None:
        """Learn how a trial that was asked for, or rebuilt as running, ended."""
        if self._forgets:
            return
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        live = optuna.trial.Trial(self._study, frozen._trial_id)  # noqa: SLF001 - the way back from a rebuilt trial
        for key, value in self._constraints(trial).items():
            live.set_constraint(key.removeprefix(CONSTRAINT), value)
        for key, figures in self._figures(trial).items():
            live.set_user_attr(key, figures)
        state = STATES[trial.state]
        self._study.tell(
            trial.number,
            self._values(trial) if state is OptunaState.COMPLETE else None,
            state=state,
        )

    def skips(self, trial: Trial) -> bool:
        """Whether an informed sampler would rather train another network than this one, whose costs
        are measured.
        """
        sampler = self._sampler(derived_seed("measured", self._seed, trial.number))
        if not isinstance(sampler, InformedSampler):
            return False
        others = [t for t in self._study.get_trials(deepcopy=False) if t.number != trial.number]
        network = np.array(self._problem.vector(self._indices(trial.params)))
        return sampler.skips(others, network, self._known_figures(trial))

    def _new_study(self) -> optuna.Study:
        return optuna.create_study(directions=self._directions, sampler=self._sampler(self._seed))

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = self._make_sampler(seed)
        if isinstance(sampler, InformedSampler):
            sampler.problem = self._problem
        return sampler

    @property
    def _storage(self) -> optuna.storages.BaseStorage:
        return self._study._storage  # noqa: SLF001 - where samplers themselves keep what they keep

    @property
    def _id(self) -> int:
        return self._study._study_id  # noqa: SLF001 - as above

    def _indices(self, params: Params) -> dict[str, Any]:
        return {
            name: self._choices[name].values.index(value) if self._choices[name].ordered else value
            for name, value in params.items()
        }

    def _values(self, trial: Trial) -> list[float]:
        values = [trial.evaluation.value(objective.metric) for objective in self._objectives]
        return [float(value) for value in values if value is not None]

    def _figures(self, trial: Trial) -> dict[str, Any]:
        """The errors at the rungs, and what was measured of a trial that ended early; a running one
        tells nothing.
        """
        if trial.state not in (TrialState.COMPLETE, TrialState.STOPPED):
            return {}
        curve = (
            {CURVE: [rung.error for rung in trial.evaluation.rungs]}
            if trial.evaluation.rungs
            else {}
        )
        if trial.state is TrialState.COMPLETE:
            return curve
        return {**curve, FIGURES: self._known_figures(trial)}

    def _known_figures(self, trial: Trial) -> dict[str, float]:
        known = {o.metric: trial.evaluation.value(o.metric) for o in self._objectives}
        return {metric: value for metric, value in known.items() if value is not None}

    def _constraints(self, trial: Trial) -> Mapping[str, float]:
        """How far each limited objective that has a value is beyond its limit, as a loss."""
        if trial.state is TrialState.RUNNING:
            return {}
        known = [
            (o, trial.evaluation.value(o.metric)) for o in self._objectives if o.limit is not None
        ]
        return {
            f"{CONSTRAINT}{o.metric}": o.loss(value) - o.loss(o.limit)
            for o, value in known
            if value is not None and o.limit is not None
        }


def distribution(choice: Choice) -> BaseDistribution:
    """Ordered values by their position, so that neighbours stay neighbours whatever the step
    between them.
    """
    if choice.ordered:
        return IntDistribution(0, len(choice.values) - 1)
    return CategoricalDistribution(choice.values)
