"""Mutation of front members: the sampler `mutate_front`, and candidates for other samplers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nas.core.dominance import ranks
from nas.sampling.problem import InformedSampler, Problem, Vectors

INITIAL_TRIALS = 8
"""Complete trials, proposed at random, before the front is mutated."""
CANDIDATES = 50
"""Networks generated for one proposal, of which the first new one is proposed."""
MAX_CHANGES = 3
"""Largest number of choices that a mutant has changed."""


def mutants(problem: Problem, parents: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Return `count` networks, each a random parent with one to three of its choices changed."""
    children = parents[rng.integers(0, len(parents), count)]
    changes = rng.integers(1, MAX_CHANGES + 1, count)
    order = rng.random(children.shape).argsort(axis=1).argsort(axis=1)
    shifts = rng.integers(1, np.maximum(problem.sizes, 2), children.shape)
    return np.where(order < changes[:, None], (children + shifts) % problem.sizes, children)


def vectors_of(problem: Problem, trials: Sequence[FrozenTrial]) -> Vectors:
    """Return the trials' networks, (n, d)."""
    vectors = np.array([problem.vector(t.params) for t in trials], dtype=np.int64)
    return vectors.reshape(-1, len(problem.sizes))


def first_new(problem: Problem, candidates: Vectors, tried: Vectors) -> Vectors | None:
    """Return the first candidate whose network is not among `tried`, or None if there is none."""
    tried_identities = {problem.identity(tuple(vector)) for vector in tried.tolist()}
    for candidate in candidates:
        if problem.identity(tuple(candidate.tolist())) not in tried_identities:
            return candidate  # type: ignore[no-any-return]
    return None


def losses_of(problem: Problem, trials: Sequence[FrozenTrial]) -> NDArray[np.float64]:
    """Return the losses of complete trials, (n, m)."""
    return np.array(
        [[o.loss(v) for o, v in zip(problem.objectives, t.values, strict=True)] for t in trials]
    )


class MutateFront(InformedSampler):
    """Mutate a random member of the feasible front. It has no model, and is a baseline for samplers
    with one.
    """

    def propose(self, trials: Sequence[FrozenTrial]) -> Vectors:
        """Return a new mutant, or a random network if none is new."""
        complete = [t for t in trials if t.state is TrialState.COMPLETE]
        if len(complete) < INITIAL_TRIALS:
            candidates = self.problem.random(CANDIDATES, self.rng)
        else:
            candidates = mutants(self.problem, self._front(complete), CANDIDATES, self.rng)
        candidates = np.concatenate([candidates, self.problem.sample])
        new = first_new(self.problem, candidates, vectors_of(self.problem, trials))
        return candidates[0] if new is None else new

    def _front(self, complete: Sequence[FrozenTrial]) -> Vectors:
        """Return the networks of the feasible front, or of the front of all if none is feasible."""
        feasible = [t for t in complete if max(t.constraints.values(), default=0.0) <= 0]
        trials = feasible or complete
        on_front = ranks(losses_of(self.problem, trials)) == 0
        return np.asarray(vectors_of(self.problem, trials)[on_front])


def mutate_front(seed: int) -> MutateFront:
    """Mutate one to three choices of a random front member, after 8 random trials."""
    return MutateFront(seed)
