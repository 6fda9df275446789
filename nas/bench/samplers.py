"""Samplers run against each other where the truth is known: hypervolume by evaluations, and who is
first.

Every sampler is made anew for each proposal, as in a search, and may pass a network over once its
costs are known. An evaluation is a training; a repeated proposal is charged as one, unless said
otherwise. Runs of one seed are pairs: the Wilcoxon signed-rank test compares two samplers' final
values over the seeds they have in common, corrected by Holm for all comparisons.
"""

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState
from scipy.stats import wilcoxon

from nas.core import plugins
from nas.core.seeds import derived_seed
from nas.sampling.problem import FIGURES, InformedSampler, Problem

Array = NDArray[np.float64]
Network = tuple[int, ...]
"""The position of each choice's value."""

BASELINES: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe-multivariate": lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "nsga2-p50": lambda seed: NSGAIISampler(seed=seed, population_size=50),
}
"""Settings of Optuna's samplers that no study needs and every comparison should have; `nsga2` has
populations of 20.
"""
DIGITS = 5
"""Of a hypervolume: a run that was kept in a file equals one that was not."""
FEWEST_PAIRS = 6
"""With fewer the signed-rank test cannot fall below 0.05, whatever the values."""


class Landscape(Protocol):
    """Networks whose errors and costs are known without training."""

    @property
    def name(self) -> str:
        """What results are shown under."""

    @property
    def key(self) -> str:
        """What results are kept under: other figures, another key."""

    def problem(self, *, tell_reference: bool) -> Problem:
        """What a sampler is told: choices, costs as counts, and the reference if asked for."""

    def errors_of(self, network: Network) -> Array:
        """In percent, one for each training seed."""

    def costs_of(self, network: Network) -> Array:
        """Positive, in the order of the problem's objectives."""

    def canonical(self, network: Network) -> Network:
        """The spelling under which this network is kept: another one of it is a repeat."""

    def hypervolume(self, networks: Sequence[Network]) -> float:
        """Of these networks by their mean errors, as a share of the best known front's."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One sampler, one seed: the networks in the order of their proposal, the hypervolume after
    each, and the CPU time that proposing each took.
    """

    networks: Sequence[Network]
    volumes: Array
    seconds: Array

    @property
    def distinct(self) -> int:
        """How many different networks were proposed."""
        return len(set(self.networks))

    @property
    def fresh(self) -> Array:
        """The hypervolume after each evaluation that was no repeat."""
        return self.volumes[
            [self.networks.index(network) == i for i, network in enumerate(self.networks)]
        ]


def sampler_named(name: str) -> Callable[[int], BaseSampler]:
    """A baseline of this module, or a plugin."""
    found: Callable[[int], BaseSampler] = BASELINES.get(name) or plugins.load("nas.samplers", name)
    return found


def run(
    landscape: Landscape,
    name: str,
    *,
    seed: int,
    budget: int,
    noisy: bool = False,
    tell_reference: bool = True,
    hidden: Collection[str] = (),
) -> Run:
    """Search. `noisy` shows the search the error of one training seed, drawn for each network; the
    volume is that of the means. `hidden` costs are told of a network once it was proposed, as
    measured ones are.
    """
    make, problem = (
        sampler_named(name),
        _hiding(landscape.problem(tell_reference=tell_reference), hidden),
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize"] * len(problem.objectives))
    networks: list[Network] = []
    volumes: list[float] = []
    seconds: list[float] = []
    while len(networks) < budget:
        trial, network, took_s = _proposed(study, problem, make, seed, landscape.costs_of)
        network = landscape.canonical(network)
        seconds.append(took_s)
        errors = landscape.errors_of(network)
        shown = (
            errors[derived_seed("shown", seed, network) % len(errors)] if noisy else errors.mean()
        )
        study.tell(trial, [float(shown), *landscape.costs_of(network).tolist()])
        repeated = network in networks
        networks.append(network)
        volumes.append(volumes[-1] if repeated else round(landscape.hypervolume(networks), DIGITS))
    return Run(networks=networks, volumes=np.array(volumes), seconds=np.array(seconds))


def _hiding(problem: Problem, hidden: Collection[str]) -> Problem:
    """The problem with counts that lack these."""
    counts = problem.counts
    return (
        replace(
            problem,
            counts=lambda params: {
                name: count for name, count in counts(params).items() if name not in hidden
            },
        )
        if hidden
        else problem
    )


def _proposed(
    study: optuna.Study,
    problem: Problem,
    make: Callable[[int], BaseSampler],
    seed: int,
    costs_of: Callable[[Network], Array],
) -> tuple[optuna.Trial, Network, float]:
    """The next network to train, and the CPU time until that was known; those that were passed over
    are told.
    """
    started = time.process_time()
    while True:
        others = study.get_trials(deepcopy=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = study.sampler = make(derived_seed("contest", seed, len(others)))
        if isinstance(sampler, InformedSampler):
            sampler.problem = problem
        trial = study.ask(dict(problem.distributions))
        network = problem.vector(trial.params)
        costs = dict(
            zip((o.metric for o in problem.objectives[1:]), costs_of(network).tolist(), strict=True)
        )
        if not isinstance(sampler, InformedSampler) or not sampler.skips(
            others, np.array(network), costs
        ):
            return trial, network, time.process_time() - started
        trial.set_user_attr(FIGURES, costs)
        study.tell(trial, state=TrialState.PRUNED)


def evaluations_to(curve: Array, value: float) -> int | None:
    """How many evaluations the mean curve needs to reach the value, None where it does not."""
    reached = np.flatnonzero(curve >= value)
    return int(reached[0]) + 1 if len(reached) else None


def mean_curve(runs: Sequence[Run], *, charged: bool = True) -> Array:
    """The mean hypervolume over the seeds by evaluations; without repeats, as far as the shortest
    run goes.
    """
    curves = [run.volumes if charged else run.fresh for run in runs]
    shortest = min(map(len, curves))
    return np.mean([curve[:shortest] for curve in curves], axis=0)  # type: ignore[no-any-return]


def behind(curve: Array, other: Array) -> str:
    """After which evaluations the mean curve is below the other one, as text: "never", "1 to
    3, 7".
    """
    below = np.flatnonzero(curve < other) + 1
    groups = np.split(below, np.flatnonzero(np.diff(below) > 1) + 1) if len(below) else []
    return ", ".join(f"{g[0]}" if len(g) == 1 else f"{g[0]} to {g[-1]}" for g in groups) or "never"


def p_values(runs: Mapping[str, Mapping[int, Run]], best: str) -> dict[str, float | None]:
    """Of `best` against every other, runs by seed: paired final values, two-sided, Holm-corrected;
    None where there are too few pairs.
    """
    raw = {}
    for name in runs:
        pairs = runs[best].keys() & runs[name].keys()
        if name != best and len(pairs) >= FEWEST_PAIRS:
            raw[name] = _wilcoxon(
                np.array([runs[best][s].volumes[-1] - runs[name][s].volumes[-1] for s in pairs])
            )
    corrected = holm(raw)
    return {name: corrected.get(name) for name in runs if name != best}


def _wilcoxon(differences: Array) -> float:
    return 1.0 if not differences.any() else float(wilcoxon(differences).pvalue)


def holm(raw: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number: the smallest times n, the next times n - 1, never
    falling.
    """
    corrected: dict[str, float] = {}
    least = 0.0
    for rank, (name, value) in enumerate(sorted(raw.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, value * (len(raw) - rank)))
        corrected[name] = least
    return corrected
