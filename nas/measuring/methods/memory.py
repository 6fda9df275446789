"""Peak memory: the bytes that one forward pass needs on the device at once."""

from nas.core.errors import UnavailableError
from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.methods.preparation import Prepared


def peak_memory(
    run: Prepared, meter: Meter, plan: MeasurementPlan, *, metric: str = "peak_memory"
) -> Measurement:
    """Measure the bytes of weights, buffers, one input batch, and the most that one forward pass
    holds beyond them.

    The meter's `memory_method`, which is stored with the figure, defines what a pass holds. There
    is one reading, after one call in which the choice of kernels settles. It depends on no clock,
    so its interval is a point.
    """
    if plan.runtime != meter.memory_runtime:
        reason = (
            f"what one pass holds can be followed with runtime {meter.memory_runtime}, not inside "
            f"{plan.runtime}"
            if meter.memory_runtime
            else f"{meter.device.name} does not report what one pass holds there"
        )
        return Measurement.unavailable(metric, "B", reason, device=meter.device, plan=plan)
    run()
    try:
        value = float(run.resident_bytes + meter.peak_memory_bytes(run))
    except UnavailableError as error:
        return Measurement.unavailable(metric, "B", str(error), device=meter.device, plan=plan)
    return Measurement(
        metric=metric,
        unit="B",
        value=value,
        ci_low=value,
        ci_high=value,
        samples=(value,),
        method=f"weights, input and {meter.memory_method}",
        device=meter.device,
        plan=plan,
    )
