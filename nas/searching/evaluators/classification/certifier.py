"""The evaluator of a finished front: it measures the networks in one session, interleaved with the
reference network.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch import nn

from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.measurement import figure_name
from nas.core.preparation import Preparation
from nas.core.tasks import CertifyTask, Measured
from nas.core.trial import CERTIFIED_METRICS, sum_measured
from nas.measuring.meters import find_meter
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import seeded_network
from nas.measuring.metrics.certified import build_with_reference, certify_networks
from nas.searching.evaluators.classification.evaluator import (
    EnergyCounter,
    fails_trial,
    plan_on,
    retry_while_lost,
)
from nas.searching.evaluators.contract import StudyContext


class Certifier:
    """Measures networks of the search under its plan, but longer and together.

    `cycles` says how long; None leaves it to the device's variation.
    """

    cycles: Cycles | None = None

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Return the preparation of the search."""
        if context.preparation is None:
            raise NasError(
                f"study {context.spec.name!r} was never prepared: search it before certifying"
            )
        return context.preparation

    def __init__(self, context: StudyContext) -> None:
        self._context, self._spec = context, context.spec
        self._classes = len(self.prepare(context).classes)

    def _network(self, architecture: Architecture) -> nn.Module:
        """Return the network that is measured."""
        return seeded_network(architecture, self._classes, self._spec.measurement.image_size)

    def steps(self, task: CertifyTask) -> Iterator[Measured]:
        """Measure the latency of each network, and its energy if that is an objective, on each
        device on which latency is an objective. A device elsewhere is waited for, as in the search.
        """
        sessions = [
            retry_while_lost(partial(self._session, device, task))
            for device in self._spec.devices
            if "latency" in self._metrics(device)
        ]
        energies_j = [session.energy_j for session in sessions]
        counts = [len(s.measurements) // len(task.architectures) for s in sessions]
        yield Measured(
            seconds=sum(session.seconds for session in sessions),
            energy_j=sum_measured(*energies_j),
            measurements=tuple(
                figure
                for index in range(len(task.architectures))
                for session, count in zip(sessions, counts, strict=True)
                for figure in session.measurements[index * count : (index + 1) * count]
            ),
        )

    def _metrics(self, device: str | None) -> set[str]:
        """Return the metrics of the objectives with this device."""
        return {o.metric for o in self._spec.measured_objectives if o.device == device}

    def _session(self, device: str | None, task: CertifyTask) -> Measured:
        """Measure all networks on one device, None being that of the study's plan."""
        networks = {each.digest: self._network(each) for each in task.architectures}
        with find_meter(device or self._spec.measurement.device) as meter, fails_trial():
            plan = plan_on(device, self._spec.measurement, meter)
            reference, built = build_with_reference(networks, plan, meter)
            with meter.exclusive():
                started_s, counter = time.perf_counter(), EnergyCounter(meter, self._spec)
                figures_of = certify_networks(
                    reference,
                    built,
                    plan,
                    meter,
                    cycles=self.cycles,
                    energy="energy" in self._metrics(device),
                )
            seconds, energy_j = time.perf_counter() - started_s, counter.drawn_j()
        return Measured(
            seconds=seconds,
            energy_j=energy_j,
            measurements=tuple(
                replace(figure, metric=figure_name(CERTIFIED_METRICS[figure.metric], device))
                for each in task.architectures
                for figure in figures_of[each.digest]
            ),
        )
