"""Peak memory: bytes that one forward pass needs on the device at once."""

from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.methods.preparation import Prepared


def peak_memory(
    run: Prepared, meter: Meter, plan: MeasurementPlan, *, metric: str = "peak_memory"
) -> Measurement:
    """Bytes of weights, buffers, one input batch, and the most that one forward pass holds beyond
    them.

    What "holds" means is the meter's `memory_method`, stored with the figure. One reading after one
    call to settle the kernels' choices; it depends on no clock, so its interval is a point.
    """
    if plan.runtime != "eager":
        reason = (
            f"what one pass holds can be followed with runtime eager, not inside {plan.runtime}"
        )
        return Measurement.unavailable(metric, "B", reason, device=meter.device, plan=plan)
    run()
    value = float(run.resident_bytes + meter.peak_memory_bytes(run))
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
