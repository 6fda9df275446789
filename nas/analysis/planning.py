"""What brief trainings of a few networks say about a search with the same trainings.

The error of a training is the sum of two independent normal variables: the network's own error, and
what the seed adds. Two seeds of every network separate them (one-way analysis of variance, with
exact intervals for the ratio). Kendall's tau compares a recipe with the yardstick, a longer
training. From both follows what a search can tell apart, and how good its best network will be.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from nas.analysis.rank_agreement import Interval, bootstrap_weights, weighted_taus

Array = NDArray[np.float64]
MIN_NETWORKS = 5
"""Smallest number of networks from which an interval is computed."""
LEVEL = 0.95
"""Level of the intervals."""
TAU_VARIANCE = 0.437
"""Variance of atanh(tau), times n - 4 (Fieller, Hartley, Pearson 1957, Biometrika 44, 470)."""
DRAWS = 2000
"""Bootstrap samples of the networks."""
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the budget for new seeds that are compared."""
SIMULATED = 400_000
"""Networks of all simulated searches of one share together."""
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Deviations of the errors of one recipe, over `networks` that have `per_network` seeds each.

    `seeds` is the standard deviation between the trainings of a network, `between` that between
    networks without the noise of seeds. `reliability` is the share of networks in the variance of
    single trainings, from 0 to 1.
    """

    networks: int
    per_network: int
    seeds: Interval
    between: Interval
    reliability: Interval

    @property
    def right_order(self) -> Interval:
        """The chance that of two random networks, trained once each, the one with the lower
        expected error has the lower error.
        """
        return self.reliability.map(lambda share: 0.5 + math.asin(math.sqrt(share)) / math.pi)

    def smallest_difference(self, seeds: int) -> Interval:
        """Return the smallest difference of two means of `seeds` trainings that is seldom (in 5 %)
        made by the seeds alone.
        """
        return self.seeds.map(lambda deviation: Z * math.sqrt(2 / seeds) * deviation)


def noise_of(errors: Array) -> Noise | None:
    """Return the deviations of errors (networks, seeds), None for fewer than `MIN_NETWORKS`
    networks or two seeds, or if all seeds give equal errors.
    """
    from scipy.stats import chi2, f

    networks, seeds = errors.shape
    if networks < MIN_NETWORKS or seeds < 2:
        return None
    freedom = (networks - 1, networks * (seeds - 1))
    means = errors.mean(axis=1)
    within = float(np.sum((errors - means[:, None]) ** 2)) / freedom[1]
    among = seeds * float(np.var(means, ddof=1))
    if within == 0:
        return None
    ratio, ends = among / within, (0.5 + LEVEL / 2, 0.5 - LEVEL / 2)
    # Bounds of the ratio of the variances (exact), and of that between networks (Williams, Tukey).
    quantiles = [float(f.ppf(end, *freedom)) for end in ends]
    low, high = (max(ratio / quantile - 1, 0.0) / seeds for quantile in quantiles)
    between = [
        freedom[0]
        * within
        * max(ratio - quantile, 0.0)
        / (seeds * float(chi2.ppf(end, freedom[0])))
        for end, quantile in zip(ends, quantiles, strict=True)
    ]
    value = max(ratio - 1, 0.0) / seeds
    spread = [freedom[1] * within / float(chi2.ppf(end, freedom[1])) for end in ends]
    return Noise(
        networks=networks,
        per_network=seeds,
        seeds=Interval(value=within, low=spread[0], high=spread[1]).map(math.sqrt),
        between=Interval(value=value * within, low=between[0], high=between[1]).map(math.sqrt),
        reliability=Interval(value=value, low=low, high=high).map(lambda each: each / (1 + each)),
    )


def tau_interval(tau: float, networks: int) -> Interval | None:
    """Return Kendall's tau over `networks` with the interval of Fieller, Hartley and Pearson.

    Returns None for fewer than `MIN_NETWORKS` networks.
    """
    if networks < MIN_NETWORKS:
        return None
    largest = 1 - 2 / math.comb(networks, 2)  # one pair in the other order
    middle = math.atanh(min(max(tau, -largest), largest))
    half = Z * math.sqrt(TAU_VARIANCE / (networks - 4))
    low, high = math.tanh(middle - half), math.tanh(middle + half)
    return Interval(value=tau, low=min(low, tau), high=max(high, tau))


def expected_lead(networks: float) -> float:
    """Return by how many deviations the best of `networks` random ones is better than the mean.

    It is the expected largest of independent normal values (Blom's approximation).
    """
    if networks <= 1:
        return 0.0
    return NormalDist().inv_cdf((networks - 0.375) / (networks + 0.25))


def lead_at(largest: float) -> Callable[[float], float]:
    """Return the lead as a function of tau, given the one of a perfect recipe.

    It is in proportion to the correlation, which of normal variables is sin(pi tau / 2) (Greiner).
    """
    return lambda tau: largest * math.sin(math.pi * tau / 2)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The trainings by one recipe: errors by network and seed, and the number of networks that a
    search with this recipe trains.
    """

    name: str
    errors: Mapping[str, Mapping[int, float]]
    networks: float

    @cached_property
    def noise(self) -> Noise | None:
        """The deviations, over the networks that have the most seeds."""
        most = max(map(len, self.errors.values()), default=0)
        rows = [list(seeds.values()) for seeds in self.errors.values() if len(seeds) == most]
        return noise_of(np.array(rows)) if rows else None


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is expected of a search with one recipe.

    `tau` is that of single trainings with the yardstick. `lead` is the expected distance of the
    network with the lowest error from the mean network, in deviations of the yardstick's errors.
    `best` is the share of bootstrap samples in which no recipe has a larger lead, and `rivals` are
    the recipes whose lead is larger in more than 2.5 % of them.
    """

    name: str
    tau: Interval
    lead: Interval
    best: float
    rivals: tuple[str, ...]

    @property
    def is_vague(self) -> bool:
        """True if nothing can be said: the interval of tau is wider than 1, half of its range."""
        return self.tau.is_vague(2)


def outlooks(tried: Sequence[Tried], yardstick: Mapping[str, float]) -> dict[str, Outlook]:
    """Return the outlook of each recipe that can be compared, by its name.

    `yardstick` is the error of each network's longer training. The bootstrap samples are of the
    networks that the yardstick and all these recipes have.
    """
    taus = {each.name: _tau(each, yardstick) for each in tried}
    intervals = {name: interval for name, interval in taus.items() if interval is not None}
    compared = [each for each in tried if each.name in intervals]
    common = sorted(set(yardstick).intersection(*(each.errors for each in compared)))
    scale = {each.name: expected_lead(each.networks) for each in compared}
    samples = {
        each.name: scale[each.name] * np.sin(np.pi / 2 * _sampled_taus(each, yardstick, common))
        for each in compared
    }
    highest = np.max(list(samples.values()), axis=0) if samples else np.array([])
    return {
        name: Outlook(
            name=name,
            tau=interval,
            lead=interval.map(lead_at(scale[name])),
            best=float(
                np.mean(samples[name][np.isfinite(highest)] == highest[np.isfinite(highest)])
            ),
            rivals=tuple(
                other for other, leads in samples.items() if _is_rival(leads, samples[name])
            ),
        )
        for name, interval in intervals.items()
    }


def _tau(tried: Tried, yardstick: Mapping[str, float]) -> Interval | None:
    """Return tau of single trainings with the yardstick, the mean over the seeds."""
    names = sorted(tried.errors.keys() & yardstick.keys())
    taus = _seed_taus(tried, yardstick, names, np.ones((1, len(names))))
    if taus is None or not np.isfinite(taus[0]):
        return None
    return tau_interval(float(taus[0]), len(names))


def _sampled_taus(tried: Tried, yardstick: Mapping[str, float], common: Sequence[str]) -> Array:
    """Return the same of each bootstrap sample; NaN where it is undefined."""
    weights = bootstrap_weights(max(len(common), 1), DRAWS, 0)
    taus = _seed_taus(tried, yardstick, common, weights)
    return np.full(DRAWS, np.nan) if taus is None else taus


def _seed_taus(
    tried: Tried, yardstick: Mapping[str, float], names: Sequence[str], weights: Array
) -> Array | None:
    """Return tau of each seed with the yardstick, the mean over the seeds that `MIN_NETWORKS`
    networks have; None without such a seed. `weights` (draws, names) are those of the networks.
    """
    taus = []
    for seed in sorted({seed for name in names for seed in tried.errors[name]}):
        places = [place for place, name in enumerate(names) if seed in tried.errors[name]]
        if len(places) >= MIN_NETWORKS:
            errors = [tried.errors[names[place]][seed] for place in places]
            long = [yardstick[names[place]] for place in places]
            taus.append(weighted_taus(errors, long, weights[:, places]))
    return np.mean(taus, axis=0) if taus else None


def _is_rival(leads: Array, others: Array) -> bool:
    """Return whether these leads are the larger ones in more samples than chance allows."""
    defined = np.isfinite(leads) & np.isfinite(others)
    return bool(np.mean((leads > others)[defined]) > (1 - LEVEL) / 2) if defined.any() else True


def lead_with_new_seeds(networks: float, reliability: float, share: float) -> float:
    """Return the expected lead by a recipe's own errors, if this share of the trainings goes to new
    seeds of the front's members.

    The lead is that of the network with the lowest mean error, in deviations of the networks. It is
    simulated. The front has as many members as that of independent random values, the harmonic
    number of the networks (at least two).
    """
    searched = max(round(networks * (1 - share)), 2)
    members = min(max(round(math.log(searched) + np.euler_gamma), 2), searched)
    again = networks * share / members
    rng = np.random.default_rng(0)
    draws = max(SIMULATED // searched, 100)
    noise = math.sqrt(1 / reliability - 1)
    own = rng.standard_normal((draws, searched))
    errors = own + noise * rng.standard_normal((draws, searched))
    front = np.argpartition(errors, members - 1, axis=1)[:, :members]
    own, errors = (np.take_along_axis(each, front, axis=1) for each in (own, errors))
    if again > 0:
        new = own + noise / math.sqrt(again) * rng.standard_normal(own.shape)
        errors = (errors + again * new) / (1 + again)
    chosen = np.argmin(errors, axis=1)
    return -float(np.mean(own[np.arange(draws), chosen]))


def share_for_seeds(networks: float, reliability: Interval) -> Interval:
    """Return the share of the budget for new seeds that gives the best lead, from `SHARES`.

    The interval has the best shares at both ends of the reliability's interval.
    """

    def best(share: float) -> float:
        if share <= 0:
            return SHARES[-1]
        return max(SHARES, key=lambda each: lead_with_new_seeds(networks, min(share, 1.0), each))

    value, low, high = (
        best(share) for share in (reliability.value, reliability.high, reliability.low)
    )
    return Interval(value=value, low=min(low, value), high=max(high, value))
