"""Comparison of samplers on benchmark problems, for which errors and costs are known without
training.

As in a search, a new sampler is made for each proposal, and it may skip a network once the costs
are known. An evaluation stands for one training. A repeated proposal counts as an evaluation,
unless stated otherwise. Runs with the same seed are pairs: the Wilcoxon signed-rank test compares
the final values of two samplers over their common seeds, with Holm's correction for all
comparisons.
"""

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState
from scipy.stats import wilcoxon

from nas.core import plugins
from nas.core.search_space import Params
from nas.core.seeds import derived_seed
from nas.sampling.problem import FIGURES, Counts, InformedSampler, Problem

if TYPE_CHECKING:
    from nas.bench.measured_widths import MeasuredWidths
    from nas.bench.synthetic import SyntheticError
    from nas.bench.tables import Table

    BenchmarkProblem = Table | MeasuredWidths | SyntheticError
    """Networks with known errors and costs."""

Array = NDArray[np.float64]
Network = tuple[int, ...]
"""Position of each choice's value."""

BASELINES: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe-multivariate": lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "nsga2-p50": lambda seed: NSGAIISampler(seed=seed, population_size=50),
}
"""Settings of Optuna's samplers that no study needs, but that belong into a comparison. `nsga2` has
populations of 20.
"""
DIGITS = 5
"""Digits of a hypervolume. All are rounded, so that a stored run equals a new one."""
MIN_PAIRS = 6
"""With fewer pairs the signed-rank test cannot give a p-value below 0.05."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One sampler with one seed: the networks in the order of their proposal, the hypervolume after
    each, and the CPU time that each proposal took.
    """

    networks: Sequence[Network]
    volumes: Array
    seconds: Array

    @property
    def distinct(self) -> int:
        """Number of different networks that were proposed."""
        return len(set(self.networks))

    @property
    def volumes_without_repeats(self) -> Array:
        """Hypervolume after each evaluation that was no repeat."""
        is_new = [self.networks.index(network) == i for i, network in enumerate(self.networks)]
        return self.volumes[is_new]


def sampler_named(name: str) -> Callable[[int], BaseSampler]:
    """Return a baseline of this module, or a plugin."""
    make: Callable[[int], BaseSampler] = BASELINES.get(name) or plugins.load("nas.samplers", name)
    return make


def run(
    benchmark: "BenchmarkProblem",
    name: str,
    *,
    seed: int,
    budget: int,
    noisy: bool = False,
    with_reference: bool = True,
    hidden: Collection[str] = (),
) -> Run:
    """Search the benchmark problem with the sampler of this name, for `budget` evaluations.

    With `noisy`, the search sees the error of one training seed, drawn for each network; the
    hypervolume is still that of the mean errors. The sampler sees `hidden` costs of a network only
    after it was proposed, like measured costs.
    """
    make = sampler_named(name)
    problem = _hiding(benchmark.problem(with_reference=with_reference), hidden)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize"] * len(problem.objectives))
    networks: list[Network] = []
    volumes: list[float] = []
    seconds: list[float] = []
    while len(networks) < budget:
        trial, network, proposal_s = _proposed(study, problem, make, seed, benchmark.costs_of)
        network = benchmark.canonical(network)
        seconds.append(proposal_s)
        errors = benchmark.errors_of(network)
        if noisy:
            error = errors[derived_seed("shown", seed, network) % len(errors)]
        else:
            error = errors.mean()
        study.tell(trial, [float(error), *benchmark.costs_of(network).tolist()])
        repeated = network in networks
        networks.append(network)
        volumes.append(volumes[-1] if repeated else round(benchmark.hypervolume(networks), DIGITS))
    return Run(networks=networks, volumes=np.array(volumes), seconds=np.array(seconds))


def _hiding(problem: Problem, hidden: Collection[str]) -> Problem:
    """Return the problem without the counts of these costs."""
    if not hidden:
        return problem

    def visible(params: Params) -> Counts:
        counts = problem.counts(params)
        return {name: count for name, count in counts.items() if name not in hidden}

    return replace(problem, counts=visible)


def _proposed(
    study: optuna.Study,
    problem: Problem,
    make: Callable[[int], BaseSampler],
    seed: int,
    costs_of: Callable[[Network], Array],
) -> tuple[optuna.Trial, Network, float]:
    """Return the next network that the sampler does not skip, its trial, and the CPU time until
    then. Skipped networks become pruned trials of the study.
    """
    started = time.process_time()
    while True:
        others = study.get_trials(deepcopy=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # The text must not change, as stored runs depend on the seed
            sampler = study.sampler = make(derived_seed("contest", seed, len(others)))
        if isinstance(sampler, InformedSampler):
            sampler.problem = problem
        trial = study.ask(dict(problem.distributions))
        network = problem.vector(trial.params)
        metrics = [objective.metric for objective in problem.objectives[1:]]
        costs = dict(zip(metrics, costs_of(network).tolist(), strict=True))
        if not isinstance(sampler, InformedSampler) or not sampler.skips(
            others, np.array(network), costs
        ):
            return trial, network, time.process_time() - started
        trial.set_user_attr(FIGURES, costs)
        study.tell(trial, state=TrialState.PRUNED)


def evaluations_to(curve: Array, value: float) -> int | None:
    """Return the evaluations that the mean curve needs to reach the value, None if it does not."""
    reached = np.flatnonzero(curve >= value)
    return int(reached[0]) + 1 if len(reached) else None


def mean_curve(runs: Sequence[Run], *, charged: bool = True) -> Array:
    """Return the mean hypervolume over the runs by evaluations, up to the end of the shortest run.

    Unless repeats are `charged`, they do not count as evaluations.
    """
    curves = [run.volumes if charged else run.volumes_without_repeats for run in runs]
    shortest = min(map(len, curves))
    return np.mean([curve[:shortest] for curve in curves], axis=0)  # type: ignore[no-any-return]


def behind(curve: Array, other: Array) -> str:
    """Return after which evaluations the mean curve is below the other one, as text: "never", "1
    to 3, 7".
    """
    below = np.flatnonzero(curve < other) + 1
    if not len(below):
        return "never"
    groups = np.split(below, np.flatnonzero(np.diff(below) > 1) + 1)
    return ", ".join(f"{g[0]}" if len(g) == 1 else f"{g[0]} to {g[-1]}" for g in groups)


def p_values(runs: Mapping[str, Mapping[int, Run]], best: str) -> dict[str, float | None]:
    """Return the p-value of `best` against every other sampler, given the runs by sampler and seed.

    The two-sided test is of paired final values, Holm-corrected. With too few pairs it is None.
    """
    raw = {}
    for name in runs:
        pairs = runs[best].keys() & runs[name].keys()
        if name != best and len(pairs) >= MIN_PAIRS:
            raw[name] = _wilcoxon(
                np.array([runs[best][s].volumes[-1] - runs[name][s].volumes[-1] for s in pairs])
            )
    corrected = holm(raw)
    return {name: corrected.get(name) for name in runs if name != best}


def _wilcoxon(differences: Array) -> float:
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(raw: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number n by Holm's method.

    The smallest is multiplied by n, the next by n - 1, and so on; none falls below the one before.
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (name, value) in enumerate(sorted(raw.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, value * (len(raw) - rank)))
        corrected[name] = largest
    return corrected
