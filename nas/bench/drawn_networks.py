"""Networks that are trained to judge brief trainings: drawn once, evenly over their MACs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from nas.bench.json_lines import append_line, read_lines
from nas.core.architecture import Architecture
from nas.core.complexity import totals
from nas.core.errors import MALFORMED, CorruptFileError, InvalidValueError
from nas.core.search_space import Params, SearchSpace

DRAWS = 40_000
"""Draws that make the pool from which the networks of a study are taken."""
MAX_REPEATS = 1000
"""Draws in a row without a new network after which the pool of a small space is complete."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of the study. If it is `set_aside`, it takes no part in choosing a recipe."""

    architecture: Architecture
    macs: int
    set_aside: bool

    @cached_property
    def name(self) -> str:
        """The first twelve hexadecimal digits of the digest."""
        return self.architecture.digest[:12]


def draw_networks(
    space: SearchSpace,
    count: int,
    macs: tuple[float, float],
    seed: int,
    *,
    image_size: int,
    classes: int,
) -> list[Network]:
    """Draw networks evenly over the logarithm of their MACs, half of them separable if the space
    has both kinds.

    One of two neighbours in size, drawn at random, is set aside. Networks for development come
    first, and any first few of them are spread over sizes and kinds. Raises `InvalidValueError` if
    the space has too few networks, or if the numbers do not fit.
    """
    low, high = macs
    if not 0 < low < high:
        raise InvalidValueError(f"macs must be two increasing positive numbers, not {low} {high}")
    rng = np.random.default_rng(seed)
    pool = _pool(space, rng)
    kinds = sorted({architecture.depthwise for architecture in pool})
    if count % (2 * len(kinds)):
        raise InvalidValueError(
            f"the number of networks must be a multiple of {2 * len(kinds)}, not {count}: each of "
            f"{len(kinds)} kinds has two halves"
        )
    edges = np.geomspace(low, high, count // len(kinds) + 1).tolist()
    halves: tuple[list[list[Network]], list[list[Network]]] = ([], [])
    for kind in kinds:
        sizes = sorted(
            (int(totals(architecture, image_size, classes)["macs"]), digest)
            for architecture, digest in ((each, each.digest) for each in pool)
            if architecture.depthwise is kind
        )
        architectures = {architecture.digest: architecture for architecture in pool}
        drawn = [
            (size, architectures[digest]) for size, digest in _one_per_stratum(sizes, edges, rng)
        ]
        pairs = range(0, len(drawn), 2)
        aside = list(chain.from_iterable(rng.permutation([True, False]) for _ in pairs))
        for chosen, half in enumerate(halves):
            half.append(
                [
                    Network(architecture=architecture, macs=size, set_aside=bool(chosen))
                    for (size, architecture), set_aside in zip(drawn, aside, strict=True)
                    if set_aside == bool(chosen)
                ]
            )
    rows = chain.from_iterable(zip(*map(spread, half), strict=True) for half in halves)
    return list(chain.from_iterable(rows))


def _pool(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """Draw different networks. Each draw is limited to a random share of the values of every
    ordered choice, so that small networks are not rare.
    """
    pool: dict[str, Architecture] = {}
    repeats = 0
    for _ in range(DRAWS):
        architecture = space.decode(_params(space, rng))
        repeats = repeats + 1 if architecture.digest in pool else 0
        pool[architecture.digest] = architecture
        if repeats == MAX_REPEATS:
            break
    return list(pool.values())


def _params(space: SearchSpace, rng: np.random.Generator) -> Params:
    share = rng.random()
    counts = [
        math.ceil(share * len(choice.values)) if choice.ordered else len(choice.values)
        for choice in space.choices
    ]
    return {
        choice.name: choice.values[rng.integers(max(count, 1))]
        for choice, count in zip(space.choices, counts, strict=True)
    }


def _one_per_stratum(
    sizes: Sequence[tuple[int, str]], edges: Sequence[float], rng: np.random.Generator
) -> list[tuple[int, str]]:
    """Draw one network, MACs and digest, between each two edges. An empty stratum takes the network
    that is next in size.
    """
    drawn: list[tuple[int, str]] = []
    for low, high in pairwise(edges):
        left = [each for each in sizes if each not in drawn]
        if not left:
            raise InvalidValueError(
                f"the space has only {len(sizes)} networks of a kind, too few for {len(edges) - 1}"
            )
        stratum = [each for each in left if low <= each[0] < high]
        if stratum:
            drawn.append(stratum[rng.integers(len(stratum))])
        else:
            drawn.append(min(left, key=lambda each: abs(math.log(each[0] / math.sqrt(low * high)))))
    return drawn


def spread(networks: Sequence[Network]) -> list[Network]:
    """Order networks so that any first few cover all sizes (van der Corput's sequence)."""
    bits = max(len(networks) - 1, 1).bit_length()
    places = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)]
    return [networks[place] for place in places if place < len(networks)]


def write_networks(path: Path, networks: Sequence[Network]) -> None:
    """Write one network a line to a new file."""
    for network in networks:
        append_line(
            path,
            {
                "network": network.name,
                "set_aside": network.set_aside,
                "macs": network.macs,
                "architecture": network.architecture.to_dict(),
            },
        )


def read_networks(path: Path) -> list[Network]:
    """Read what `write_networks` wrote. Raises `CorruptFileError` for a line of another kind."""
    try:
        return [
            Network(
                architecture=Architecture.from_dict(line["architecture"]),
                macs=line["macs"],
                set_aside=line["set_aside"],
            )
            for line in read_lines(path)
        ]
    except MALFORMED as error:
        raise CorruptFileError(f"{path} has a line that is no network: {error}") from error
