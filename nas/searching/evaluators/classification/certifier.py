"""The evaluator of a finished front: it measures the networks in one session, interleaved with the
reference network.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from nas.core.errors import NasError
from nas.core.preparation import Preparation
from nas.core.tasks import CertifyTask, Measured
from nas.core.trial import CERTIFIED_METRICS
from nas.measuring.meters import find_meter
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import seeded_network
from nas.measuring.metrics.certified import build_with_reference, certify_networks
from nas.searching.evaluators.classification.evaluator import EnergyCounter, fails_trial
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
        self._spec, self._plan = context.spec, context.spec.measurement
        self._classes = len(self.prepare(context).classes)
        self._energy = any(objective.metric == "energy" for objective in context.spec.objectives)

    def steps(self, task: CertifyTask) -> Iterator[Measured]:
        """Measure the latency of each network, and its energy if that is an objective."""
        networks = {
            each.digest: seeded_network(each, self._classes, self._plan.image_size)
            for each in task.architectures
        }
        with find_meter(self._plan.device) as meter, fails_trial():
            reference, built = build_with_reference(networks, self._plan, meter)
            with meter.exclusive():
                started_s, counter = time.perf_counter(), EnergyCounter(meter, self._spec)
                figures_of = certify_networks(
                    reference, built, self._plan, meter, cycles=self.cycles, energy=self._energy
                )
            seconds, energy_j = time.perf_counter() - started_s, counter.drawn_j()
        yield Measured(
            seconds=seconds,
            energy_j=energy_j,
            measurements=tuple(
                replace(figure, metric=CERTIFIED_METRICS[figure.metric])
                for each in task.architectures
                for figure in figures_of[each.digest]
            ),
        )
