"""Tables of trained networks, on which samplers are compared without training. The true front is
known.

Formats are `nas-bench-macro` (xiusu/NAS-Bench-Macro, JSON), `channel-bench`
(xiusu/Channel-Bench-Macro, JSON) and `csv`. A CSV table has a header, one row for each network, and
columns `choice:NAME`, `accuracy:SEED` (percent) and `cost:NAME`. A choice whose values are all
numbers is ordered. If there is a column `network`, rows with the same value in it are equivalent
encodings of one network.
"""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core.dominance import hypervolume, ranks
from nas.core.errors import MALFORMED, InvalidValueError, NasError
from nas.core.search_space import Choice, Params, Value
from nas.core.study import ERROR, Objective
from nas.sampling.problem import Problem
from nas.sampling.proposer import distribution

Array = NDArray[np.float64]
FLOORS = {"nas-bench-macro": 85.0, "channel-bench": 88.0}
"""Smallest accuracy in percent of a network of the true front, by format."""
REFERENCE = 1.1
"""Position of the reference if the true front spans 0 to 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A `BenchmarkProblem` of networks that were all trained.

    `networks` (n, d) hold the position of each choice's value, `errors` (n, seeds) are in percent,
    and `costs` (n, m) are positive. `floor` is the accuracy in percent that a network of the true
    front must have. `same` (n,) is the first row with each row's network, or None if all networks
    differ.
    """

    name: str
    choices: tuple[Choice, ...]
    cost_names: tuple[str, ...]
    networks: NDArray[np.int64]
    errors: Array
    costs: Array
    floor: float
    same: NDArray[np.int64] | None = None

    @cached_property
    def key(self) -> str:
        """Key under which results are stored: the name, the floor, and a digest of all that a
        search uses.
        """
        identity = (
            [(choice.name, choice.values) for choice in self.choices],
            self.cost_names,
            float(self.floor),
        )
        digest = hashlib.sha256(repr(identity).encode())
        for array in (self.networks, self.errors, self.costs, self.same):
            digest.update(b"" if array is None else array.tobytes())
        return f"{self.name} floor {self.floor:g} {digest.hexdigest()[:8]}"

    @cached_property
    def losses(self) -> Array:
        """Mean error and costs, (n, 1 + m)."""
        return np.column_stack([self.errors.mean(axis=1), self.costs])

    @cached_property
    def _front(self) -> Array:
        good = self.losses[self.losses[:, 0] <= 100 - self.floor]
        if len(good) < 2:
            raise InvalidValueError(
                f"the table has {len(good)} networks of at least {self.floor:g} % accuracy; "
                "lower the floor"
            )
        return np.asarray(good[ranks(good) == 0])

    @cached_property
    def reference(self) -> Array:
        """Point a tenth of the true front's range beyond the front.

        Raises `InvalidValueError` if that range is empty.
        """
        low, high = self._front.min(axis=0), self._front.max(axis=0)
        reference = np.asarray(low + REFERENCE * (high - low))
        names = ("accuracy", *self.cost_names)
        equal = [name for name, beyond in zip(names, reference > high, strict=True) if not beyond]
        if equal:
            raise InvalidValueError(
                f"the networks of the true front do not differ in {', '.join(equal)}, so it has no "
                "hypervolume; choose costs and a floor with which they do"
            )
        return reference

    def errors_of(self, network: tuple[int, ...]) -> Array:
        """Return the error in percent for each training seed."""
        return np.asarray(self.errors[self.row[network]])

    def costs_of(self, network: tuple[int, ...]) -> Array:
        """Return the costs in the order of `cost_names`."""
        return np.asarray(self.costs[self.row[network]])

    def hypervolume(self, networks: Sequence[tuple[int, ...]]) -> float:
        """Return the hypervolume of these networks, as a share of the true front's."""
        rows = [self.row[network] for network in networks]
        return hypervolume(self.losses[rows], self.reference.tolist()) / self._best_volume

    @cached_property
    def _best_volume(self) -> float:
        return hypervolume(self._front, self.reference.tolist())

    def canonical(self, network: tuple[int, ...]) -> tuple[int, ...]:
        """Return the first encoding of the same network in the table."""
        if self.same is None:
            return network
        return tuple(self.networks[self.same[self.row[network]]].tolist())

    @cached_property
    def row(self) -> Mapping[tuple[int, ...], int]:
        """Row of each network."""
        return {tuple(network): i for i, network in enumerate(self.networks.tolist())}

    def problem(self, *, with_reference: bool) -> Problem:
        """Return what a sampler receives: choices, costs as counts, which encodings are equivalent,
        and the reference as a study file would state it.
        """
        names = (ERROR.name, *self.cost_names)
        references = self.reference.tolist() if with_reference else [None] * len(names)
        positions = [{value: i for i, value in enumerate(choice.values)} for choice in self.choices]

        def key(params: Params) -> tuple[int, ...]:
            return tuple(
                where[params[c.name]] for where, c in zip(positions, self.choices, strict=True)
            )

        return Problem(
            choices=self.choices,
            distributions={c.name: distribution(c) for c in self.choices},
            identify=lambda params: self.canonical(key(params)),
            objectives=[
                Objective(metric=n, reference=r) for n, r in zip(names, references, strict=True)
            ],
            counts=lambda params: dict(
                zip(self.cost_names, self.costs[self.row[key(params)]].tolist(), strict=True)
            ),
        )


