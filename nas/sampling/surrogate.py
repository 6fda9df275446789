"""Networks encoded as inputs of Gaussian processes, and posteriors whose hyperparameters are fitted
only at certain numbers of points.

Fits are cached by the data that they were made from. Therefore a resumed search makes the same
choices as an uninterrupted one.
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

MIN_POINTS = 4
"""Points that a model needs."""
REFITS = (
    *range(MIN_POINTS, 10),
    *range(10, 50, 5),
    *(round(50 * 1.1**i) for i in range(100)),
)
"""Numbers of points at which hyperparameters are fitted again."""
MAX_FIT_POINTS = 100
"""Most points that a fit of hyperparameters uses. The posterior uses all."""
MAX_STEP_VALUES = 4
"""Most values of an ordered choice whose steps are inputs. With more, its values are."""
COST_SCALE = 0.5
"""Standard deviation of a log-cost among the inputs; a choice's farthest values are 1 apart."""


@lru_cache(maxsize=128)
def _cached_fit(inputs: bytes, outputs: bytes, columns: bytes) -> Hyperparameters:
    y = np.frombuffer(outputs)
    x = np.frombuffer(inputs).reshape(len(y), -1)
    parts = np.frombuffer(columns, dtype=np.int64).reshape(2, -1)
    return fit(x, y, Columns(*parts))


def _hyperparameters(inputs: Array, outputs: Array, columns: Columns) -> Hyperparameters:
    """Return the fit for the largest number of points in `REFITS` that there are."""
    count = REFITS[bisect_right(REFITS, len(outputs)) - 1]
    chosen = np.linspace(0, count - 1, min(count, MAX_FIT_POINTS)).round().astype(int)
    chosen = np.unique(chosen)
    parts = np.stack([columns.groups, columns.values]).tobytes()
    return _cached_fit(inputs[chosen].tobytes(), outputs[chosen].tobytes(), parts)


def posterior(
    inputs: Array,
    outputs: Array,
    columns: Columns,
    points: slice | NDArray[np.int64] = slice(None),
) -> GaussianProcess:
    """Return the posterior given these `points` of the data, with hyperparameters fitted to all."""
    return GaussianProcess(
        inputs=inputs[points],
        outputs=outputs[points],
        columns=columns,
        hyperparameters=_hyperparameters(inputs, outputs, columns),
    )


@dataclass(frozen=True, eq=False)
class Encoder:
    """Encodes networks as inputs of a model: their choices, and the logarithms of their counts.

    * An ordered choice with few values has a column for each step, so that values are more similar
      the fewer steps lie between them.
    * Any other choice has a column for each value. An ordered one has its position as one more.
    * If several unordered choices have the same values, a column for each value says how often it
      occurs. In these choices a value makes as much difference in one place as in another, because
      much of what an operation does is the same wherever it stands.
    """

    problem: Problem

    def __call__(self, vectors: Vectors) -> Array:
        """Encode (n, d) vectors as (n, columns)."""
        columns = [table[vectors[:, i]] for i, table in enumerate(self._tables)]
        for choices in self._shared:
            values = np.arange(self.problem.sizes[choices[0]])
            columns.append((vectors[:, choices, None] == values).mean(axis=1))
        columns += [vectors[:, [i]] / (self.problem.sizes[i] - 1) for i in self._long]
        mean, deviation = self._count_scale
        columns.append((self._log_counts(vectors) - mean) / deviation * COST_SCALE)
        return np.concatenate(columns, axis=1)

    @cached_property
    def columns(self) -> Columns:
        """A group of columns for each choice, each set of shared values and each number."""
        of_choices = [np.full(table.shape[1], -1) for table in self._tables]
        of_sets = []
        first_value = 0
        for choices in self._shared:
            size = of_choices[choices[0]].size
            of_sets.append(np.full(size, -1))
            for choice in choices:
                of_choices[choice] = first_value + np.arange(size)
            first_value += size
        parts = [*of_choices, *of_sets]
        groups = np.repeat(np.arange(len(parts)), [part.size for part in parts])
        singles = len(self._long) + self._log_counts(self.problem.sample[:1]).shape[1]
        return Columns(groups, np.concatenate(parts)).with_single_columns(singles)

    @cached_property
    def _tables(self) -> list[Array]:
        """Columns of each value, for every choice. The farthest values are 1 apart."""
        return [
            np.tri(size, size - 1, -1) / np.sqrt(size - 1)
            if choice.ordered and size <= MAX_STEP_VALUES
            else np.eye(size) / np.sqrt(2)
            for choice, size in zip(self.problem.choices, self.problem.sizes.tolist(), strict=True)
        ]

    @cached_property
    def _long(self) -> list[int]:
        """Ordered choices with many values."""
        return [
            i
            for i, choice in enumerate(self.problem.choices)
            if choice.ordered and len(choice.values) > MAX_STEP_VALUES
        ]

    @cached_property
    def _shared(self) -> list[list[int]]:
        """Sets of at least two unordered choices that have the same values."""
        by_values: dict[tuple[Value, ...], list[int]] = {}
        for i, choice in enumerate(self.problem.choices):
            if not choice.ordered:
                by_values.setdefault(tuple(choice.values), []).append(i)
        return [choices for choices in by_values.values() if len(choices) > 1]

    @cached_property
    def _count_scale(self) -> tuple[Array, Array]:
        """Mean and deviation of the log-counts of the problem's sample."""
        sample = self._log_counts(self.problem.sample)
        deviation = sample.std(axis=0)
        return sample.mean(axis=0), np.where(deviation > 0, deviation, 1.0)

    def _log_counts(self, vectors: Vectors) -> Array:
        counts = self.problem.counted(vectors)
        if not counts:
            return np.zeros((len(vectors), 0))
        return np.log(np.column_stack(list(counts.values())))


@lru_cache(maxsize=8)
def encoder(problem: Problem) -> Encoder:
    """Return the problem's encoder. It is the same one every time, because it caches the scale of
    the counts.
    """
    return Encoder(problem)
