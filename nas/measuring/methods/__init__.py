"""Figures from readings of a meter: latency, energy and peak memory of a prepared network.

    with DeviceLock(meter.device.identity).exclusive(), prepare(model, plan, meter) as run:
        seconds_per_batch = latency(run, meter, plan)

The caller must hold the device exclusively. Nothing here takes the lock, so that several figures
can be measured under one. All clocks come from the meter. Any callable can be timed, so another
runtime only needs another way to prepare a network.
"""

from nas.measuring.methods.certify import certify, certify_energy
from nas.measuring.methods.interleaved import interleaved_latency
from nas.measuring.methods.interval import median_interval
from nas.measuring.methods.memory import peak_memory
from nas.measuring.methods.preparation import (
    PRECISIONS,
    Prepared,
    plan_problem,
    prepare,
    prepare_copies,
)
from nas.measuring.methods.runtimes import RUNTIMES, Network, OnnxFile, deployed_runtime
from nas.measuring.methods.timing import latency, single_calls
from nas.measuring.methods.windows import energy

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "Network",
    "OnnxFile",
    "Prepared",
    "certify",
    "certify_energy",
    "deployed_runtime",
    "energy",
    "interleaved_latency",
    "latency",
    "median_interval",
    "peak_memory",
    "plan_problem",
    "prepare",
    "prepare_copies",
    "single_calls",
]
