"""The Optuna samplers of group `nas.samplers`, each a function from a seed to a sampler.

A new sampler is made for every proposal. It must therefore store its state in the Optuna study, as
Optuna's samplers do.
"""

from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

POPULATION = 20
"""Trials of a generation. With Optuna's default of 50 the first 50 trials are random search;
smaller generations do better at the 50 to 300 trials of a search that trains.
"""


class _InOrder:
    """A mix-in that returns parents in the order of their numbers.

    Optuna returns parents in one order when it selects them and in another when it reads them back.
    """

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        parents: list[FrozenTrial] = super().get_parent_population(study, generation)  # type: ignore[misc]
        return sorted(parents, key=lambda trial: trial.number)


class _Nsga2(_InOrder, NSGAIISampler):
    """NSGA-II whose proposals do not depend on whether the study was rebuilt."""


class _Nsga3(_InOrder, NSGAIIISampler):
    """NSGA-III whose proposals do not depend on whether the study was rebuilt."""


def random(seed: int) -> BaseSampler:
    """Sample all choices uniformly."""
    return RandomSampler(seed=seed)


def tpe(seed: int) -> BaseSampler:
    """Sample by a multi-objective tree-structured Parzen estimator, away from running trials."""
    return TPESampler(seed=seed, constant_liar=True)


def nsga2(seed: int) -> BaseSampler:
    """Sample by NSGA-II in generations of 20."""
    return _Nsga2(seed=seed, population_size=POPULATION)


def nsga3(seed: int) -> BaseSampler:
    """Sample by NSGA-III in generations of 20."""
    return _Nsga3(seed=seed, population_size=POPULATION)


def gp(seed: int) -> BaseSampler:
    """Sample by Gaussian processes and expected hypervolume improvement.

    A proposal takes about a second, up to some 500 trials.
    """
    return GPSampler(seed=seed, deterministic_objective=False)
