"""Child process of test_nvml: figures of a board that is nvidia-ml-py on the stub, for many
settings.

It reads a JSON list of scenarios, each with the arguments of `figure` and the stub's settings by
name, and writes the result of each. The clock is virtual, so that minutes pass at once.
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

    @property
    def partitioned(self):
        return self.nvml.partitioned

    def work(self, seconds):
        super().work(seconds)
        os.environ["NVMLSTUB_NOW_S"] = repr(self.now_s)

    def sleep(self, seconds):
        """Sleep a little longer than asked, as systems do."""
        self.work(seconds * self.rng.uniform(1, 1.2))


def certified(run, board, plan):
    """Return the energy in cycles with a reference network."""
    return certify_energy({"net": run}, lambda: board.work(0.001), board, plan, sleep=board.sleep)[
        "net"
    ]


def queries(board):
    """Return the driver's functions called by two readings of power and by one look."""
    names = []
    find = pynvml._nvmlGetFunctionPointer

    def record(name):
        names.append(name.partition("_v")[0])
        return find(name)

    calls = [lambda: board.power_w("instant"), lambda: board.power_w("instant"), board.device_state]
    pynvml._nvmlGetFunctionPointer = record
    try:
        return [(names.clear(), call(), list(names))[2] for call in calls]
    finally:
        pynvml._nvmlGetFunctionPointer = find


def figure(
    metric="energy", piece_s=0.002, uuid="GPU-stub", errors_of_w=None, library=None, **settings
):
    """Return the figure under these settings; with `errors_of_w`, the reader's errors on a board
    that draws this power.

    The metrics "doctor" and "survey" return their findings, "queries" the driver's functions that
    are called, "certified" the energy interleaved with a network that needs half as much. `library`
    replaces that of the first scenario.
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
                errors = energy_errors(board, errors_of_w, piece_s=piece_s)
                return {
                    "alignment": errors.alignment,
                    "reader": errors.reader,
                    "naive": errors.naive,
                }
            if metric == "doctor":
                return {
                    each.what: (each.available, each.detail)
                    for each in board_findings("GPU 0", board)
                }
            if metric == "survey":
                run = partial(board.work, piece_s)
                return dict(Survey(board, run, run, PLAN, None).results())
            if metric == "queries":
                return queries(board)
            method = {"energy": energy, "latency": latency, "certified": certified}[metric]
            measured = method(lambda: board.work(piece_s), board, PLAN)
    except UnavailableError as error:
        return {"status": "unavailable", "reason": str(error), "value": None}
    return {
        "status": measured.status,
        "reason": measured.reason,
        "value": measured.value,
        "method": measured.method,
        "details": measured.details,
        "driver": board.nvml.driver,
        "uuid": board.nvml.uuid,
    }


json.dump([figure(**scenario) for scenario in json.load(sys.stdin)], sys.stdout)
