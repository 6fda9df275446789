"""A synthetic error for every network of an OSA space, to compare samplers on spaces for which no
table exists: tables have at most 8 choices, OSA spaces 15 to 25.

Nothing here is a measurement of a network. Costs are true counts (MACs, parameters; 224 pixels,
1000 classes). The error in percent is `MIN_ERROR + SPAN * capacity ** -EXPONENT *
exp(RUGGEDNESS * r)`. Capacity is the geometric mean of MACs and parameters, 1 for the median of
random networks. `r` has mean 0 and variance 1 over the space, and sums terms that are drawn once:

* the effect of each choice alone: for an ordered choice a parabola around a random best position,
  for another one a random number for each value;
* `PARTNERS` interactions of each choice with random others: a random number for each pair of
  values, as in Kauffman's NK landscapes, so that neighbours of good networks are often bad.

Both kinds contribute half of the variance. Therefore the error falls with capacity, as that of
trained networks does, and differs by factors between networks of equal costs. `SEEDS` trainings
scatter by `NOISE` of the error. The hypervolume's reference is `MAX_ERROR` percent, with the costs
that a quarter of random networks exceed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from nas.core.complexity import totals
from nas.core.dominance import hypervolume, ranks
from nas.core.search_space import Params, SearchSpace
from nas.core.study import ERROR, Objective
from nas.sampling.mutation import mutants
from nas.sampling.problem import Problem, Vectors
from nas.sampling.proposer import distribution

Array = NDArray[np.float64]
Network = tuple[int, ...]

MIN_ERROR, SPAN, EXPONENT = 15.0, 12.0, 0.35
"""Coefficients of the error in percent by capacity."""
RUGGEDNESS = 0.25
"""Standard deviation of the error's logarithm among networks of equal capacity, about."""
PARTNERS = 2
"""Interactions of each choice."""
SEEDS, NOISE = 3, 0.01
"""Trainings of each network, and their relative scatter."""
COSTS = ("macs", "parameters")
"""Counted costs."""
IMAGE_SIZE, CLASSES = 224, 1000
"""Image side in pixels and number of classes for which costs are counted."""
MAX_ERROR = 30.0
"""Reference of the error in percent."""
GENERATIONS, CHILDREN = 200, 200
"""Size of the mutation search whose front stands for the true front, which is unknown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticError:
    """A `BenchmarkProblem` with the networks of `space`, a synthetic error and counted costs."""

    space: SearchSpace
    name: str
    seed: int = 0

    def __reduce__(self) -> tuple[object, ...]:
        """Use one object for all runs of a process, because the best known front takes seconds."""
        return synthetic_error, (self.space, self.name, self.seed)

    @property
    def key(self) -> str:
        """Key under which results are stored."""
        return self.name

    def problem(self, *, with_reference: bool) -> Problem:
        """Return what a sampler receives."""
        references = self.reference if with_reference else [None] * (1 + len(COSTS))
        objectives = [
            Objective(metric=n, reference=r)
            for n, r in zip((ERROR.name, *COSTS), references, strict=True)
        ]
        return replace(self._problem, objectives=objectives)

    def errors_of(self, network: Network) -> Array:
        """Return the error in percent for each training."""
        errors, _ = self._evaluation(network)
        return errors

    def costs_of(self, network: Network) -> Array:
        """Return MACs and parameters."""
        _, costs = self._evaluation(network)
        return costs

    def canonical(self, network: Network) -> Network:
        """Return the vector as it is, so that results stored earlier stay equal."""
        return network

    def hypervolume(self, networks: Sequence[Network]) -> float:
        """Return the hypervolume of these networks, as a share of the best known front's."""
        return self._volume(networks) / self._best_volume

    def _volume(self, networks: Sequence[Network]) -> float:
        return hypervolume(self._losses(networks), self.reference)

    def _losses(self, networks: Sequence[Network]) -> Array:
        evaluations = map(self._evaluation, networks)
        return np.array([[errors.mean(), *costs] for errors, costs in evaluations])

    def _counts(self, params: Params) -> dict[str, float]:
        return totals(self.space.decode(params), IMAGE_SIZE, CLASSES)

    @cached_property
    def _problem(self) -> Problem:
        return Problem(
            choices=self.space.choices,
            distributions={c.name: distribution(c) for c in self.space.choices},
            identify=lambda params: self.space.decode(params).digest,
            counts=self._counts,
            objectives=[],
        )

    @cached_property
    def reference(self) -> list[float]:
        """Error, MACs and parameters of the reference point."""
        return [MAX_ERROR, *np.quantile(self._random_costs, 0.75, axis=0).tolist()]

    @cached_property
    def _random_costs(self) -> Array:
        counts = self._problem.counted(self._problem.sample)
        return np.column_stack([counts[name] for name in COSTS])

    @cached_property
    def _best_volume(self) -> float:
        """Hypervolume that a long mutation search reaches."""
        rng = np.random.default_rng(self.seed)
        networks: Vectors = self._problem.random(10 * CHILDREN, rng)
        for _ in range(GENERATIONS):
            losses = self._losses(_keys(networks))
            inside = (losses < self.reference).all(axis=1)
            front = networks[inside][ranks(losses[inside]) == 0]
            children = mutants(self._problem, front, CHILDREN, rng)
            networks = np.unique(np.concatenate([front, children]), axis=0)
        return self._volume(_keys(networks))

    @cached_property
    def _evaluation(self) -> Callable[[Network], tuple[Array, Array]]:
        """Cached function from a network to its errors and costs."""
        return lru_cache(maxsize=100_000)(self._evaluate)

    def _evaluate(self, network: Network) -> tuple[Array, Array]:
        """Return errors and costs. All encodings of a network have the same errors."""
        architecture = self.space.decode(self._problem.params(np.array(network)))
        counts = totals(architecture, IMAGE_SIZE, CLASSES)
        costs = np.array([counts[name] for name in COSTS])
        canonical = self.space.encode(architecture.canonical)
        positions = [choice.values.index(canonical[choice.name]) for choice in self.space.choices]
        rugged = sum(table[tuple(positions[i] for i in choices)] for choices, table in self._terms)
        capacity = np.sqrt(np.prod(costs / np.median(self._random_costs, axis=0)))
        error = MIN_ERROR + SPAN * capacity**-EXPONENT * np.exp(RUGGEDNESS * rugged)
        scatter = np.random.default_rng([self.seed, *positions]).normal(1.0, NOISE, SEEDS)
        return error * scatter, costs

    @cached_property
    def _terms(self) -> list[tuple[tuple[int, ...], Array]]:
        """Terms of `r`: some choices, and a number for each combination of their values."""
        rng = np.random.default_rng(self.seed)
        choices = self.space.choices
        single: list[tuple[tuple[int, ...], Array]] = []
        joint: list[tuple[tuple[int, ...], Array]] = []
        for i, choice in enumerate(choices):
            size = len(choice.values)
            best = rng.uniform(0, size - 1)
            if choice.ordered and size > 2:
                effect = np.asarray((np.arange(size) - best) ** 2, dtype=np.float64)
            else:
                effect = rng.normal(size=size)
            single.append(((i,), effect))
            others = rng.permutation([j for j in range(len(choices)) if j != i])
            joint += [
                ((i, j), rng.normal(size=(size, len(choices[j].values))))
                for j in others[:PARTNERS].tolist()
            ]
        return [*_scaled(single), *_scaled(joint)]


def _scaled(terms: list[tuple[tuple[int, ...], Array]]) -> list[tuple[tuple[int, ...], Array]]:
    """Scale the terms to mean 0 and, together, variance 1/2."""
    return [
        (choices, (table - table.mean()) / table.std() / np.sqrt(2 * len(terms)))
        for choices, table in terms
    ]


@lru_cache(maxsize=1)
def synthetic_error(space: SearchSpace, name: str, seed: int) -> SyntheticError:
    """Return the same object every time."""
    return SyntheticError(space=space, name=name, seed=seed)


def _keys(networks: Vectors) -> list[Network]:
    return [tuple(network) for network in networks.tolist()]
