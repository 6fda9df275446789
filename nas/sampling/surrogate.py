"""Networks as inputs of Gaussian processes, and processes whose hyperparameters are not chosen anew
for every point.

What is remembered is a function of the very data it was made of, so a search that goes on chooses
as it would have.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from nas.core.search_space import Value
from nas.sampling.gaussian_process import Columns, GaussianProcess, Hyperparameters, fit
from nas.sampling.problem import Problem, Vectors

Array = NDArray[np.float64]

ENOUGH = 4
"""Points that a model needs."""
REFITS = (*range(ENOUGH, 10), *range(10, 50, 5), *(round(50 * 1.1**i) for i in range(100)))
"""Numbers of points at which hyperparameters are chosen anew."""
FITTED = 100
"""At most so many points choose the hyperparameters; the posterior uses all."""
FEW = 4
"""Values of an ordered choice whose steps are inputs."""
COST_SCALE = 0.5
"""Standard deviation of a log-cost among the inputs, where a choice's two values are 1 apart."""


@lru_cache(maxsize=128)
def _remembered(inputs: bytes, outputs: bytes, columns: bytes) -> Hyperparameters:
    y, parts = np.frombuffer(outputs), np.frombuffer(columns, dtype=np.int64).reshape(2, -1)
    return fit(np.frombuffer(inputs).reshape(len(y), -1), y, Columns(*parts))


def _hyperparameters(
    inputs: Array, outputs: Array, columns: Columns, count: int
) -> Hyperparameters:
    """For the first `count` points, or a few less."""
    used = REFITS[bisect_right(REFITS, count) - 1]
    chosen = np.unique(np.linspace(0, used - 1, min(used, FITTED)).round().astype(int))
    parts = np.stack([columns.groups, columns.values]).tobytes()
    return _remembered(inputs[chosen].tobytes(), outputs[chosen].tobytes(), parts)


def posterior(
    inputs: Array, outputs: Array, columns: Columns, kept: slice | NDArray[np.int64] = slice(None)
) -> GaussianProcess:
    """The posterior given all points, or those that are `kept`; all of them choose the
    hyperparameters.
    """
    return GaussianProcess(
        inputs=inputs[kept],
        outputs=outputs[kept],
        columns=columns,
        hyperparameters=_hyperparameters(inputs, outputs, columns, len(outputs)),
    )


@dataclass(frozen=True, eq=False)
class Encoder:
    """Networks as inputs of a model: the choices, and the logarithms of the counts.

    Of a choice with order and few values each step is a column, so that values are the more alike
    the fewer steps lie between them; with many values, or without order, each value is a column,
    and the position is one more. Where choices without order have the same values, how often each
    of them occurs is a column too, and a value makes as much difference in one place as in another:
    so much of what an operation does is the same wherever it is.
    """

    problem: Problem

    def __call__(self, vectors: Vectors) -> Array:
        """(n, d) to (n, columns)."""
        columns = [table[vectors[:, i]] for i, table in enumerate(self._tables)]
        columns += [
            (vectors[:, alike, None] == np.arange(self.problem.sizes[alike[0]])).mean(axis=1)
            for alike in self._alike
        ]
        columns += [vectors[:, [i]] / (self.problem.sizes[i] - 1) for i in self._long]
        mean, deviation = self._counts
        columns.append((self._logarithms(vectors) - mean) / deviation * COST_SCALE)
        return np.concatenate(columns, axis=1)

    @cached_property
    def columns(self) -> Columns:
        """A group for each choice, for how often the same values occur, and for each number."""
        of_choices = [np.full(table.shape[1], -1) for table in self._tables]
        known = 0
        for alike in self._alike:
            size = of_choices[alike[0]].size
            for choice in alike:
                of_choices[choice] = known + np.arange(size)
            known += size
        of_sets = [np.full(of_choices[alike[0]].size, -1) for alike in self._alike]
        singles = len(self._long) + self._logarithms(self.problem.sample[:1]).shape[1]
        parts = [*of_choices, *of_sets]
        return Columns(
            np.repeat(np.arange(len(parts)), [part.size for part in parts]), np.concatenate(parts)
        ).and_single(singles)

    @cached_property
    def _tables(self) -> list[Array]:
        """Of each choice the columns of its values, scaled so that the farthest are 1 apart."""
        return [
            np.tri(size, size - 1, -1) / np.sqrt(size - 1)
            if choice.ordered and size <= FEW
            else np.eye(size) / np.sqrt(2)
            for choice, size in zip(self.problem.choices, self.problem.sizes.tolist(), strict=True)
        ]

    @cached_property
    def _long(self) -> list[int]:
        """Choices with order and many values."""
        return [
            i
            for i, choice in enumerate(self.problem.choices)
            if choice.ordered and len(choice.values) > FEW
        ]

    @cached_property
    def _alike(self) -> list[list[int]]:
        """Choices without order that have the same values, where there are several."""
        found: dict[tuple[Value, ...], list[int]] = {}
        for i, choice in enumerate(self.problem.choices):
            if not choice.ordered:
                found.setdefault(tuple(choice.values), []).append(i)
        return [alike for alike in found.values() if len(alike) > 1]

    @cached_property
    def _counts(self) -> tuple[Array, Array]:
        known = self._logarithms(self.problem.sample)
        deviation = known.std(axis=0)
        return known.mean(axis=0), np.where(deviation > 0, deviation, 1.0)

    def _logarithms(self, vectors: Vectors) -> Array:
        counts = self.problem.counted(vectors)
        return (
            np.log(np.column_stack(list(counts.values())))
            if counts
            else np.zeros((len(vectors), 0))
        )


@lru_cache(maxsize=8)
def encoder(problem: Problem) -> Encoder:
    """The same one every time: it remembers the scale of the counts."""
    return Encoder(problem)
