"""Tables of trained networks, on which a search can be run without training, and the truth about
it.

Formats: `nas-bench-macro` (xiusu/NAS-Bench-Macro, JSON), `channel-bench`
(xiusu/Channel-Bench-Macro, JSON) and `csv`: a header and one row for each network, columns
`choice:NAME`, `accuracy:SEED` (percent) and `cost:NAME`. A choice whose values are all numbers has
an order. Rows of one value in the column `network`, where there is one, are the same network,
spelled in several ways.
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
from nas.core.errors import InvalidValueError, NasError
from nas.core.search_space import Choice, Params, Value
from nas.core.study import Objective
from nas.sampling.problem import TRAINED, Problem
from nas.sampling.proposer import distribution

Array = NDArray[np.float64]
FLOORS = {"nas-bench-macro": 85.0, "channel-bench": 88.0}
"""Accuracy in percent that a network needs to be of interest."""
BEYOND = 1.1
"""Where the reference lies, when the true front spans 0 to 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """`networks` (n, d) hold the position of each choice's value, `errors` (n, seeds) percent,
    `costs` (n, m) > 0.

    `floor` is the accuracy in percent that a network of the true front must have; `same` (n,) is
    where each row's network first stands, None where all differ. A `Landscape` for contests.
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
        """What results are kept under: the name, the floor, and a digest of all that a search
        meets.
        """
        told = (
            [(choice.name, choice.values) for choice in self.choices],
            self.cost_names,
            float(self.floor),
        )
        digest = hashlib.sha256(repr(told).encode())
        for each in (self.networks, self.errors, self.costs, self.same):
            digest.update(b"" if each is None else each.tobytes())
        return f"{self.name} floor {self.floor:g} {digest.hexdigest()[:8]}"

    @cached_property
    def losses(self) -> Array:
        """Mean error and costs, (n, 1 + m)."""
        return np.column_stack([self.errors.mean(axis=1), self.costs])

    @cached_property
    def _front(self) -> Array:
        good = self.losses[self.losses[:, 0] <= 100 - self.floor]
        if len(good) < 2:
            message = f"the table has {len(good)} networks of at least {self.floor:g} % accuracy; lower the floor"
            raise InvalidValueError(message)
        return np.asarray(good[ranks(good) == 0])

    @cached_property
    def reference(self) -> Array:
        """A tenth of the true front's span beyond it. Raises `InvalidValueError` where it spans
        nothing.
        """
        low, high = self._front.min(axis=0), self._front.max(axis=0)
        reference = np.asarray(low + BEYOND * (high - low))
        names = ("accuracy", *self.cost_names)
        equal = [name for name, beyond in zip(names, reference > high, strict=True) if not beyond]
        if equal:
            message = (
                f"the networks of the true front do not differ in {', '.join(equal)}, so it has no hypervolume; "
                "choose costs and a floor with which they do"
            )
            raise InvalidValueError(message)
        return reference

    def errors_of(self, network: tuple[int, ...]) -> Array:
        """Percent by seed."""
        return np.asarray(self.errors[self.row[network]])

    def costs_of(self, network: tuple[int, ...]) -> Array:
        """In the order of `cost_names`."""
        return np.asarray(self.costs[self.row[network]])

    def hypervolume(self, networks: Sequence[tuple[int, ...]]) -> float:
        """Of these networks, as a share of the true front's."""
        rows = [self.row[network] for network in networks]
        return hypervolume(self.losses[rows], self.reference.tolist()) / self._whole

    @cached_property
    def _whole(self) -> float:
        return hypervolume(self._front, self.reference.tolist())

    def canonical(self, network: tuple[int, ...]) -> tuple[int, ...]:
        """The first spelling of the same network."""
        return (
            network
            if self.same is None
            else tuple(self.networks[self.same[self.row[network]]].tolist())
        )

    @cached_property
    def row(self) -> Mapping[tuple[int, ...], int]:
        """Where a network stands."""
        return {tuple(network): i for i, network in enumerate(self.networks.tolist())}

    def problem(self, *, tell_reference: bool) -> Problem:
        """What a sampler is told: choices, costs as counts, which networks are the same, and the
        reference as a study file would have it.
        """
        names = (TRAINED, *self.cost_names)
        references = self.reference.tolist() if tell_reference else [None] * len(names)
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
    """The two JSON formats: a network is a string of digits."""
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
    columns = {
        kind: [name for name in (rows[0] if rows else ()) if name.startswith(f"{kind}:")]
        for kind in ("choice", "accuracy", "cost")
    }
    missing = [f"{kind}:…" for kind, names in columns.items() if not names]
    if missing:
        message = f"needs rows, and columns named {', '.join(missing)}"
        raise InvalidValueError(message)
    values = {name: _values({row[name] for row in rows}) for name in columns["choice"]}
    choices = tuple(
        Choice(name=name.partition(":")[2], values=tuple(found.values()))
        for name, found in values.items()
    )
    texts = {name: list(found) for name, found in values.items()}
    figures = {
        kind: np.array([[float(row[name]) for name in columns[kind]] for row in rows])
        for kind in ("accuracy", "cost")
    }
    same = (
        _same([row["network"] for row in rows], np.hstack(list(figures.values())))
        if "network" in rows[0]
        else None
    )
    return Table(
        name=path.stem,
        choices=choices,
        cost_names=tuple(name.partition(":")[2] for name in columns["cost"]),
        networks=np.array([[texts[name].index(row[name]) for name in texts] for row in rows]),
        errors=100 - figures["accuracy"],
        costs=figures["cost"],
        floor=0.0,
        same=same,
    )


def _same(names: Sequence[str], figures: Array) -> NDArray[np.int64]:
    """Where each name first stands, (n,). Raises `InvalidValueError` where rows of one name differ
    in their figures.
    """
    first: dict[str, int] = {}
    found = np.array([first.setdefault(name, i) for i, name in enumerate(names)])
    different = np.flatnonzero(
        ~np.isclose(figures, figures[found], rtol=0, atol=0, equal_nan=True).all(axis=1)
    )
    if len(different):
        message = f"rows of network {names[different[0]]} have different figures"
        raise InvalidValueError(message)
    return found


def _values(texts: set[str]) -> dict[str, Value]:
    """What each of the texts of a column stands for, in order: numbers where all are, else the
    texts.
    """
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
    """The table in this file; `floor` in place of its format's, and of its costs only these.

    Raises `NasError` where it is no table, does not hold every combination of values, has no such
    cost, or no true front with a hypervolume.
    """
    try:
        table = FORMATS[form](path, form)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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
        kept = [table.cost_names.index(name) for name in costs]
        table = replace(table, cost_names=tuple(costs), costs=table.costs[:, kept])
    table = table if floor is None else replace(table, floor=floor)
    try:
        _ = table.reference  # here, or the first run would raise it
    except InvalidValueError as error:
        raise NasError(f"{path}: {error}") from error
    return table
