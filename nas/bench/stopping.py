"""Rules for stopping trials, replayed on networks that were all trained to the last rung: what they
save and lose.

The networks come one after the other in a random order, as a sampler without memory would propose
them. A rule pays for the epochs that it lets be trained; only what reaches the last rung is on its
front, as in a search.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core.dominance import hypervolume, ranks
from nas.core.errors import InvalidValueError
from nas.core.search_space import Params
from nas.core.stopping import Curves, Futility, continues, exempt

Array = NDArray[np.float64]
BEYOND = 1.1
"""Where the reference lies, when the table's front spans 0 to 1."""
BATCH = 12
"""Networks that halving trains side by side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayTable:
    """All networks of a study that reached the last of the rungs, `epochs` (r,), with their
    params.
    """

    epochs: tuple[float, ...]
    curves: Curves
    params: Sequence[Params]
    cost_names: Sequence[str]
    size_names: Sequence[str]

    def hypervolume(self, networks: Sequence[int]) -> float:
        """Of these networks when trained fully, as a share of all networks'. Losses are scaled by
        the front of all.
        """
        losses = self.curves.losses
        best = losses[ranks(losses) == 0]
        low, span = best.min(axis=0), np.ptp(best, axis=0)
        scaled = (losses - low) / np.where(span > 0, span, 1.0)
        reference = [BEYOND] * scaled.shape[1]
        return hypervolume(scaled[list(networks)], reference) / hypervolume(scaled, reference)

    @property
    def front(self) -> set[int]:
        """The networks that no other dominates, by their places."""
        return set(np.flatnonzero(ranks(self.curves.losses) == 0).tolist())


Visit = tuple[int, int]
"""A network trained up to a rung, counted from 0."""
Strategy = Callable[[Curves, Sequence[int], NDArray[np.bool_]], Iterator[Visit]]
"""From all curves, the order of the networks, and who runs through on purpose, (n,), to the
trainings in order.
"""


def everybody(curves: Curves, order: Sequence[int], through: NDArray[np.bool_]) -> Iterator[Visit]:  # noqa: ARG001
    """Nobody is stopped."""
    return ((network, rung) for network in order for rung in range(curves.errors.shape[1]))


def futility(curves: Curves, order: Sequence[int], through: NDArray[np.bool_]) -> Iterator[Visit]:
    """As `rungs.futility` does."""

    def stops(network: int, rung: int, before: Sequence[Visit]) -> bool:
        last = curves.errors.shape[1] - 1
        known = [each for each, reached in before if reached == last]
        rule = Futility(
            Curves(
                numbers=curves.numbers[known],
                errors=curves.errors[known],
                costs=curves.costs[known],
                sizes=curves.sizes[known],
            ),
            rung + 1,
        )
        return rule.stops(
            curves.errors[network, : rung + 1].tolist(),
            curves.costs[network].tolist(),
            curves.sizes[network].tolist(),
        )

    return _in_turn(curves, order, through, stops)


def by_rank(keep: float, min_trials: int = 4) -> Strategy:
    """As `rungs.keep` does."""

    def strategy(
        curves: Curves, order: Sequence[int], through: NDArray[np.bool_]
    ) -> Iterator[Visit]:
        def stops(network: int, rung: int, before: Sequence[Visit]) -> bool:
            others = [each for each, reached in before if reached == rung]
            return not continues(_losses(curves, [network, *others], rung), 0, keep, min_trials)

        return _in_turn(curves, order, through, stops)

    return strategy


def halving(curves: Curves, order: Sequence[int], through: NDArray[np.bool_]) -> Iterator[Visit]:  # noqa: ARG001
    """Batches of 12 side by side; after each rung the better half by rank, ties by error,
    goes on.
    """
    for start in range(0, len(order), BATCH):
        batch = list(order[start : start + BATCH])
        for rung in range(curves.errors.shape[1]):
            yield from ((network, rung) for network in batch)
            losses = _losses(curves, batch, rung)
            better = np.lexsort((losses[:, 0], ranks(losses)))
            batch = [batch[i] for i in better[: (len(batch) + 1) // 2]]


STRATEGIES: dict[str, Strategy] = {
    "no stopping": everybody,
    "futility": futility,
    "keep 0.5": by_rank(0.5),
    "keep 0.33": by_rank(1 / 3),
    "halving": halving,
}


def _in_turn(
    curves: Curves,
    order: Sequence[int],
    through: NDArray[np.bool_],
    stops: Callable[[int, int, Sequence[Visit]], bool],
) -> Iterator[Visit]:
    """One network after the other, until it is stopped after a rung or has reached the last."""
    done: list[Visit] = []
    last = curves.errors.shape[1] - 1
    for network in order:
        for rung in range(last + 1):
            yield network, rung
            stopped = rung < last and not through[network] and stops(network, rung, done)
            done.append((network, rung))
            if stopped:
                break


def _losses(curves: Curves, networks: Sequence[int], rung: int) -> Array:
    return np.column_stack([curves.errors[networks, rung], curves.costs[networks]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """One strategy and one order: after each training the `epochs` spent, (t,), and the
    hypervolume, (t,); the networks that reached the last rung.
    """

    epochs: Array
    volumes: Array
    finished: Sequence[int]

    def volume_at(self, epochs: float) -> float:
        """The hypervolume once so many epochs are spent; its last one, where it is done earlier."""
        before = np.searchsorted(self.epochs, epochs + 1e-9, side="right")
        return float(self.volumes[before - 1]) if before else 0.0

    def epochs_to(self, volume: float) -> float | None:
        """The epochs spent when the hypervolume is reached, None where it never is."""
        reached = np.flatnonzero(self.volumes >= volume)
        return float(self.epochs[reached[0]]) if len(reached) else None


def replay(table: ReplayTable, strategy: Strategy, seed: int) -> Replay:
    """Run the strategy on the table in the order of this seed, which is the same for every
    strategy.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(table.curves)).tolist()
    through = np.array([exempt(draw) for draw in rng.integers(0, 2**31, len(order))])
    steps = np.diff(table.epochs, prepend=0.0)
    spent, volumes, finished = [0.0], [0.0], []
    for network, rung in strategy(table.curves, order, through):
        if rung == len(steps) - 1:
            finished.append(network)
        spent.append(spent[-1] + steps[rung])
        volumes.append(table.hypervolume(finished) if rung == len(steps) - 1 else volumes[-1])
    return Replay(epochs=np.array(spent[1:]), volumes=np.array(volumes[1:]), finished=finished)


