"""Metrics that need the device: seconds per batch, joules per frame, bytes. The caller holds the
device exclusively.
"""

from collections.abc import Callable

from nas.core.measurement import Kind, Measurement, MeasurementPlan
from nas.measuring import methods
from nas.measuring.meters import Meter
from nas.measuring.methods import Prepared, plan_problem
from nas.measuring.metrics import Metric, Phase, Subject


def _metric(
    name: str,
    unit: str,
    method: Callable[[Prepared, Meter, MeasurementPlan], Measurement],
    obstacle: Callable[[Meter, MeasurementPlan], str | None],
) -> Metric:
    """Return the metric that this method measures with the network loaded on its runtime."""

    def measure(subject: Subject) -> Measurement:
        with subject.prepared() as run:
            return run.with_runtime(method(run, subject.meter, subject.plan))

    return Metric(
        name=name,
        unit=unit,
        kind=Kind.MEASURED,
        phase=Phase.MEASURED,
        on_runtime=True,
        measure=measure,
        obstacle=obstacle,
    )


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


LATENCY = _metric("latency", "s", methods.latency, _obstacle)
ENERGY = _metric("energy", "J", methods.energy, _energy_obstacle)
PEAK_MEMORY = _metric("peak_memory", "B", methods.peak_memory, _memory_obstacle)
