"""From readings of a meter to figures: latency, energy, peak memory of a prepared network.

    with DeviceLock(meter.device.identity).exclusive(), prepare(model, plan, meter) as run:
        seconds_per_batch = latency(run, meter, plan)

The device must be held alone; nobody here takes the lock, so that several figures can be taken
under one. All clocks come from the meter. What is timed is any callable, so other runtimes need
only another way to prepare one.
"""

from nas.measuring.methods.certify import certify, certify_energy
from nas.measuring.methods.interval import median_interval
from nas.measuring.methods.memory import peak_memory
from nas.measuring.methods.preparation import (
    PRECISIONS,
    Prepared,
    plan_problem,
    prepare,
    prepare_copies,
)
from nas.measuring.methods.runtimes import RUNTIMES, Network, OnnxFile
from nas.measuring.methods.timing import latency, single_calls
from nas.measuring.methods.turns import latency_in_turns
from nas.measuring.methods.windows import energy

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "Network",
    "OnnxFile",
    "Prepared",
    "certify",
    "certify_energy",
    "energy",
    "latency",
    "latency_in_turns",
    "median_interval",
    "peak_memory",
    "plan_problem",
    "prepare",
    "prepare_copies",
    "single_calls",
]
