"""The evaluator of a finished front: its networks measured in turns against the reference, all in
one session.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from nas.core.errors import NasError
from nas.core.tasks import Measured, Together
from nas.core.trial import CERTIFIED
from nas.measuring.meters import find_meter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import seeded_network
from nas.measuring.metrics.certified import certified
from nas.searching.evaluators.classification.evaluator import Joules, failing_the_trial
from nas.searching.evaluators.contract import Job, Preparation


class Certifier:
    """The same networks under the same plan as in the search, longer and together; `cycles` says
    how long, None as the device needs it.
    """

    cycles: Cycles | None = None

    @classmethod
    def prepare(cls, job: Job) -> Preparation:
        """Nothing more than the study needed."""
        if job.preparation is None:
            raise NasError(
                f"study {job.spec.name!r} was never prepared, so there is nothing to certify"
            )
        return job.preparation

    def __init__(self, job: Job) -> None:
        self._spec, self._plan, self._classes = (
            job.spec,
            job.spec.measurement,
            len(self.prepare(job).classes),
        )
        self._energy = any(objective.metric == "energy" for objective in job.spec.objectives)

    def steps(self, task: Together) -> Iterator[Measured]:
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
            failing_the_trial(),
        ):
            started, joules = time.perf_counter(), Joules(meter, self._spec)
            found = certified(networks, self._plan, meter, cycles=self.cycles, energy=self._energy)
            seconds, energy_j = time.perf_counter() - started, joules.drawn()
        yield Measured(
            seconds=seconds,
            energy_j=energy_j,
            measurements=tuple(
                replace(figure, metric=CERTIFIED[figure.metric])
                for each in task.architectures
                for figure in found[each.digest]
            ),
        )
