"""The sampler `known-cost`: training is what a search pays for, and every cost of a network is known before it.

One proposal: a pool of random networks and of mutants of the front; their counts by arithmetic and their other costs as
predicted from what was measured; the limits; a Gaussian process on the logarithm of the validation error; the network
with the largest expected hypervolume improvement, which is exact because nothing but the error is uncertain. Running
trials count as if they had ended at their posterior mean.

The first trials are those of `random` with the same seed. A study without a cost, or without the error, mutates its
front instead. A proposal is a function of the trials and the seed: fits are remembered only by the very data that they
were made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from nas.pareto import ranks
from nas.sampling.gaussian_process import GaussianProcess, Hyperparameters, fit
from nas.sampling.improvement import expected_improvement
from nas.sampling.mutation import MutateFront, first_new, mutants, vectors_of
from nas.sampling.problem import FIGURES, TRAINED, InformedSampler, Problem, Vectors
from nas.study import Direction

Array = NDArray[np.float64]

NEIGHBOURS, NEAR, FRESH = 40, 400, 100
"""Mutants of each front member, the same ones as long as it is one, so that their counts are remembered; of all of them
together; and new ones for each proposal."""
FIRST = 4
"""Random trials before the model proposes. Spread over the costs instead they are better on some landscapes and worse
than random on others; from the eighth on it makes no difference (four landscapes, 16 seeds)."""
REFIT = 5
FITTED = 120
"""At most so many points choose the hyperparameters; the posterior uses all."""
ENOUGH = 4
"""Figures that a model needs."""
WORST = 1.5
"""Errors beyond so many times the reference tell the model nothing more."""
SMALLEST = 1e-4
COST_SCALE = 0.5
"""Standard deviation of a log-cost among the inputs, where a choice's two values are 1 apart."""


@lru_cache(maxsize=64)
def _remembered(inputs: bytes, outputs: bytes, groups: bytes, near: bytes) -> Hyperparameters:
    y, g = np.frombuffer(outputs), np.frombuffer(groups, dtype=np.int64)
    known = Hyperparameters.of(np.frombuffer(near)) if near else None
    return fit(np.frombuffer(inputs).reshape(len(y), -1), y, g, known)


