"""Metrics that are computed from the architecture at the plan's image size, for one image."""

from nas.core.architecture import Architecture
from nas.core.complexity import count
from nas.core.measurement import Kind, Measurement
from nas.measuring.metrics import Metric, Phase, Subject
from nas.model.hooks import tally


def _metric(name: str) -> Metric:
    """Return the metric of the sum with this name in `nas.core.complexity`.

    A network of another package is counted with forward hooks.
    """

    def measure(subject: Subject) -> Measurement:
        network, size = subject.architecture, subject.plan.image_size
        if isinstance(network, Architecture):
            value = getattr(count(network, size, subject.num_classes), name)
        else:
            value = getattr(tally(subject.model, size), name)
        return Measurement.counted(name, "1", float(value))

    return Metric(name=name, unit="1", kind=Kind.COUNTED, phase=Phase.COUNTED, measure=measure)


PARAMETERS = _metric("parameters")
MACS = _metric("macs")
MEMORY_ACCESS_COST = _metric("memory_access_cost")
