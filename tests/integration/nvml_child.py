"""Run by test_nvml in a process of its own: figures of a board that is nvidia-ml-py on the stub,
for many settings.

Reads a JSON list of scenarios, each the stub's settings by name and the arguments of `figure`, and
writes what became of each. The clock is virtual, so that minutes pass at once.
"""

import ctypes
import json
import os
import random
import sys
from functools import partial
from pathlib import Path

import pynvml

from nas.bench.energy_reader import energy_errors
from nas.core.errors import UnavailableError
from nas.core.measurement import MeasurementPlan
from nas.measuring.doctor import board_findings
from nas.measuring.meters.nvml import NvmlDevice
from nas.measuring.methods import certify_energy, energy, latency
from nas.testing.fake_meter import FakeMeter

sys.path.append(str(Path(__file__).parents[1] / "gpu"))
from survey import Survey

PLAN = MeasurementPlan(batch_size=4)


class Board(FakeMeter):
    """A meter whose sensors are NVML's and whose clock is the stub's."""

    energy_method = NvmlDevice.energy_method
    power_kinds = NvmlDevice.power_kinds

    def __init__(self, uuid):
        super().__init__()
        self.rng = random.Random(0)
        self.work(100)
        self.nvml = NvmlDevice(uuid, self.time_s, self.sleep)
        self.energy_j, self.power_w, self.max_power_w = (
            self.nvml.energy_j,
            self.nvml.power_w,
            self.nvml.max_power_w,
        )
        self.device_state, self.busy_percent = self.nvml.device_state, self.nvml.busy_percent
        self.partitioned = self.nvml.partitioned

    def work(self, seconds):
        super().work(seconds)
        os.environ["NVMLSTUB_NOW_S"] = repr(self.now_s)

    def sleep(self, seconds):
        """A little more than asked, as systems do."""
        self.work(seconds * self.rng.uniform(1, 1.2))


def certified(run, board, plan):
    """Joules in cycles."""
    return certify_energy({"net": run}, lambda: board.work(0.001), board, plan, sleep=board.sleep)[
        "net"
    ]


def figure(
    metric="energy", piece_s=0.002, uuid="GPU-stub", errors_of_w=None, library=None, **settings
):
    """What a benchmark says under these settings; with `errors_of_w`, the reader's errors on a
    board that draws so.

    The metrics "doctor" and "survey" give what these find, "certified" joules in turns with a
    network that needs half as much. `library` is another one than that of the first scenario.
    """
    if library:
        pynvml.nvmlLib = ctypes.CDLL(library)
        pynvml._nvmlGetFunctionPointer_cache.clear()
    for name in [name for name in os.environ if name.startswith("NVMLSTUB_")]:
        del os.environ[name]
    os.environ.update({f"NVMLSTUB_{name}": value for name, value in settings.items()})
    try:
        with Board(uuid) as board:
            if errors_of_w:
                found = energy_errors(board, errors_of_w, piece_s=piece_s)
                return {"alignment": found.alignment, "reader": found.reader, "naive": found.naive}
            if metric == "doctor":
                return {
                    each.what: (each.available, each.detail)
                    for each in board_findings("GPU 0", board)
                }
            if metric == "survey":
                run = partial(board.work, piece_s)
                return Survey(board, run, run, PLAN, None).answers()
            take = {"energy": energy, "latency": latency, "certified": certified}[metric]
            found = take(lambda: board.work(piece_s), board, PLAN)
    except UnavailableError as error:
        return {"status": "unavailable", "reason": str(error), "value": None}
    return {
        "status": found.status,
        "reason": found.reason,
        "value": found.value,
        "method": found.method,
        "details": found.details,
        "driver": board.nvml.driver,
    }


json.dump([figure(**scenario) for scenario in json.load(sys.stdin)], sys.stdout)