def table_text(table: ReplayTable) -> str:
    """As CSV that `nas bench search --table` reads too: choices, the final accuracy, the errors at
    the rungs as shares, costs and sizes.
    """
    curves, names = table.curves, list(table.params[0]) if table.params else []
    header = [
        "trial",
        *(f"choice:{name}" for name in names),
        "accuracy:0",
        *(f"error:{epochs:g}" for epochs in table.epochs),
        *(f"cost:{name}" for name in table.cost_names),
        *(f"size:{name}" for name in table.size_names),
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for i, params in enumerate(table.params):
        writer.writerow(
            [
                curves.numbers[i],
                *(params[name] for name in names),
                f"{100 * (1 - curves.errors[i, -1]):.6g}",
                *curves.errors[i].tolist(),
                *curves.costs[i].tolist(),
                *curves.sizes[i].tolist(),
            ]
        )
    return text.getvalue()


def read_table(path: Path) -> ReplayTable:
    """What `table_text` gave. Raises `InvalidValueError` where a column is missing or no number."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {
        kind: [name for name in (rows[0] if rows else {}) if name.startswith(f"{kind}:")]
        for kind in ("choice", "error", "cost", "size")
    }
    try:
        values = {
            kind: np.array([[float(row[name]) for name in columns[kind]] for row in rows])
            for kind in ("error", "cost", "size")
        }
        curves = Curves(
            numbers=np.array([int(row["trial"]) for row in rows]),
            errors=values["error"],
            costs=values["cost"],
            sizes=values["size"],
        )
        epochs = tuple(float(name.partition(":")[2]) for name in columns["error"])
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path} is no table of curves: {error}"
        raise InvalidValueError(message) from error
    if not rows or not epochs:
        message = f"{path} has no networks with columns error:EPOCHS"
        raise InvalidValueError(message)
    names = {kind: [name.partition(":")[2] for name in columns[kind]] for kind in columns}
    params = [{name: row[f"choice:{name}"] for name in names["choice"]} for row in rows]
    return ReplayTable(
        epochs=epochs,
        curves=curves,
        params=params,
        cost_names=names["cost"],
        size_names=names["size"],
    )
