"""Metrics that need the device: seconds per batch, joules per frame, bytes. The caller holds the
device exclusively.
"""

from nas.core.measurement import Kind, Measurement, MeasurementPlan
from nas.measuring import methods
from nas.measuring.meters import Meter
from nas.measuring.methods import plan_problem
from nas.measuring.metrics import Metric, Phase, Subject


def _latency(subject: Subject) -> Measurement:
    with subject.prepared() as run:
        return run.with_runtime(methods.latency(run, subject.meter, subject.plan))


def _energy(subject: Subject) -> Measurement:
    with subject.prepared() as run:
        return run.with_runtime(methods.energy(run, subject.meter, subject.plan))


def _peak_memory(subject: Subject) -> Measurement:
    with subject.prepared() as run:
        return run.with_runtime(methods.peak_memory(run, subject.meter, subject.plan))


def _obstacle(meter: Meter, plan: MeasurementPlan) -> str | None:
    """Return the plan's problem on this device. More threads than cores would wait for each
    other.
    """
    cores = meter.usable_cores()
    if meter.device.kind == "cpu" and plan.threads > cores:
        return (
            f"there are {cores} cores, so measurement.threads must be at most {cores}, "
            f"not {plan.threads}"
        )
    return plan_problem(meter, plan)


def _energy_obstacle(meter: Meter, plan: MeasurementPlan) -> str | None:
    """Return the sensor's problem with alternatives, or the plan's problem."""
    reason = meter.energy_unavailable_reason()
    if reason:
        return (
            f"{reason}; drop the objective, or use latency, memory_access_cost or modelled_energy "
            "instead"
        )
    return _obstacle(meter, plan)


def _memory_obstacle(meter: Meter, plan: MeasurementPlan) -> str | None:
    problem = _obstacle(meter, plan)
    if problem or plan.runtime == meter.memory_runtime:
        return problem
    possible = meter.memory_runtime
    if possible is None:
        return f"it cannot be measured on {meter.device.name}; drop the objective"
    return (
        f"it can be measured with runtime {possible} only, not {plan.runtime}; drop the objective"
    )


LATENCY = Metric(
    name="latency",
    unit="s",
    kind=Kind.MEASURED,
    phase=Phase.MEASURED,
    on_runtime=True,
    measure=_latency,
    obstacle=_obstacle,
)
ENERGY = Metric(
    name="energy",
    unit="J",
    kind=Kind.MEASURED,
    phase=Phase.MEASURED,
    on_runtime=True,
    measure=_energy,
    obstacle=_energy_obstacle,
)
PEAK_MEMORY = Metric(
    name="peak_memory",
    unit="B",
    kind=Kind.MEASURED,
    phase=Phase.MEASURED,
    on_runtime=True,
    measure=_peak_memory,
    obstacle=_memory_obstacle,
)