def _hyperparameters(inputs: Array, outputs: Array, groups: NDArray[np.int64], count: int) -> Hyperparameters:
    """For the first `count` points. They change only every few points, later ever more rarely."""
    step = max(REFIT, count // 10)
    used = max(count // step * step, min(count, 2 * FIRST))
    near = _hyperparameters(inputs, outputs, groups, used // 2).vector.tobytes() if used >= 4 * REFIT else b""
    chosen = np.unique(np.linspace(0, used - 1, min(used, FITTED)).round().astype(int))
    return _remembered(inputs[chosen].tobytes(), outputs[chosen].tobytes(), groups.tobytes(), near)


def _process(inputs: Array, outputs: Array, groups: NDArray[np.int64]) -> GaussianProcess:
    return GaussianProcess(inputs=inputs, outputs=outputs, groups=groups,
                           hyperparameters=_hyperparameters(inputs, outputs, groups, len(outputs)))


@dataclass(frozen=True, eq=False)
class Encoder:
    """Networks as inputs of a model: every value of a choice its own column, ordered choices also by position, and
    the logarithms of the counts."""

    problem: Problem

    def __call__(self, vectors: Vectors) -> Array:
        """(n, d) to (n, columns)."""
        columns = [np.eye(size)[vectors[:, i]] / np.sqrt(2) for i, size in enumerate(self.problem.sizes)]
        columns += [vectors[:, [i]] / (self.problem.sizes[i] - 1) for i in self._ordered]
        mean, deviation = self._counts
        columns.append((self._logarithms(vectors) - mean) / deviation * COST_SCALE)
        return np.concatenate(columns, axis=1)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """The length scale of each column."""
        sizes = self.problem.sizes
        single = len(self._ordered) + self._logarithms(self.problem.sample[:1]).shape[1]
        return np.concatenate([np.repeat(np.arange(len(sizes)), sizes), len(sizes) + np.arange(single)])

    @cached_property
    def _ordered(self) -> list[int]:
        """Choices whose values have neighbours, where there are so many that it matters."""
        return [i for i, choice in enumerate(self.problem.choices) if choice.ordered and len(choice.values) > 4]

    @cached_property
    def _counts(self) -> tuple[Array, Array]:
        known = self._logarithms(self.problem.sample)
        deviation = known.std(axis=0)
        return known.mean(axis=0), np.where(deviation > 0, deviation, 1.0)

    def _logarithms(self, vectors: Vectors) -> Array:
        counts = self.problem.counted(vectors)
        return np.log(np.column_stack(list(counts.values()))) if counts else np.zeros((len(vectors), 0))


@lru_cache(maxsize=8)
def _encoder(problem: Problem) -> Encoder:
    return Encoder(problem)


@lru_cache(maxsize=10_000)
def _neighbours(problem: Problem, member: tuple[int, ...]) -> Vectors:
    return mutants(problem, np.array([member]), NEIGHBOURS, np.random.default_rng(member))


class KnownCost(InformedSampler):
    """Expected hypervolume improvement where all costs are known."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def propose(self, trials: Sequence[FrozenTrial]) -> Vectors:
        """One network (d,)."""
        problem = self.problem
        metrics = {o.metric: o.direction for o in problem.objectives}
        if len(metrics) == 1 or metrics.get(TRAINED) is not Direction.MINIMIZE:
            other = MutateFront(self._seed)
            other.problem = problem
            return other.propose(trials)
        known = _Knowledge(problem, trials)
        if known.enough:
            candidates = known.best(known.pool(self.rng))
        else:
            candidates = known.allowed(np.concatenate([[self._uniform()], problem.random(200, self.rng)]))
        found = first_new(problem, candidates, known.vectors)
        return problem.random(1, self.rng)[0] if found is None else found

    def _uniform(self) -> tuple[int, ...]:
        """What `random` proposes."""
        other = RandomSampler(self._seed)
        return self.problem.vector({name: other.sample_independent(None, None, name, each)  # type: ignore[arg-type]
                                    for name, each in self.problem.distributions.items()})


class _Knowledge:
    """What the trials say about this problem."""

    def __init__(self, problem: Problem, trials: Sequence[FrozenTrial]) -> None:
        self.problem = problem
        self.encode = _encoder(problem)
        self.vectors = vectors_of(problem, trials)
        self._trials = trials
        self._costs = [o for o in problem.objectives if o.metric != TRAINED]
        self._error = next(o for o in problem.objectives if o.metric == TRAINED)
        self._figures = [self._figures_of(trial) for trial in trials]
        distinct = {tuple(v): i for i, v in reversed(list(enumerate(self.vectors.tolist())))}
        self._first = sorted(distinct.values())

    def _figures_of(self, trial: FrozenTrial) -> dict[str, float]:
        if trial.state is TrialState.COMPLETE:
            return {o.metric: v for o, v in zip(self.problem.objectives, trial.values, strict=True)}
        measured: dict[str, float] = trial.user_attrs.get(FIGURES, {})
        return {name: value for name, value in measured.items() if name != TRAINED}

    def _with(self, metric: str) -> list[int]:
        """The trials that have a figure of this metric, one for each network."""
        return [i for i in self._first if metric in self._figures[i]]

    @cached_property
    def _running(self) -> list[int]:
        return [i for i in self._first if self._trials[i].state is TrialState.RUNNING]

    @cached_property
    def _counted(self) -> set[str]:
        return set(self.problem.counted(self.problem.sample[:1]))

    @property
    def enough(self) -> bool:
        """Whether the first trials are over and all models can be made."""
        needed = [TRAINED, *(o.metric for o in self._costs if o.metric not in self._counted)]
        return len(self._first) >= FIRST and all(len(self._with(metric)) >= ENOUGH for metric in needed)

    def allowed(self, candidates: Vectors) -> Vectors:
        """The candidates by how much their counts break the limits, otherwise as they are."""
        over = self._violations(self.problem.counted(candidates))
        order = over.argsort(kind="stable")
        return candidates[order] if over.any() else candidates

    def _violations(self, costs: dict[str, Array]) -> Array:
        """By how much each network breaks the limits of these costs, (n,), as shares of them."""
        total = np.zeros(max(map(len, costs.values()), default=0))
        for objective in self._costs:
            if objective.limit is not None and objective.metric in costs:
                beyond = [objective.violation(float(value)) for value in costs[objective.metric]]
                total += np.array(beyond)
        return total

    def _cost_values(self, vectors: Vectors) -> dict[str, Array]:
        """All costs of these networks in the metrics' units: counted, or predicted from what was measured."""
        known = self.problem.counted(vectors)
        return {o.metric: known[o.metric] if o.metric in known else self._predicted(o.metric, vectors)
                for o in self._costs}

    def _predicted(self, metric: str, vectors: Vectors) -> Array:
        return np.exp(self._model_of(metric).mean(self.encode(vectors)))

    @lru_cache(maxsize=8)  # noqa: B019 - lives as long as one proposal
    def _model_of(self, metric: str) -> GaussianProcess:
        measured = self._with(metric)
        values = np.array([self._figures[i][metric] for i in measured])
        return _process(self.encode(self.vectors[measured]), np.log(np.maximum(values, values.max() * 1e-9)),
                        self.encode.groups)

    def _losses(self, costs: dict[str, Array]) -> Array:
        return np.column_stack([costs[o.metric] if o.direction is Direction.MINIMIZE else -costs[o.metric]
                                for o in self._costs])

    @cached_property
    def _observed(self) -> tuple[list[int], Array, Array]:
        """Finished trials, their log-errors, and the losses of their costs."""
        done = self._with(TRAINED)
        errors = np.log([max(self._figures[i][TRAINED], SMALLEST) for i in done])
        costs = np.array([[o.loss(self._figures[i][o.metric]) for o in self._costs] for i in done])
        return done, errors, costs

    @cached_property
    def reference(self) -> Array:
        """Log-error, then the costs' losses: the user's, or a tenth beyond the front where there is none."""
        _, errors, costs = self._observed
        points = np.column_stack([errors, costs])
        front = points[ranks(points) == 0]
        low, high = front.min(axis=0), front.max(axis=0)
        own = high + 0.1 * (high - low)
        for i, objective in enumerate((self._error, *self._costs)):
            given = [objective.loss(v) for v in (objective.reference, objective.limit) if v is not None]
            if given:
                own[i] = min(given) if i else np.log(max(*given, SMALLEST))
        return np.asarray(own)

    @cached_property
    def _model(self) -> GaussianProcess:
        """Of the log-error; running trials make it surer, not better."""
        done, errors, _ = self._observed
        inputs = self.encode(self.vectors[done])
        process = _process(inputs, np.minimum(errors, self.reference[0] + np.log(WORST)), self.encode.groups)
        if not self._running:
            return process
        waiting = self.encode(self.vectors[self._running])
        return GaussianProcess(
            inputs=np.concatenate([inputs, waiting]), groups=process.groups,
            outputs=np.concatenate([process.outputs, process.mean(waiting)]),
            hyperparameters=process.hyperparameters)

    @cached_property
    def front(self) -> tuple[Vectors, Array]:
        """The networks of the front and their losses; a running one's error is the posterior mean.

        Observed errors, not smoothed ones, with one training shown: on Channel-Bench ResNet .892 against .880 at 50
        evaluations, but on NAS-Bench-Macro .959 against .968 (8 seeds each). Which is better depends on the noise.
        """
        done, error, costs = self._observed
        if self._running:
            waiting = self.vectors[self._running]
            costs = np.concatenate([costs, self._losses(self._cost_values(waiting))])
            error = np.concatenate([error, self._model.mean(self.encode(waiting))])
        vectors = self.vectors[[*done, *self._running]]
        points = np.column_stack([error, costs])
        inside = (points < self.reference).all(axis=1)
        kept = inside if inside.any() else np.ones(len(points), dtype=bool)
        best = ranks(points[kept]) == 0
        return vectors[kept][best], points[kept][best]

    def pool(self, rng: np.random.Generator) -> Vectors:
        """Random networks and mutants of the front, without those that were tried."""
        members = self.front[0]
        around = np.concatenate([_neighbours(self.problem, tuple(member)) for member in members.tolist()])
        near = rng.permutation(around)[:NEAR]
        candidates = np.concatenate([self.problem.sample, near, mutants(self.problem, members, FRESH, rng)])
        candidates = np.unique(candidates, axis=0)
        tried = set(map(tuple, self.vectors.tolist()))
        fresh = candidates[[tuple(candidate) not in tried for candidate in candidates.tolist()]]
        return fresh if len(fresh) else candidates

    def best(self, candidates: Vectors) -> Vectors:
        """The candidates within the limits, best first; the least violating first where none is within."""
        costs = self._cost_values(candidates)
        over = self._violations(costs)
        if not (over == 0).any():
            return candidates[over.argsort(kind="stable")]
        candidates, losses = candidates[over == 0], self._losses(costs)[over == 0]
        mean, deviation = self._model.predict(self.encode(candidates))
        gain = expected_improvement(mean=mean, deviation=deviation, costs=losses, front=self.front[1],
                                    reference=self.reference)
        return candidates[np.lexsort((mean, -gain))]


def known_cost(seed: int) -> KnownCost:
    """Trains the network with the largest expected gain in hypervolume, all costs known."""
    return KnownCost(seed)
