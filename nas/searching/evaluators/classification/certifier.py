"""The evaluator of a finished front: its networks measured in turns against the reference, all in
one session.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from nas.core.errors import NasError
from nas.core.tasks import CertifyTask, Measured
from nas.core.trial import CERTIFIED_METRICS
from nas.measuring.meters import find_meter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import seeded_network
from nas.measuring.metrics.certified import certify_networks
from nas.searching.evaluators.classification.evaluator import Joules, fails_trial
from nas.searching.evaluators.contract import Preparation, StudyContext


class Certifier:
    """The same networks under the same plan as in the search, longer and together; `cycles` says
    how long, None as the device needs it.
    """

    cycles: Cycles | None = None

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Nothing more than the study needed."""
        if context.preparation is None:
            raise NasError(
                f"study {context.spec.name!r} was never prepared, so there is nothing to certify"
            )
        return context.preparation

    def __init__(self, context: StudyContext) -> None:
        self._spec, self._plan, self._classes = (
            context.spec,
            context.spec.measurement,
            len(self.prepare(context).classes),
        )
        self._energy = any(objective.metric == "energy" for objective in context.spec.objectives)

    def steps(self, task: CertifyTask) -> Iterator[Measured]:
        """Latency of each network, and joules where they are an objective, one network after
        another.
        """
        networks = {
            each.digest: seeded_network(each, self._classes, self._plan.image_size)
            for each in task.architectures
        }
        with (
            find_meter() as meter,
            DeviceLock(meter.device.identity).exclusive(),
            fails_trial(),
        ):
            started, joules = time.perf_counter(), Joules(meter, self._spec)
            found = certify_networks(
                networks, self._plan, meter, cycles=self.cycles, energy=self._energy
            )
            seconds, energy_j = time.perf_counter() - started, joules.drawn()
        yield Measured(
            seconds=seconds,
            energy_j=energy_j,
            measurements=tuple(
                replace(figure, metric=CERTIFIED_METRICS[figure.metric])
                for each in task.architectures
                for figure in found[each.digest]
            ),
        )
