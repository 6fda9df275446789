"""What a sampler may know before anything is trained: the choices, the objectives, and every count
of a network.

Networks are vectors here: the position of each choice's value, shape (d,).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.core.search_space import Choice, Params, Value
from nas.core.study import Objective

Vectors = NDArray[np.int64]
"""Networks, shape (n, d)."""
Counts = Mapping[str, float]
SAMPLE = 256
TRAINED = "error"
"""The one metric that only training gives."""
CACHED = 100_000
FIGURES = "figures"
"""The user attribute in which a trial that ended early keeps what was measured of it, by metric."""
CURVE = "curve"
"""The user attribute in which a trained trial keeps its errors at the rungs that it reached, in
their order.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """`distributions` are the choices as Optuna has them, ordered ones by position; `identify`
    gives equal values for equal networks; `counts` is all that arithmetic knows of one, positive,
    by metric.
    """

    choices: Sequence[Choice]
    objectives: Sequence[Objective]
    distributions: Mapping[str, BaseDistribution]
    identify: Callable[[Params], Hashable]
    counts: Callable[[Params], Counts]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """How many values each choice has, (d,)."""
        return np.array([len(choice.values) for choice in self.choices])

    @cached_property
    def sample(self) -> Vectors:
        """The same networks every time: all of a small space, else random ones."""
        if float(np.prod(self.sizes.astype(float))) <= SAMPLE:
            return np.asarray(np.indices(tuple(self.sizes.tolist())).reshape(len(self.sizes), -1).T)
        return self.random(SAMPLE, np.random.default_rng(0))

    def random(self, count: int, rng: np.random.Generator) -> Vectors:
        """Independent uniform networks."""
        return rng.integers(0, self.sizes, (count, len(self.sizes)))

    def params(self, vector: Vectors) -> dict[str, Value]:
        """The values that a vector stands for."""
        return {
            choice.name: choice.values[index]
            for choice, index in zip(self.choices, vector, strict=True)
        }

    def vector(self, optuna_params: Mapping[str, Value]) -> tuple[int, ...]:
        """The network of an Optuna trial."""
        return tuple(where[optuna_params[name]] for name, where in self._positions.items())

    @cached_property
    def _positions(self) -> dict[str, dict[Value, int]]:
        """Where a value that Optuna knows stands; ordered ones are positions already."""
        return {
            c.name: {i if c.ordered else value: i for i, value in enumerate(c.values)}
            for c in self.choices
        }

    def relative(self, vector: Vectors) -> dict[str, Value]:
        """The vector as Optuna's params."""
        return {
            c.name: int(index) if c.ordered else c.values[index]
            for c, index in zip(self.choices, vector, strict=True)
        }

    @cached_property
    def _known(self) -> Callable[[tuple[int, ...]], Counts]:
        return lru_cache(maxsize=CACHED)(lambda key: self.counts(self.params(np.array(key))))

    def counted(self, vectors: Vectors) -> dict[str, NDArray[np.float64]]:
        """Every count of these networks, (n,) each."""
        rows = [self._known(tuple(vector)) for vector in vectors.tolist()]
        return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else {})}

    @cached_property
    def identity(self) -> Callable[[tuple[int, ...]], Hashable]:
        """What is equal for equal networks."""
        return lru_cache(maxsize=CACHED)(lambda key: self.identify(self.params(np.array(key))))


class InformedSampler(BaseSampler):
    """A sampler that is told the problem before it is asked. It proposes whole networks."""

    problem: Problem

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All choices at once."""
        return dict(self.problem.distributions)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Value:
        """Nothing is left to be sampled one by one, unless a stranger asks for more."""
        choices = {choice.name: choice for choice in self.problem.choices}
        message = f"no choice named {param_name}; there are: {', '.join(choices)}"
        raise KeyError(message)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Value]:
        """One network, by `propose`."""
        trials = [
            t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.params
        ]
        return self.problem.relative(self.propose(trials))

    def propose(self, trials: Sequence[FrozenTrial]) -> Vectors:
        """One network (d,), given all trials before it."""
        raise NotImplementedError

    def skips(
        self, trials: Sequence[FrozenTrial], network: Vectors, costs: Mapping[str, float]
    ) -> bool:
        """Whether, given all other trials, another network is worth more than training this one
        (d,), whose costs are known now, by metric.
        """
        return False
