"""Channel-Bench's ResNets with the accuracies of their table and latencies measured here: a contest
of samplers in which everything but training is real.

A network is built with random weights and measured when it is first proposed, alone on the device;
its latency is kept in a CSV file, so that all samplers and later calls find the same. Samplers are
told MACs and parameters; they have to learn the latency.
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
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.study import Objective
from nas.measuring.meters import Meter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods import latency, prepare
from nas.sampling.problem import TRAINED, Problem
from nas.searching.evaluators.classification.evaluator import retry_while_contended

COLUMNS = ("device", "network", "latency_s")


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredWidths:
    """A `Landscape` of error in percent and seconds per batch. Hypervolume is the share of the box
    between the least error of the table at no time at all and the reference: the table's error and
    the latency of the widest network.

    Raises `NasError` where the table is not of these networks, or a latency cannot be had.
    """

    table: Table
    meter: Meter
    plan: MeasurementPlan
    kept: Path

    def __post_init__(self) -> None:
        if self.table.networks.shape != (QUARTERS ** len(FULL), len(FULL)):
            raise NasError(
                f"{self.table.name} does not hold the {QUARTERS ** len(FULL)} ResNets of Channel-Bench-Macro"
            )

    @property
    def name(self) -> str:
        """What results are shown under."""
        return f"{self.table.name} latency on {self.meter.device.device_class}"

    @property
    def key(self) -> str:
        """What results are kept under."""
        return f"{self.table.key} latency on {self.meter.device.device_class}"

    def problem(self, *, tell_reference: bool) -> Problem:
        """What a sampler is told: counts as inputs, but no latency."""
        references = self.reference if tell_reference else [None, None]
        objectives = [
            Objective(metric=name, reference=at)
            for name, at in zip((TRAINED, "latency"), references, strict=True)
        ]
        return replace(self.table.problem(tell_reference=tell_reference), objectives=objectives)

    def errors_of(self, network: tuple[int, ...]) -> NDArray[np.float64]:
        """Percent by seed."""
        return self.table.errors_of(network)

    def costs_of(self, network: tuple[int, ...]) -> NDArray[np.float64]:
        """Seconds per batch."""
        return np.array([self._latency(network)])

    def canonical(self, network: tuple[int, ...]) -> tuple[int, ...]:
        """Itself: no two are the same."""
        return network

    def hypervolume(self, networks: Sequence[tuple[int, ...]]) -> float:
        """Of these networks, as a share of the box."""
        losses = [
            [self.table.errors_of(network).mean(), self._latency(network)] for network in networks
        ]
        worst_error, longest = self.reference
        return hypervolume(losses, self.reference) / (
            longest * (worst_error - float(self.table.losses[:, 0].min()))
        )

    @cached_property
    def reference(self) -> list[float]:
        """The table's error, the latency of the widest network."""
        return [float(self.table.reference[0]), self._latency((QUARTERS - 1,) * len(FULL))]

    def _latency(self, network: tuple[int, ...]) -> float:
        if network not in self._known:
            seconds = self._known[network] = self._measured(network)
            with self.kept.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(
                    (self._device, "-".join(map(str, network)), seconds)
                )
        return self._known[network]

    @cached_property
    def _known(self) -> dict[tuple[int, ...], float]:
        """What the file has of this device."""
        if not self.kept.exists():
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            self.kept.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
        with self.kept.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise NasError(
                    f"{self.kept} holds no latencies; its columns must be {', '.join(COLUMNS)}"
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
        model = WidthResNet([position + 1 for position in network])

        def measure() -> tuple[Measurement]:
            with (
                DeviceLock(self.meter.device.identity).exclusive(),
                prepare(model, self.plan, self.meter) as run,
            ):
                return (latency(run, self.meter, self.plan),)

        (figure,) = retry_while_contended(measure)
        if figure.value is None:
            raise NasError(f"no latency of {'-'.join(map(str, network))}: {figure.reason}")
        return figure.value
