"""Channel-Bench's ResNets with the accuracies of their table and latencies measured here: a sampler
comparison in which everything but training is real.

A network is built with random weights and measured, alone on the device, when it is first proposed.
Its latency is stored in a CSV file, so that all samplers and later calls use the same value.
Samplers receive MACs and parameters, and have to learn the latency.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.bench.tables import Table
from nas.bench.width_resnet import FULL, QUARTERS, WidthResNet
from nas.core.dominance import hypervolume
from nas.core.errors import NasError
from nas.core.measurement import MeasurementPlan
from nas.core.study import ERROR, Objective
from nas.measuring.meters import Meter
from nas.measuring.session import latencies
from nas.measuring.targets import Target
from nas.sampling.problem import Problem
from nas.searching.evaluators.classification.evaluator import retry_while_contended

COLUMNS = ("device", "network", "latency_s")
"""Columns of the CSV file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredWidths:
    """A `BenchmarkProblem` of error in percent and latency in seconds per batch.

    The hypervolume is a share of the box between the ideal point (the smallest error of the table,
    a latency of 0) and the reference (the table's error, the latency of the widest network).
    `path` is the CSV file.

    Raises `NasError` if the table has other networks, or a latency cannot be measured.
    """

    table: Table
    meter: Meter
    plan: MeasurementPlan
    path: Path

    def __post_init__(self) -> None:
        count = QUARTERS ** len(FULL)
        if self.table.networks.shape != (count, len(FULL)):
            raise NasError(
                f"{self.table.name} does not hold the {count} ResNets of Channel-Bench-Macro"
            )

    @property
    def name(self) -> str:
        """Name under which results are shown."""
        return f"{self.table.name} latency on {self.meter.device.device_class}"

    @property
    def key(self) -> str:
        """Key under which results are stored."""
        return f"{self.table.key} latency on {self.meter.device.device_class}"

    def problem(self, *, with_reference: bool) -> Problem:
        """Return what a sampler receives: counts as inputs, but no latency."""
        references = self.reference if with_reference else [None, None]
        objectives = [
            Objective(metric=name, reference=at)
            for name, at in zip((ERROR.name, "latency"), references, strict=True)
        ]
        return replace(self.table.problem(with_reference=with_reference), objectives=objectives)

    def errors_of(self, network: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the error in percent for each training seed."""
        return self.table.errors_of(network)

    def costs_of(self, network: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the latency in seconds per batch."""
        return np.array([self._latency(network)])

    def canonical(self, network: tuple[int, ...]) -> tuple[int, ...]:
        """Return the vector itself, because no two encode the same network."""
        return network

    def hypervolume(self, networks: Sequence[tuple[int, ...]]) -> float:
        """Return the hypervolume of these networks, as a share of the box."""
        losses = [
            [self.table.errors_of(network).mean(), self._latency(network)] for network in networks
        ]
        worst_error, longest = self.reference
        box = longest * (worst_error - float(self.table.losses[:, 0].min()))
        return hypervolume(losses, self.reference) / box

    @cached_property
    def reference(self) -> list[float]:
        """Reference error of the table, and latency of the widest network."""
        return [float(self.table.reference[0]), self._latency((QUARTERS - 1,) * len(FULL))]

    def _latency(self, network: tuple[int, ...]) -> float:
        if network not in self._stored:
            seconds = self._stored[network] = self._measured(network)
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(
                    (self._device, "-".join(map(str, network)), seconds)
                )
        return self._stored[network]

    @cached_property
    def _stored(self) -> dict[tuple[int, ...], float]:
        """Latencies of this device in the file."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise NasError(
                    f"{self.path} holds no latencies; its columns must be {', '.join(COLUMNS)}"
                )
            return {
                tuple(map(int, row["network"].split("-"))): float(row["latency_s"])
                for row in rows
                if row["device"] == self._device
            }

    @property
    def _device(self) -> str:
        return f"{self.meter.device.identity} {self.meter.device.device_class}"

    def _measured(self, network: tuple[int, ...]) -> float:
        name = "-".join(map(str, network))
        target = Target(name=name, network=WidthResNet([position + 1 for position in network]))
        (figure,) = retry_while_contended(
            lambda: tuple(latencies([target], self.plan, self.meter).values()), self.plan
        )
        if figure.value is None:
            raise NasError(f"no latency for {name}: {figure.reason}")
        return figure.value
