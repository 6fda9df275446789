"""What one more input would do for the model that `known-cost` has of the error."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core.architecture import Architecture
from nas.core.search_space import SearchSpace
from nas.core.stopping import SMALLEST
from nas.core.trial import Trial
from nas.sampling.gaussian_process import GaussianProcess, fit
from nas.sampling.problem import Counts, Problem
from nas.sampling.proposer import distribution
from nas.sampling.surrogate import COST_SCALE, Encoder


def left_out(
    space: SearchSpace,
    counts: Callable[[Architecture], Counts],
    trials: Sequence[Trial],
    score: NDArray[np.float64] | None,
) -> tuple[float, float]:
    """How well the model predicts the logarithm of each trial's error from all others, the score
    (n,) an input where there is one: root mean square deviation, and mean logarithm of the
    predictive density.
    """
    problem = Problem(
        choices=space.choices,
        objectives=[],
        identify=lambda params: space.decode(params).digest,
        distributions={choice.name: distribution(choice) for choice in space.choices},
        counts=lambda params: counts(space.decode(params)),
    )
    vectors = np.array(
        [
            [choice.values.index(trial.params[choice.name]) for choice in space.choices]
            for trial in trials
        ]
    )
    encode = Encoder(problem)
    inputs, columns = encode(vectors), encode.columns
    if score is not None:
        column = (score - score.mean()) / (score.std() or 1.0) * COST_SCALE
        inputs, columns = np.column_stack([inputs, column]), columns.and_single(1)
    outputs = np.log([max(trial.evaluation.rungs[-1].error, SMALLEST) for trial in trials])
    process = GaussianProcess(
        inputs=inputs,
        outputs=outputs,
        columns=columns,
        hyperparameters=fit(inputs, outputs, columns),
    )
    mean, deviation = process.left_out()
    density = -0.5 * ((outputs - mean) / deviation) ** 2 - np.log(deviation * np.sqrt(2 * np.pi))
    return float(np.sqrt(((outputs - mean) ** 2).mean())), float(density.mean())
