"""How well brief trainings rank networks as long ones do, and at what price.

`nas bench proxy` trains the networks of `nas bench truth` by each recipe of a list and compares the
errors. Seconds are CPU seconds of training and of the last judging.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from nas.analysis.rank_agreement import (
    Interval,
    bootstrap_weights,
    weighted_partial_correlations,
    weighted_taus,
)
from nas.bench.brief import BriefTrainings
from nas.bench.drawn_networks import Network
from nas.bench.json_lines import Line
from nas.core.brief import BriefRecipe
from nas.core.errors import NasError

Array = NDArray[np.float64]
Errors = Mapping[str, Mapping[int, float]]
"""The error of each network, by seed."""
DRAWS = 4000
"""Bootstrap samples of an interval."""
MIN_NETWORKS = 5
"""Smallest number of networks that are compared."""


def train_proxies(
    trainings: BriefTrainings,
    recipes: Mapping[str, BriefRecipe],
    networks: Sequence[Network],
    seeds: int,
) -> Iterator[Line]:
    """Train what has no line, and yield each new line.

    All recipes train a network before the next one, so that the first few networks compare all
    recipes, on the same machine at about the same time.
    """
    for seed, network, (name, recipe) in product(range(seeds), networks, recipes.items()):
        if not trainings.done(network, name, recipe, seed, trainings.ends(recipe)[-1]):
            yield from trainings.advance(network, name, recipe, seed)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Errors of long trainings at one number of epochs, each the mean of its seeds."""

    epochs: float
    errors: Mapping[str, float]


