"""Samplers run against each other on a table of trained networks: hypervolume by evaluations, and who is first.

Every sampler is made anew for each proposal, as in a search. A repeated proposal is charged as an evaluation, unless
said otherwise. Runs of one seed are pairs: the Wilcoxon signed-rank test compares two samplers' final values over the
seeds, corrected by Holm for all comparisons.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from scipy.stats import wilcoxon

from nas import plugins
from nas.sampling.problem import InformedSampler
from nas.sampling.proposer import derived_seed
from nas.sampling.tables import Table

BASELINES: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe-multivariate": lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "nsga2-p50": lambda seed: NSGAIISampler(seed=seed, population_size=50),
}
"""Settings of Optuna's samplers that no study needs and every comparison should have; `nsga2` has populations of 20."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One sampler, one seed: `rows` of the table in the order of their proposal, `volumes` after each."""

    rows: NDArray[np.int64]
    volumes: NDArray[np.float64]
    seconds: float

    @property
    def fresh(self) -> NDArray[np.float64]:
        """The hypervolume after each evaluation that was no repeat."""
        _, first = np.unique(self.rows, return_index=True)
        return self.volumes[np.sort(first)]


def sampler_named(name: str) -> Callable[[int], BaseSampler]:
    """A baseline of this module, or a plugin."""
    found: Callable[[int], BaseSampler] = BASELINES.get(name) or plugins.load("nas.samplers", name)
    return found


def run(table: Table, name: str, *, seed: int, budget: int, noisy: bool = False, tell_reference: bool = True) -> Run:
    """Search the table. `noisy` shows the search the accuracy of one seed, drawn for each network; the volume is that
    of the means."""
    make, problem = sampler_named(name), table.problem(tell_reference=tell_reference)
    shown = np.random.default_rng(seed).integers(0, table.errors.shape[1], len(table.networks))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize"] * (1 + len(table.cost_names)))
    rows: list[int] = []
    volumes: list[float] = []
    seconds = 0.0
    for number in range(budget):
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.sampler = make(derived_seed("contest", seed, number))
        if isinstance(study.sampler, InformedSampler):
            study.sampler.problem = problem
        trial = study.ask(dict(problem.distributions))
        seconds += time.perf_counter() - started
        row = table.row[problem.vector(trial.params)]
        error = table.errors[row, shown[row]] if noisy else table.losses[row, 0]
        study.tell(trial, [float(error), *table.costs[row].tolist()])
        repeated = row in rows
        rows.append(row)
        volumes.append(volumes[-1] if repeated else table.hypervolume(np.array(rows)))
    return Run(rows=np.array(rows), volumes=np.array(volumes), seconds=seconds / budget)


def evaluations_to(curve: NDArray[np.float64], value: float) -> int | None:
    """How many evaluations the mean curve needs to reach the value, None where it does not."""
    reached = np.flatnonzero(curve >= value)
    return int(reached[0]) + 1 if len(reached) else None


def mean_curve(runs: Sequence[Run], *, charged: bool = True) -> NDArray[np.float64]:
    """The mean hypervolume over the seeds by evaluations; without repeats, as far as the shortest run goes."""
    curves = [run.volumes if charged else run.fresh for run in runs]
    shortest = min(map(len, curves))
    return np.mean([curve[:shortest] for curve in curves], axis=0)  # type: ignore[no-any-return]


def p_values(runs: Mapping[str, Sequence[Run]], best: str) -> dict[str, float]:
    """Of `best` against every other: paired final values, two-sided, Holm-corrected."""
    finals = {name: np.array([run.volumes[-1] for run in each]) for name, each in runs.items()}
    raw = {name: _wilcoxon(finals[best] - value) for name, value in finals.items() if name != best}
    return holm(raw)


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    return 1.0 if not differences.any() else float(wilcoxon(differences).pvalue)


def holm(raw: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number: the smallest times n, the next times n - 1, never falling."""
    corrected: dict[str, float] = {}
    least = 0.0
    for rank, (name, value) in enumerate(sorted(raw.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, value * (len(raw) - rank)))
        corrected[name] = least
    return corrected
