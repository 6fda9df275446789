"""Change members of the front a little: the sampler `mutate_front`, and candidates for others."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nas.core.dominance import ranks
from nas.sampling.problem import InformedSampler, Problem, Vectors

INITIAL = 8
"""Random or stratified trials before anything is concluded from them."""
ATTEMPTS = 50
MOST_CHANGES = 3


def mutants(problem: Problem, parents: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """`count` networks, each a random parent with one to three of its choices set to other
    values.
    """
    children = parents[rng.integers(0, len(parents), count)]
    changes = rng.integers(1, MOST_CHANGES + 1, count)
    order = rng.random(children.shape).argsort(axis=1).argsort(axis=1)
    shifts = rng.integers(1, np.maximum(problem.sizes, 2), children.shape)
    return np.where(order < changes[:, None], (children + shifts) % problem.sizes, children)


def vectors_of(problem: Problem, trials: Sequence[FrozenTrial]) -> Vectors:
    """The trials' networks, (n, d)."""
    return np.array([problem.vector(t.params) for t in trials], dtype=np.int64).reshape(
        -1, len(problem.sizes)
    )


def first_new(problem: Problem, candidates: Vectors, tried: Vectors) -> Vectors | None:
    """The first candidate whose network is not among those tried, finished or running; None where
    all are.
    """
    seen = {problem.identity(tuple(vector)) for vector in tried.tolist()}
    for candidate in candidates:
        if problem.identity(tuple(candidate.tolist())) not in seen:
            return candidate  # type: ignore[no-any-return]
    return None


def losses_of(problem: Problem, trials: Sequence[FrozenTrial]) -> NDArray[np.float64]:
    """(n, m) losses of complete trials."""
    return np.array(
        [[o.loss(v) for o, v in zip(problem.objectives, t.values, strict=True)] for t in trials]
    )


class MutateFront(InformedSampler):
    """Mutates a random member of the feasible front; without a model, and a yardstick for those
    that have one.
    """

    def propose(self, trials: Sequence[FrozenTrial]) -> Vectors:
        """A mutant that is new, or a random network."""
        complete = [t for t in trials if t.state is TrialState.COMPLETE]
        if len(complete) < INITIAL:
            candidates = self.problem.random(ATTEMPTS, self.rng)
        else:
            feasible = [t for t in complete if max(t.constraints.values(), default=0.0) <= 0]
            kept = feasible or complete
            front = vectors_of(self.problem, kept)[ranks(losses_of(self.problem, kept)) == 0]
            candidates = mutants(self.problem, front, ATTEMPTS, self.rng)
        candidates = np.concatenate([candidates, self.problem.sample])
        found = first_new(self.problem, candidates, vectors_of(self.problem, trials))
        return candidates[0] if found is None else found


def mutate_front(seed: int) -> MutateFront:
    """Mutates one to three choices of a random front member, after 8 random trials."""
    return MutateFront(seed)
