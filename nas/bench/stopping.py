"""Replay of rules that stop trials on networks that were all trained to the last rung, to count the
epochs that each rule saves and the front members that it loses.

The networks come one after the other in a random order, as random search would propose them. A rule
is charged for the epochs of every training that it does not stop. As in a search, only networks
that reach the last rung are on the front.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core.dominance import hypervolume, ranks
from nas.core.errors import MALFORMED, InvalidValueError
from nas.core.search_space import Params
from nas.core.stopping import Curves, Futility, exempt

Array = NDArray[np.float64]
REFERENCE = 1.1
"""Position of the reference if the table's front spans 0 to 1."""
BATCH = 12
"""Networks that halving trains side by side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayTable:
    """All networks of a study that reached the last rung, with their params. The rungs are at
    `epochs` (r,).
    """

    epochs: tuple[float, ...]
    curves: Curves
    params: Sequence[Params]
    cost_names: Sequence[str]
    size_names: Sequence[str]

    def hypervolume(self, networks: Sequence[int]) -> float:
        """Return the hypervolume of these networks at the last rung, as a share of that of all.

        Losses are scaled by the front of all networks.
        """
        losses = self.curves.losses
        front = losses[ranks(losses) == 0]
        low, span = front.min(axis=0), np.ptp(front, axis=0)
        scaled = (losses - low) / np.where(span > 0, span, 1.0)
        reference = [REFERENCE] * scaled.shape[1]
        return hypervolume(scaled[list(networks)], reference) / hypervolume(scaled, reference)

    @property
    def front(self) -> set[int]:
        """Positions of the networks that no other one dominates."""
        return set(np.flatnonzero(ranks(self.curves.losses) == 0).tolist())


Visit = tuple[int, int]
"""A network and the rung up to which it was trained, counted from 0."""
Strategy = Callable[[Curves, Sequence[int], NDArray[np.bool_]], Iterator[Visit]]
"""A function from all curves, the order of the networks, and which of them are exempt from stopping
(n,), to the trainings in order.
"""


def no_stopping(
    curves: Curves,
    order: Sequence[int],
    is_exempt: NDArray[np.bool_],  # noqa: ARG001
) -> Iterator[Visit]:
    """Stop no network."""
    return ((network, rung) for network in order for rung in range(curves.errors.shape[1]))


def futility(curves: Curves, order: Sequence[int], is_exempt: NDArray[np.bool_]) -> Iterator[Visit]:
    """Stop networks as `stopping.futility` does."""
    last = curves.errors.shape[1] - 1
    finished: list[int] = []

    def stops(network: int, rung: int) -> bool:
        finished_curves = Curves(
            numbers=curves.numbers[finished],
            errors=curves.errors[finished],
            costs=curves.costs[finished],
            sizes=curves.sizes[finished],
        )
        return Futility(finished_curves, rung + 1).stops(
            curves.errors[network, : rung + 1].tolist(),
            curves.costs[network].tolist(),
            curves.sizes[network].tolist(),
        )

    for network in order:
        for rung in range(last + 1):
            yield network, rung
            if rung < last and not is_exempt[network] and stops(network, rung):
                break
        else:
            finished.append(network)


def halving(
    curves: Curves,
    order: Sequence[int],
    is_exempt: NDArray[np.bool_],  # noqa: ARG001
) -> Iterator[Visit]:
    """Train batches of 12 side by side, and after each rung continue the better half by rank, ties
    by error.
    """
    for start in range(0, len(order), BATCH):
        batch = list(order[start : start + BATCH])
        for rung in range(curves.errors.shape[1]):
            yield from ((network, rung) for network in batch)
            losses = _losses(curves, batch, rung)
            better = np.lexsort((losses[:, 0], ranks(losses)))
            batch = [batch[i] for i in better[: (len(batch) + 1) // 2]]


STRATEGIES: dict[str, Strategy] = {
    "no stopping": no_stopping,
    "futility": futility,
    "halving": halving,
}
"""The compared rules by name."""


def _losses(curves: Curves, networks: Sequence[int], rung: int) -> Array:
    return np.column_stack([curves.errors[networks, rung], curves.costs[networks]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """Replay of one strategy in one order.

    `epochs` (t,) are the epochs spent after each training and `volumes` (t,) the hypervolumes.
    `finished` are the networks that reached the last rung.
    """

    epochs: Array
    volumes: Array
    finished: Sequence[int]

    def volume_at(self, epochs: float) -> float:
        """Return the hypervolume after this many epochs, or the last one if fewer were spent."""
        before = np.searchsorted(self.epochs, epochs + 1e-9, side="right")
        return float(self.volumes[before - 1]) if before else 0.0

    def epochs_to(self, volume: float) -> float | None:
        """Return the epochs spent until this hypervolume is reached, None if it never is."""
        reached = np.flatnonzero(self.volumes >= volume)
        return float(self.epochs[reached[0]]) if len(reached) else None


def replay(table: ReplayTable, strategy: Strategy, seed: int) -> Replay:
    """Run the strategy on the table in the order of this seed, which is the same for all."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(table.curves)).tolist()
    is_exempt = np.array([exempt(draw) for draw in rng.integers(0, 2**31, len(order))])
    steps = np.diff(table.epochs, prepend=0.0)
    spent, volumes, finished = [0.0], [0.0], []
    for network, rung in strategy(table.curves, order, is_exempt):
        if rung == len(steps) - 1:
            finished.append(network)
        spent.append(spent[-1] + steps[rung])
        volumes.append(table.hypervolume(finished) if rung == len(steps) - 1 else volumes[-1])
    return Replay(epochs=np.array(spent[1:]), volumes=np.array(volumes[1:]), finished=finished)


def table_text(table: ReplayTable) -> str:
    """Return the table as CSV, which `nas bench search --table` reads too.

    The columns are choices, final accuracy, errors at the rungs as shares, costs and sizes.
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
    """Read the CSV that `table_text` returned. Raises `InvalidValueError` if a column is missing or
    has a value that is no number.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    header = list(rows[0]) if rows else []
    columns = {
        kind: [name for name in header if name.startswith(f"{kind}:")]
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
    except MALFORMED as error:
        raise InvalidValueError(f"{path} is no table of curves: {error}") from error
    if not rows or not epochs:
        raise InvalidValueError(f"{path} has no networks with columns error:EPOCHS")
    names = {kind: [name.partition(":")[2] for name in columns[kind]] for kind in columns}
    params = [{name: row[f"choice:{name}"] for name in names["choice"]} for row in rows]
    return ReplayTable(
        epochs=epochs,
        curves=curves,
        params=params,
        cost_names=names["cost"],
        size_names=names["size"],
    )
