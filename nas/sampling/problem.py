"""The knowledge that a sampler has before anything is trained: the choices, the objectives, and
every count of a network.

Networks are vectors here, which hold the position of each choice's value, shape (d,).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.core.search_space import Choice, Params, Value
from nas.core.study import ERROR, Objective, TrainedMetric, modelled_metric

Vectors = NDArray[np.int64]
"""Networks, shape (n, d)."""
Counts = Mapping[str, float]
"""Counts of a network by metric."""
SAMPLE_SIZE = 256
"""Number of networks in `Problem.sample`."""
MAX_CACHED = 100_000
"""Number of networks whose counts are remembered, and whose identities."""
FIGURES = "figures"
"""User attribute of a trial that ended early: its measured figures, by metric."""
CURVE = "curve"
"""User attribute of a trained trial: the shortfalls of the modelled metric at the rungs that it
reached, in their order.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """The search problem that a sampler sees.

    `distributions` are the choices as Optuna has them, ordered ones by position. `identify` returns
    equal values for equal networks. `counts` returns all counts of a network, positive, by metric.
    `trained` are the metrics that require training, by name.
    """

    choices: Sequence[Choice]
    objectives: Sequence[Objective]
    distributions: Mapping[str, BaseDistribution]
    identify: Callable[[Params], Hashable]
    counts: Callable[[Params], Counts]
    trained: Mapping[str, TrainedMetric] = field(default_factory=lambda: {ERROR.name: ERROR})

    @cached_property
    def modelled(self) -> TrainedMetric | None:
        """The metric whose shortfall is modelled (`nas.core.study.modelled_metric`)."""
        return modelled_metric(self.objectives, self.trained)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Number of values of each choice, (d,)."""
        return np.array([len(choice.values) for choice in self.choices])

    @cached_property
    def sample(self) -> Vectors:
        """All networks of a small space, else random ones. They are the same every time."""
        if float(np.prod(self.sizes.astype(float))) <= SAMPLE_SIZE:
            positions = np.indices(tuple(self.sizes.tolist()))
            return np.asarray(positions.reshape(len(self.sizes), -1).T)
        return self.random(SAMPLE_SIZE, np.random.default_rng(0))

    def random(self, count: int, rng: np.random.Generator) -> Vectors:
        """Draw networks independently and uniformly."""
        return rng.integers(0, self.sizes, (count, len(self.sizes)))

    def params(self, vector: Vectors) -> dict[str, Value]:
        """Return the values at a vector's positions."""
        return {
            choice.name: choice.values[index]
            for choice, index in zip(self.choices, vector, strict=True)
        }

    def vector(self, optuna_params: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the network of an Optuna trial."""
        return tuple(positions[optuna_params[name]] for name, positions in self._positions.items())

    @cached_property
    def _positions(self) -> dict[str, dict[Value, int]]:
        """Position of each value that Optuna has. Ordered choices are positions already."""
        return {
            c.name: {i if c.ordered else value: i for i, value in enumerate(c.values)}
            for c in self.choices
        }

    def relative(self, vector: Vectors) -> dict[str, Value]:
        """Return the vector as Optuna's params."""
        return {
            c.name: int(index) if c.ordered else c.values[index]
            for c, index in zip(self.choices, vector, strict=True)
        }

    @cached_property
    def _cached_counts(self) -> Callable[[tuple[int, ...]], Counts]:
        return lru_cache(maxsize=MAX_CACHED)(lambda key: self.counts(self.params(np.array(key))))

    def counted(self, vectors: Vectors) -> dict[str, NDArray[np.float64]]:
        """Return every count of these networks, (n,) each."""
        rows = [self._cached_counts(tuple(vector)) for vector in vectors.tolist()]
        metrics = rows[0] if rows else {}
        return {metric: np.array([row[metric] for row in rows]) for metric in metrics}

    @cached_property
    def identity(self) -> Callable[[tuple[int, ...]], Hashable]:
        """Function from a vector to a value that is equal for equal networks."""
        return lru_cache(maxsize=MAX_CACHED)(lambda key: self.identify(self.params(np.array(key))))


class InformedSampler(BaseSampler):
    """A sampler that proposes whole networks.

    Its `problem` is set before it is asked.
    """

    problem: Problem

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all choices, which are sampled at once."""
        return dict(self.problem.distributions)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Value:
        """Raise `KeyError`: every choice was sampled, so only an unknown one can be left."""
        names = ", ".join(choice.name for choice in self.problem.choices)
        raise KeyError(f"no choice named {param_name}; there are: {names}")

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Value]:
        """Return the network that `propose` chose, as Optuna's params."""
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        return self.problem.relative(self.propose([t for t in others if t.params]))

    def propose(self, trials: Sequence[FrozenTrial]) -> Vectors:
        """Return one network (d,), given all trials before it."""
        raise NotImplementedError

    def skips(
        self, trials: Sequence[FrozenTrial], network: Vectors, costs: Mapping[str, float]
    ) -> bool:
        """Return whether another network should be trained instead of this one (d,).

        `costs` are its measured or counted costs by metric, `trials` are all other trials.
        """
        return False
