"""Metrics that are computed from the architecture at the plan's image size, for one image."""

from nas.core.complexity import count
from nas.core.measurement import Kind, Measurement
from nas.measuring.metrics import Metric, Phase, Subject


def _metric(name: str) -> Metric:
    """Return the metric of the sum with this name in `nas.core.complexity`."""

    def measure(subject: Subject) -> Measurement:
        counts = count(subject.architecture, subject.plan.image_size, subject.num_classes)
        return Measurement.counted(name, "1", float(getattr(counts, name)))

    return Metric(name=name, unit="1", kind=Kind.COUNTED, phase=Phase.COUNTED, measure=measure)


PARAMETERS = _metric("parameters")
MACS = _metric("macs")
MEMORY_ACCESS_COST = _metric("memory_access_cost")