def _from_digits(path: Path, form: str) -> Table:
    """Read one of the two JSON formats, in which a network is a string of digits."""
    accuracy = "test_acc" if form == "nas-bench-macro" else "acc"
    entries = json.loads(path.read_text(encoding="utf-8"))
    keys = sorted(entries)
    digits = np.array([[int(digit) for digit in key] for key in keys])
    choices = tuple(
        Choice(name=f"layer{i}", values=tuple(int(v) for v in np.unique(column)))
        for i, column in enumerate(digits.T)
    )
    return Table(
        name=path.stem,
        choices=choices,
        cost_names=("macs", "parameters"),
        networks=digits - digits.min(axis=0),
        errors=100 - np.array([entries[key][accuracy] for key in keys]),
        costs=np.array(
            [[entries[key]["flops"] / 1e6, entries[key]["params"] / 1e6] for key in keys]
        ),
        floor=FLOORS[form],
    )


def _from_csv(path: Path, form: str) -> Table:  # noqa: ARG001 - the readers' contract
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    header = list(rows[0]) if rows else []
    columns = {
        kind: [name for name in header if name.startswith(f"{kind}:")]
        for kind in ("choice", "accuracy", "cost")
    }
    missing = [f"{kind}:…" for kind, names in columns.items() if not names]
    if missing:
        raise InvalidValueError(f"needs rows, and columns named {', '.join(missing)}")
    values = {name: _values({row[name] for row in rows}) for name in columns["choice"]}
    choices = tuple(
        Choice(name=name.partition(":")[2], values=tuple(by_text.values()))
        for name, by_text in values.items()
    )
    texts = {name: list(by_text) for name, by_text in values.items()}
    accuracies, costs = (
        np.array([[float(row[name]) for name in columns[kind]] for row in rows])
        for kind in ("accuracy", "cost")
    )
    same = None
    if "network" in header:
        same = _same([row["network"] for row in rows], np.hstack([accuracies, costs]))
    return Table(
        name=path.stem,
        choices=choices,
        cost_names=tuple(name.partition(":")[2] for name in columns["cost"]),
        networks=np.array([[texts[name].index(row[name]) for name in texts] for row in rows]),
        errors=100 - accuracies,
        costs=costs,
        floor=0.0,
        same=same,
    )


def _same(names: Sequence[str], figures: Array) -> NDArray[np.int64]:
    """Return the first row of each row's name, (n,).

    Raises `InvalidValueError` if rows of one name differ in their figures.
    """
    first_rows: dict[str, int] = {}
    same = np.array([first_rows.setdefault(name, i) for i, name in enumerate(names)])
    different = np.flatnonzero(
        ~np.isclose(figures, figures[same], rtol=0, atol=0, equal_nan=True).all(axis=1)
    )
    if len(different):
        raise InvalidValueError(
            f"rows of network {names[different[0]]} have different figures; they must be equal"
        )
    return same


def _values(texts: set[str]) -> dict[str, Value]:
    """Return the value of each text of a column, in order: numbers if all are, else the texts."""
    try:
        numbers = {
            text: int(text) if text.removeprefix("-").isdecimal() else float(text) for text in texts
        }
    except ValueError:
        numbers = {}
    if numbers and all(map(math.isfinite, numbers.values())):
        return dict(sorted(numbers.items(), key=lambda item: item[1]))
    return {text: text for text in sorted(texts)}


FORMATS: Mapping[str, Callable[[Path, str], Table]] = {
    "nas-bench-macro": _from_digits,
    "channel-bench": _from_digits,
    "csv": _from_csv,
}


def read_table(
    path: Path, form: str, *, floor: float | None = None, costs: Sequence[str] = ()
) -> Table:
    """Read the table in this file, with another `floor` than its format's, or only some `costs`.

    Raises `NasError` if the file is no table, lacks a combination of values or one of these costs,
    or has no true front with a hypervolume.
    """
    try:
        table = FORMATS[form](path, form)
    except (OSError, *MALFORMED) as error:
        raise NasError(f"{path} is no {form} table: {type(error).__name__}: {error}") from error
    size = int(np.prod([len(choice.values) for choice in table.choices]))
    if len(table.row) != size or len(table.networks) != size:
        raise NasError(
            f"{path}: {len(table.networks)} rows, but its choices have {size} combinations"
        )
    if not (np.isfinite(table.losses).all() and (table.costs > 0).all()):
        raise NasError(f"{path}: accuracies and costs must be finite and costs positive")
    unknown = sorted(set(costs) - set(table.cost_names))
    if unknown:
        raise NasError(
            f"{path} has no cost {', '.join(unknown)}; there are: {', '.join(table.cost_names)}"
        )
    if costs:
        columns = [table.cost_names.index(name) for name in costs]
        table = replace(table, cost_names=tuple(costs), costs=table.costs[:, columns])
    if floor is not None:
        table = replace(table, floor=floor)
    try:
        _ = table.reference  # raises now instead of in the first run
    except InvalidValueError as error:
        raise NasError(f"{path}: {error}") from error
    return table
