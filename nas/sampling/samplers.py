"""The samplers that ship, each a function from a seed to an Optuna sampler. Group `nas.samplers`.

A sampler is made anew for every proposal, so it must keep what it needs in the Optuna study, as
Optuna's do.
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
"""With Optuna's default of 50 the first 50 trials are random search; at the 50 to 300 trials of a
search by training smaller generations do better.
"""


class _InOrder:
    """Optuna hands parents over in one order when it selects them and in another when it remembers
    them; here the order is always that of their numbers.
    """

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        found: list[FrozenTrial] = super().get_parent_population(study, generation)  # type: ignore[misc]
        return sorted(found, key=lambda trial: trial.number)


class _Nsga2(_InOrder, NSGAIISampler):
    """NSGA-II whose proposals do not depend on whether the study was rebuilt."""


class _Nsga3(_InOrder, NSGAIIISampler):
    """NSGA-III whose proposals do not depend on whether the study was rebuilt."""


def random(seed: int) -> BaseSampler:
    """Uniform over all choices."""
    return RandomSampler(seed=seed)


def tpe(seed: int) -> BaseSampler:
    """Multi-objective tree-structured Parzen estimator; running trials repel it."""
    return TPESampler(seed=seed, constant_liar=True)


def nsga2(seed: int) -> BaseSampler:
    """NSGA-II in generations of 20."""
    return _Nsga2(seed=seed, population_size=POPULATION)


def nsga3(seed: int) -> BaseSampler:
    """NSGA-III in generations of 20."""
    return _Nsga3(seed=seed, population_size=POPULATION)


def gp(seed: int) -> BaseSampler:
    """Gaussian processes with expected hypervolume improvement; about a second per proposal, up to
    some 500 trials.
    """
    return GPSampler(seed=seed, deterministic_objective=False)
