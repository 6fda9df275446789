"""Figures of all trials of a study as columns of numbers.

Loading a trial with its device, plan and samples takes a third of a millisecond. Its row in these
columns takes about 10 µs. They serve to choose the trials that are worth loading.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, select

from nas.core.measurement import Status
from nas.core.trial import CERTIFIED_METRICS, Replicate, certified_name
from nas.record.loading import load_replicates, without_garbage_collection
from nas.record.schema.tables import EVALUATION, MEASUREMENT, RUNG, RUNG_METRIC, TRIAL

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Figures:
    """The newest figures of one metric, of shape (n,) each.

    `value` and `low` and `high`, the ends of the 95 % interval, are in SI units, and NaN if there
    are none. `noisy` says which figures have the status noisy.
    """

    value: Array
    low: Array
    high: Array
    noisy: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """The n trials of a study without duplicates, in ascending order of their `numbers` (n,).

    `states` (n,) are texts. `epochs` (n,) are those of the last rung, NaN without one. `figures`
    are those of the metrics that were asked for. The figure of a trained metric is that of the last
    rung, and has no interval. `certified` (n,) says which trials have a certified figure.
    `replicates` are by the number of their trial.
    """

    numbers: NDArray[np.int64]
    states: NDArray[np.str_]
    epochs: Array
    figures: Mapping[str, Figures]
    certified: NDArray[np.bool_]
    replicates: Mapping[int, tuple[Replicate, ...]]


@without_garbage_collection()
def load_columns(connection: Connection, study_id: int, metrics: Collection[str]) -> Columns:
    """Return the columns of a study with the figures of these metrics."""
    of_study = EVALUATION.c.study_id + 0 == study_id  # SQLite reads faster without the index
    rows = connection.execute(
        select(TRIAL.c.number, TRIAL.c.evaluation_id, TRIAL.c.state).where(
            TRIAL.c.study_id + 0 == study_id, TRIAL.c.duplicate_of.is_(None)
        )
    ).all()
    numbers, keys, states = _columns(sorted(rows, key=itemgetter(0)), 3)
    places = _Places(keys)
    names = [certified_name(metric) for metric in (*CERTIFIED_METRICS, *metrics)]
    certified_names = {name for name in names if name is not None}
    figures = _load_figures(connection, of_study, places, {*metrics, *certified_names})
    certified = [~np.isnan(figures.pop(name).value) for name in certified_names]
    figures |= _load_trained(connection, of_study, places, metrics)
    replicates = load_replicates(connection, of_study)
    return Columns(
        numbers=np.array(numbers, dtype=np.int64),
        states=np.array(states, dtype=np.str_),
        epochs=_load_epochs(connection, of_study, places),
        figures=figures,
        certified=np.any(certified, axis=0),
        replicates={numbers[places.of([key])[0]]: each for key, each in replicates.items()},
    )


@without_garbage_collection()
def load_rungs(connection: Connection, study_id: int, metric: str) -> dict[int, tuple[float, ...]]:
    """Return a trained metric at the rungs of each trial, in their order, without duplicates."""
    its = RUNG_METRIC.c
    rows = connection.execute(
        select(TRIAL.c.number, its.value)
        .join_from(RUNG_METRIC, TRIAL, its.evaluation_id == TRIAL.c.evaluation_id)
        .where(TRIAL.c.study_id == study_id, TRIAL.c.duplicate_of.is_(None), its.metric == metric)
        .order_by(its.evaluation_id, its.epochs)
    ).all()
    values: dict[int, list[float]] = defaultdict(list)
    for number, value in rows:
        values[number].append(value)
    return {number: tuple(each) for number, each in values.items()}


class _Places:
    """The places of evaluations in the columns, given their keys in the order of the columns."""

    def __init__(self, keys: Sequence[int]) -> None:
        unsorted = np.array(keys, dtype=np.int64)
        self._sorter = np.argsort(unsorted)
        self._keys = unsorted[self._sorter]

    def of(self, keys: Sequence[int]) -> NDArray[np.int64]:
        """Return the place of each of these evaluations."""
        return self._sorter[np.searchsorted(self._keys, np.array(keys, dtype=np.int64))]

    def column(self, places: NDArray[np.int64], values: Sequence[float | None]) -> Array:
        """Return the values at their places, NaN elsewhere; the last of several at one place."""
        column = np.full(len(self._keys), np.nan)
        column[places] = np.array(values, dtype=float)
        return column


def _load_figures(
    connection: Connection,
    of_study: ColumnElement[bool],
    places: _Places,
    wanted: Collection[str],
) -> dict[str, Figures]:
    """Return the figures of these names."""
    its = MEASUREMENT.c
    is_noisy = its.status == Status.NOISY.value
    rows: dict[str, list[Sequence[Any]]] = {metric: [] for metric in wanted}
    for row in connection.execute(
        select(its.metric, its.evaluation_id, its.value, its.ci_low, its.ci_high, is_noisy)
        .join(EVALUATION)
        .where(of_study, its.metric.in_(sorted(wanted)))
        .order_by(its.id)
    ).all():
        rows[row[0]].append(row)
    figures = {}
    for metric in wanted:
        _, keys, value, low, high, noisy = _columns(rows[metric], 6)
        where = places.of(keys)
        figures[metric] = Figures(
            value=places.column(where, value),
            low=places.column(where, low),
            high=places.column(where, high),
            noisy=places.column(where, noisy) == 1,
        )
    return figures


def _load_epochs(connection: Connection, of_study: ColumnElement[bool], places: _Places) -> Array:
    """Return the epochs of the last rungs."""
    rows = connection.execute(
        select(RUNG.c.evaluation_id, RUNG.c.epochs)
        .join(EVALUATION)
        .where(of_study)
        .order_by(RUNG.c.epochs)
    ).all()
    keys, epochs = _columns(rows, 2)
    return places.column(places.of(keys), epochs)


def _load_trained(
    connection: Connection,
    of_study: ColumnElement[bool],
    places: _Places,
    metrics: Collection[str],
) -> dict[str, Figures]:
    """Return the figures at the last rungs of those of the metrics that training gave."""
    its = RUNG_METRIC.c
    rows: dict[str, list[Sequence[Any]]] = defaultdict(list)
    for row in connection.execute(
        select(its.metric, its.evaluation_id, its.value)
        .join_from(RUNG_METRIC, EVALUATION, its.evaluation_id == EVALUATION.c.id)
        .where(of_study, its.metric.in_(sorted(metrics)))
        .order_by(its.epochs)
    ).all():
        rows[row[0]].append(row)
    figures = {}
    for metric, of_metric in rows.items():
        _, keys, values = _columns(of_metric, 3)
        value = places.column(places.of(keys), values)
        nothing = np.full(len(value), np.nan)
        figures[metric] = Figures(value=value, low=nothing, high=nothing, noisy=np.isinf(nothing))
    return figures


def _columns(rows: Sequence[Sequence[Any]], number: int) -> list[Sequence[Any]]:
    """Return the columns of these rows, each of which has this number of values."""
    return list(zip(*rows, strict=True)) or [()] * number
