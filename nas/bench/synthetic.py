"""A made-up but fixed error for every network of an OSA space, to try samplers where no table can
be had: tables have at most 8 choices, OSA spaces 15 to 25.

Nothing of it is a measurement of a network. Costs are true counts (MACs, parameters; 224 pixels,
1000 classes). The error in percent is `LEAST + SPAN * capacity ** -EXPONENT * exp(RUGGED * r)`,
where capacity is the geometric mean of MACs and parameters, 1 for the median of random networks,
and `r`, of mean 0 and variance 1 over the space, sums terms drawn once:

* each choice's own effect: of an ordered choice a parabola around a random best position, of
  another one a random number for each value;
* `PARTNERS` interactions of each choice with random others: for each pair of values a random
  number, as in Kauffman's NK landscapes, so that neighbours of good networks are often bad.

Both kinds contribute half of the variance. So the error falls with capacity, as that of trained
networks does, and differs by factors among networks of equal costs. `SEEDS` trainings scatter by
`NOISE` of the error. The hypervolume's reference is `WORST` percent and the costs that a quarter of
random networks exceed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from nas.core.complexity import totals
from nas.core.dominance import hypervolume, ranks
from nas.core.search_space import Params, SearchSpace
from nas.core.study import Objective
from nas.sampling.mutation import mutants
from nas.sampling.problem import TRAINED, Problem, Vectors
from nas.sampling.proposer import distribution

Array = NDArray[np.float64]
Network = tuple[int, ...]

LEAST, SPAN, EXPONENT = 15.0, 12.0, 0.35
RUGGED = 0.25
PARTNERS = 2
SEEDS, NOISE = 3, 0.01
COSTS = ("macs", "parameters")
IMAGE_SIZE, CLASSES = 224, 1000
WORST = 30.0
GENERATIONS, CHILDREN = 200, 200
"""Of a mutation search whose front is the yardstick, as the true front is unknown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeUp:
    """Errors and costs of the networks of `space`. A `Landscape` for contests."""

    space: SearchSpace
    name: str
    seed: int = 0

    def __reduce__(self) -> tuple[object, ...]:
        """In another process, one for all its runs: the yardstick takes seconds."""
        return made_up, (self.space, self.name, self.seed)

    @property
    def key(self) -> str:
        """What results are kept under."""
        return self.name

    def problem(self, *, tell_reference: bool) -> Problem:
        """What a sampler is told."""
        references = self.reference if tell_reference else [None] * (1 + len(COSTS))
        objectives = [
            Objective(metric=n, reference=r)
            for n, r in zip((TRAINED, *COSTS), references, strict=True)
        ]
        return replace(self._problem, objectives=objectives)

    def errors_of(self, network: Network) -> Array:
        """Percent by training."""
        return self._known(network)[0]

    def costs_of(self, network: Network) -> Array:
        """MACs and parameters."""
        return self._known(network)[1]

    def canonical(self, network: Network) -> Network:
        """As it is spelled: what was kept before is equal then."""
        return network

    def hypervolume(self, networks: Sequence[Network]) -> float:
        """Of these networks, as a share of the yardstick's."""
        return self._volume(networks) / self._whole

    def _volume(self, networks: Sequence[Network]) -> float:
        return hypervolume(self._losses(networks), self.reference)

    def _losses(self, networks: Sequence[Network]) -> Array:
        return np.array([[errors.mean(), *costs] for errors, costs in map(self._known, networks)])

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
        """Error, MACs, parameters: what is worse in one of them is of no interest."""
        return [WORST, *np.quantile(self._random_costs, 0.75, axis=0).tolist()]

    @cached_property
    def _random_costs(self) -> Array:
        counts = self._problem.counted(self._problem.sample)
        return np.column_stack([counts[name] for name in COSTS])

    @cached_property
    def _whole(self) -> float:
        """The hypervolume that a long mutation search finds."""
        rng = np.random.default_rng(self.seed)
        networks: Vectors = self._problem.random(10 * CHILDREN, rng)
        for _ in range(GENERATIONS):
            losses = self._losses(_keys(networks))
            inside = (losses < self.reference).all(axis=1)
            front = networks[inside][ranks(losses[inside]) == 0]
            networks = np.unique(
                np.concatenate([front, mutants(self._problem, front, CHILDREN, rng)]), axis=0
            )
        return self._volume(_keys(networks))

    @cached_property
    def _known(self) -> Callable[[Network], tuple[Array, Array]]:
        return lru_cache(maxsize=100_000)(self._evaluate)

    def _evaluate(self, network: Network) -> tuple[Array, Array]:
        """Errors, the same for all spellings of a network, and costs."""
        architecture = self.space.decode(self._problem.params(np.array(network)))
        counts = totals(architecture, IMAGE_SIZE, CLASSES)
        costs = np.array([counts[name] for name in COSTS])
        canonical = self.space.encode(architecture.canonical)
        place = [choice.values.index(canonical[choice.name]) for choice in self.space.choices]
        rugged = sum(table[tuple(place[i] for i in at)] for at, table in self._terms)
        capacity = np.sqrt(np.prod(costs / np.median(self._random_costs, axis=0)))
        error = LEAST + SPAN * capacity**-EXPONENT * np.exp(RUGGED * rugged)
        scatter = np.random.default_rng([self.seed, *place]).normal(1.0, NOISE, SEEDS)
        return error * scatter, costs

    @cached_property
    def _terms(self) -> list[tuple[tuple[int, ...], Array]]:
        """Choices, and what each of their combinations of values adds to `r`."""
        rng = np.random.default_rng(self.seed)
        choices = self.space.choices
        own, joint = [], []
        for i, choice in enumerate(choices):
            size = len(choice.values)
            best = rng.uniform(0, size - 1)
            effect = (
                (np.arange(size) - best) ** 2
                if choice.ordered and size > 2
                else rng.normal(size=size)
            )
            own.append(((i,), effect))
            others = rng.permutation([j for j in range(len(choices)) if j != i])[:PARTNERS]
            joint += [
                ((i, int(j)), rng.normal(size=(size, len(choices[j].values)))) for j in others
            ]
        return [
            (at, (table - table.mean()) / table.std() / np.sqrt(2 * len(kind)))
            for kind in (own, joint)
            for at, table in kind
        ]


@lru_cache(maxsize=1)
def made_up(space: SearchSpace, name: str, seed: int) -> MadeUp:
    """The same object every time."""
    return MadeUp(space=space, name=name, seed=seed)


def _keys(networks: Vectors) -> list[Network]:
    return [tuple(network) for network in networks.tolist()]
