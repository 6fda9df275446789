"""Figures from readings of a meter: latency, energy and peak memory of a prepared network.

    built = build(model, plan, meter)
    with meter.exclusive(), prepare(built, plan, meter) as run:
        seconds_per_batch = run.with_runtime(latency(run, meter, plan))

The caller must hold the device exclusively from `prepare` on. Nothing here takes the lock, so that
several figures can be measured under one. All clocks come from the meter. Any callable can be
timed.
"""

from nas.measuring.methods.certify import certify, certify_energy
from nas.measuring.methods.hot import hot_latency
from nas.measuring.methods.interleaved import interleaved_latency
from nas.measuring.methods.interval import median_interval
from nas.measuring.methods.memory import peak_memory
from nas.measuring.methods.preparation import (
    Built,
    Prepared,
    build,
    plan_problem,
    prepare,
    prepare_copies,
)
from nas.measuring.methods.timing import latency, single_calls
from nas.measuring.methods.windows import energy

__all__ = [
    "Built",
    "Prepared",
    "build",
    "certify",
    "certify_energy",
    "energy",
    "hot_latency",
    "interleaved_latency",
    "latency",
    "median_interval",
    "peak_memory",
    "plan_problem",
    "prepare",
    "prepare_copies",
    "single_calls",
]