def truth_of(lines: Sequence[Line], networks: Sequence[Network]) -> Truth:
    """Return the errors of these networks at the last rung that all of those have reached which
    reached any.

    Raises `NasError` for too few networks.
    """
    names = {network.name for network in networks}
    at: dict[float, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        if line["network"] in names and line["error"] is not None:
            at[line["epochs"]][line["network"]][line["seed"]] = line["error"]
    most = max(map(len, at.values()), default=0)
    if most < MIN_NETWORKS:
        raise NasError(
            f"{most} of the networks have a long training; a comparison needs {MIN_NETWORKS}: "
            "run `nas bench truth` first"
        )
    epochs = max(epochs for epochs, reached in at.items() if len(reached) == most)
    return Truth(
        epochs=epochs,
        errors={name: fmean(seeds.values()) for name, seeds in at[epochs].items()},
    )


@dataclass(frozen=True, kw_only=True)
class ProxyResult:
    """How one recipe ranks the networks.

    `tau` is Kendall's tau (b) of a single training with the truth, the mean over the seeds.
    `correlation` is Pearson's at equal logarithms of the MACs. `seconds` are the CPU seconds of a
    training, `relative` the same in units of the reference training. `better` is the share of
    bootstrap samples of the common networks in which this tau is above that of the first recipe.
    `seed_tau` and `seed_deviation` (a share of the images) compare the seeds; `failed`
    trainings are left out. What is undefined, for instance without a second seed, is None.
    """

    name: str
    networks: int
    seeds: int
    failed: int
    seconds: float
    relative: float
    tau: Interval | None
    correlation: Interval | None
    better: float | None
    seed_tau: Interval | None
    seed_deviation: float | None


def proxy_results(
    lines: Sequence[Line],
    recipes: Mapping[str, BriefRecipe],
    networks: Sequence[Network],
    truth: Truth,
) -> list[ProxyResult]:
    """Return the result of each recipe that has trained enough networks, in their order.

    Raises `NasError` if none has.
    """
    sizes = {network.name: math.log(network.macs) for network in networks}
    results = []
    first: dict[str, dict[int, float]] | None = None
    for name, recipe in recipes.items():
        trainings = _trainings(lines, name, recipe, truth)
        errors: dict[str, dict[int, float]] = defaultdict(dict)
        for (network, seed), rungs in trainings.items():
            if rungs[-1]["error"] is not None:
                errors[network][seed] = rungs[-1]["error"]
        if first is None:
            first = errors
        if len(errors) < MIN_NETWORKS:
            continue
        complete = [rungs for rungs in trainings.values() if rungs[-1]["error"] is not None]
        seeds = sorted({seed for by_seed in errors.values() for seed in by_seed})
        tau, correlation = _agreement(errors, seeds, truth, sizes)
        seed_tau, seed_deviation = _between_seeds(errors)
        results.append(
            ProxyResult(
                name=name,
                networks=len(errors),
                seeds=len(seeds),
                failed=len(trainings) - len(complete),
                seconds=fmean(map(seconds_of, complete)),
                relative=fmean(seconds_of(rungs) / rungs[-1]["reference_s"] for rungs in complete),
                tau=tau,
                correlation=correlation,
                better=None if first is errors else _better(errors, first, truth),
                seed_tau=seed_tau,
                seed_deviation=seed_deviation,
            )
        )
    if not results:
        raise NasError(
            f"no recipe has trained {MIN_NETWORKS} of the networks that have a long training yet; "
            "run the same command without --for"
        )
    return results


def seconds_of(rungs: Sequence[Line]) -> float:
    """Return the CPU seconds of a training: all rungs, and the judging at the last."""
    return sum(float(rung["train_s"]) for rung in rungs) + float(rungs[-1]["judge_s"])


def _trainings(
    lines: Sequence[Line], name: str, recipe: BriefRecipe, truth: Truth
) -> dict[tuple[str, int], list[Line]]:
    """Return the rungs of each complete or failed training of a recipe, by network and seed."""
    rungs: dict[tuple[str, int], dict[float, Line]] = defaultdict(dict)
    for line in lines:
        if line["recipe"] == name and line["network"] in truth.errors:
            rungs[line["network"], line["seed"]][line["epochs"]] = line
    ordered = {key: [at[epochs] for epochs in sorted(at)] for key, at in rungs.items()}
    return {
        key: each
        for key, each in ordered.items()
        if len(each) == len(recipe.rungs) or each[-1]["error"] is None
    }


def _agreement(
    errors: Errors, seeds: Sequence[int], truth: Truth, sizes: Mapping[str, float]
) -> tuple[Interval | None, Interval | None]:
    """Return tau and the correlation at equal MACs, each the mean over seeds.

    Every seed is compared over the networks that have it.
    """
    names = sorted(errors)
    weights = np.vstack([np.ones(len(names)), bootstrap_weights(len(names), DRAWS, 0)])
    taus, correlations = [], []
    for seed in seeds:
        places = [i for i, name in enumerate(names) if seed in errors[name]]
        if len(places) < MIN_NETWORKS:
            continue
        brief = [errors[names[i]][seed] for i in places]
        long = [truth.errors[names[i]] for i in places]
        macs = [sizes[names[i]] for i in places]
        taus.append(weighted_taus(brief, long, weights[:, places]))
        correlations.append(weighted_partial_correlations(brief, long, macs, weights[:, places]))
    return Interval.of_mean(taus), Interval.of_mean(correlations)


def _better(errors: Errors, first: Errors, truth: Truth) -> float | None:
    """Return the share of paired bootstrap samples in which these errors have the higher tau.

    Each network takes part with the seeds that both recipes trained.
    """
    pairs = {
        (name, seed)
        for name in errors.keys() & first.keys()
        for seed in errors[name].keys() & first[name].keys()
    }
    names = sorted({name for name, _ in pairs})
    if len(names) < MIN_NETWORKS:
        return None
    weights = bootstrap_weights(len(names), DRAWS, 0)
    differences = []
    for seed in sorted({seed for _, seed in pairs}):
        places = [i for i, name in enumerate(names) if (name, seed) in pairs]
        if len(places) < MIN_NETWORKS:
            continue
        long = [truth.errors[names[i]] for i in places]
        both = [
            weighted_taus([each[names[i]][seed] for i in places], long, weights[:, places])
            for each in (errors, first)
        ]
        differences.append(both[0] - both[1])
    mean = np.mean(differences, axis=0) if differences else np.array([])
    defined = mean[np.isfinite(mean)]
    return float(np.mean(defined > 0)) if len(defined) else None


def _between_seeds(errors: Errors) -> tuple[Interval | None, float | None]:
    """Return tau between two seeds, the mean over all pairs of seeds, and the pooled standard
    deviation of the error between seeds.
    """
    several = {name: by_seed for name, by_seed in errors.items() if len(by_seed) > 1}
    if len(several) < MIN_NETWORKS:
        return None, None
    names = sorted(several)
    weights = np.vstack([np.ones(len(names)), bootstrap_weights(len(names), DRAWS, 0)])
    taus = []
    for one, other in combinations(sorted({s for each in several.values() for s in each}), 2):
        places = [i for i, name in enumerate(names) if {one, other} <= several[name].keys()]
        if len(places) >= MIN_NETWORKS:
            first, second = ([several[names[i]][seed] for i in places] for seed in (one, other))
            taus.append(weighted_taus(first, second, weights[:, places]))
    squares = sum(len(each) * np.var(list(each.values())) for each in several.values())
    freedom = sum(len(each) - 1 for each in several.values())
    return Interval.of_mean(taus), math.sqrt(squares / freedom)
