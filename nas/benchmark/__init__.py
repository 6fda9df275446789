"""From readings of a meter to figures: latency, energy, peak memory of a prepared network.

    with DeviceLock(meter.device.identity).exclusive(), prepare(model, plan, meter) as run:
        seconds_per_batch = latency(run, meter, plan)

The device must be held alone; nobody here takes the lock, so that several figures can be taken under one. All clocks
come from the meter. What is timed is any callable, so other runtimes need only another way to prepare one.
"""

from nas.benchmark.certify import certify, certify_energy
from nas.benchmark.interval import median_interval
from nas.benchmark.memory import peak_memory
from nas.benchmark.preparation import PRECISIONS, Prepared, plan_problem, prepare, prepare_copies
from nas.benchmark.runtimes import RUNTIMES, Network, OnnxFile
from nas.benchmark.timing import latency, single_calls
from nas.benchmark.turns import latency_in_turns
from nas.benchmark.windows import energy

__all__ = ["PRECISIONS", "RUNTIMES", "Network", "OnnxFile", "Prepared", "certify", "certify_energy", "energy",
           "latency", "latency_in_turns", "median_interval", "peak_memory", "plan_problem", "prepare",
           "prepare_copies", "single_calls"]
