"""Metrics that are arithmetic on the architecture at the plan's image size, for one image."""

from nas.core.complexity import Complexity, count
from nas.core.measurement import Kind, Measurement
from nas.measuring.metrics import Metric, Phase, Subject


def _counts(subject: Subject) -> Complexity:
    return count(subject.architecture, subject.plan.image_size, subject.num_classes)


def _metric(name: str) -> Metric:
    """The sum of this name in `nas.core.complexity`."""

    def measure(subject: Subject) -> Measurement:
        return Measurement.counted(name, "1", float(getattr(_counts(subject), name)))

    return Metric(name=name, unit="1", kind=Kind.COUNTED, phase=Phase.COUNTED, measure=measure)


PARAMETERS = _metric("parameters")
MACS = _metric("macs")
MEMORY_ACCESS_COST = _metric("memory_access_cost")
