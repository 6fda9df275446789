"""The samplers that ship, each a function from a seed to an Optuna sampler. Group `nas.samplers`.

A sampler is made anew for every proposal, so it must keep what it needs in the Optuna study, as Optuna's do.
"""

from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

POPULATION = 20
"""With Optuna's default of 50 the first 50 trials are random search; at the 50 to 300 trials of a search by training
smaller generations do better."""


class _RebuildableNsga2(NSGAIISampler):
    """Optuna hands parents over in one order when it selects them and in another when it remembers them; a study
    rebuilt from the record remembers nothing, so here the order is always that of their numbers."""

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().get_parent_population(study, generation), key=lambda trial: trial.number)


class _RebuildableNsga3(NSGAIIISampler):
    """As NSGA-II's; its selection also draws random numbers, which here depend on the generation alone."""

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().get_parent_population(study, generation), key=lambda trial: trial.number)

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        self.get_parent_population(study, generation - 1)  # now remembered by the study
        return NSGAIIISampler(seed=generation, population_size=POPULATION).select_parent(study, generation)


def random(seed: int) -> BaseSampler:
    """Uniform over all choices."""
    return RandomSampler(seed=seed)


def tpe(seed: int) -> BaseSampler:
    """Multi-objective tree-structured Parzen estimator; running trials repel it."""
    return TPESampler(seed=seed, constant_liar=True)


def nsga2(seed: int) -> BaseSampler:
    """NSGA-II in generations of 20."""
    return _RebuildableNsga2(seed=seed, population_size=POPULATION)


def nsga3(seed: int) -> BaseSampler:
    """NSGA-III in generations of 20."""
    return _RebuildableNsga3(seed=seed, population_size=POPULATION)


def gp(seed: int) -> BaseSampler:
    """Gaussian processes with expected hypervolume improvement; about a second per proposal, up to some 500 trials."""
    return GPSampler(seed=seed, deterministic_objective=False)
