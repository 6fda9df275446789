"""Survey the sensors of a GPU and write one JSON file, in at most ten minutes.

    ./run python tests/gpu/survey.py survey.json

It changes nothing on the GPU and answers questions that no document does:

* the energy counter's rhythm, idle and under load
* whether reading the counter often disturbs it
* whether counter and power agree, at several rates
* how far a network is from its own copy in latency and energy over 20 cycles (A/A)
* how blocks correlate
* whether another process is seen

It takes five to six minutes on an otherwise idle GPU. A part that fails is replaced by its reason,
and the other parts continue. The file is written after every part, so that an interrupted survey
keeps the parts that are done.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas.core.measurement import MeasurementPlan
from nas.core.published import PUBLISHED
from nas.measuring.doctor import findings
from nas.measuring.meters import Meter, find_meter
from nas.measuring.meters.energy import POLL_S, EnergyReader, Load, Window, find_steps
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods import certify, prepare
from nas.measuring.methods.certify import Cycles
from nas.measuring.methods.timing import warm_up
from nas.measuring.metrics import seeded_network

CYCLES = 20
PLAN = MeasurementPlan(batch_size=64, image_size=128)

BURNER = """
import time, torch
matrix = torch.randn(4096, 4096, device="cuda")
end_s = time.monotonic() + 8
print("burning", flush=True)
while time.monotonic() < end_s:
    matrix @ matrix
    torch.cuda.synchronize()
"""


class Survey:
    """The parts of the survey, with one meter, one network and its copy."""

    def __init__(
        self,
        meter: Meter,
        run: Callable[[], object],
        copy: Callable[[], object],
        plan: MeasurementPlan,
        beside: Callable[[], object] | None,
    ) -> None:
        self._meter, self._run, self._copy, self._plan, self._beside = (
            meter,
            run,
            copy,
            plan,
            beside,
        )
        warm = warm_up(run, meter, plan)
        self._calls = max(1, int(warm.calls * POLL_S / plan.block_s))

    def results(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name and the result of every part as soon as it is done."""
        parts = {
            "rhythm": self.rhythm,
            "reading_disturbs": self.reading_disturbs,
            "agreement": self.agreement,
            "latency_copy": self.latency_copy,
            "energy_copy": self.energy_copy,
            "blocks": self.blocks,
            "states": self.states,
        }
        for name, part in parts.items():
            start_s = self._meter.time_s()
            try:
                result = part()
            except Exception as error:  # noqa: BLE001 - whatever fails must not lose the other parts
                result = {"failed": f"{type(error).__name__}: {error}"}
            yield name, {**result, "took_s": self._meter.time_s() - start_s}

    def rhythm(self) -> dict[str, Any]:
        """Find the counter's steps on the idle device and under load."""
        load = Load(self._meter, self._work(self._run))
        return {
            "idle": asdict(find_steps(self._meter, lambda: self._meter.sleep(POLL_S))),
            "under_load": asdict(find_steps(self._meter, load.piece)),
        }

    def reading_disturbs(self) -> dict[str, Any]:
        """Compare the counter's watts over 5 s, read twice and read every 10 ms."""
        load = Load(self._meter, self._work(self._run))
        watts = {}
        for name, each_s in (
            ("read_twice_w", 5.0),
            ("read_each_10_ms_w", 0.01),
            ("read_twice_again_w", 5.0),
        ):
            load.until(self._meter.time_s() + 0.5)
            begin_j, begin_s = self._meter.energy_j(), self._meter.time_s()
            while self._meter.time_s() < begin_s + 5:
                load.until(self._meter.time_s() + each_s)
                end_j, end_s = self._meter.energy_j(), self._meter.time_s()
            watts[name] = (end_j - begin_j) / (end_s - begin_s)
        return watts

    def agreement(self) -> dict[str, Any]:
        """Compare the mean watts by the counter and by power sensors read 1, 10 and 100 times a
        second, over the same 10 s.
        """
        load = Load(self._meter, self._work(self._run))
        watts_by_rate: dict[str, Any] = {}
        for rate in (1, 10, 100):
            load.until(self._meter.time_s() + 1.5)
            begin_j, begin_s = self._meter.energy_j(), self._meter.time_s()
            readings: dict[str, list[float]] = {kind: [] for kind in self._meter.power_kinds}
            while self._meter.time_s() < begin_s + 10:
                load.until(self._meter.time_s() + 1 / rate)
                for kind, watts in readings.items():
                    watts.append(self._meter.power_w(kind))
            counted_w = (self._meter.energy_j() - begin_j) / (self._meter.time_s() - begin_s)
            watts_by_rate[f"{rate}_hz"] = {
                "counter_w": counted_w,
                **{f"{kind}_w": statistics.fmean(watts) for kind, watts in readings.items()},
            }
        return watts_by_rate

    def latency_copy(self) -> dict[str, Any]:
        """Compare the latency of the copy with that of the network, in 20 cycles."""
        figure = certify(
            {"copy": self._copy},
            self._run,
            self._meter,
            self._plan,
            sleep=self._meter.sleep,
            cycles=Cycles(min_cycles=CYCLES, max_cycles=CYCLES, max_half_width=1e-9),
        )["copy"]
        return {
            "status": figure.status,
            "reason": figure.reason,
            **figure.details,
            **_deviation(figure.details["ratios"]),
        }

    def energy_copy(self) -> dict[str, Any]:
        """Compare the energy per frame of the copy with that of the network, in 20 cycles of
        windows of a second.
        """
        reader = EnergyReader(self._meter)
        series = [self._energy_per_frame_j(reader, self._run)]
        for _ in range(CYCLES):
            series += [self._energy_per_frame_j(reader, run) for run in (self._copy, self._run)]
        ratios = [
            2 * copy / (before + after)
            for before, copy, after in zip(series[::2], series[1::2], series[2::2], strict=False)
        ]
        return {**reader.details(), "j_per_frame": series, **_deviation(ratios)}

    def blocks(self) -> dict[str, Any]:
        """Time two hundred blocks. Their correlation shows how long a segment must be."""
        calls = warm_up(self._run, self._meter, self._plan).calls
        times = [self._meter.time_block(self._run, calls) / calls for _ in range(200)]
        spread = statistics.stdev(times)
        return {
            "seconds": times,
            "spread": spread / statistics.fmean(times),
            "correlation": statistics.correlation(times[:-1], times[1:]) if spread else None,
        }

    def states(self) -> dict[str, Any]:
        """Record the driver's reports under load, alone and beside another process that works."""
        self._meter.watch.begin()
        load = Load(self._meter, self._work(self._run))
        load.until(self._meter.time_s() + 3)
        alone = {"problem": _problem(self._meter), **self._meter.watch.details()}
        if self._beside is None:
            return {"alone": alone}
        self._meter.watch.begin()
        self._beside()
        load.until(self._meter.time_s() + 4)
        return {
            "alone": alone,
            "beside": {"problem": _problem(self._meter), **self._meter.watch.details()},
        }

    def _energy_per_frame_j(self, reader: EnergyReader, run: Callable[[], object]) -> float:
        window: Window = reader.windows(self._work(run), 1)[0]
        return window.energy_j / window.frames

    def _work(self, run: Callable[[], object]) -> Callable[[], float]:
        def work() -> float:
            self._meter.watch.look()
            for _ in range(self._calls):
                run()
            self._meter.synchronize()
            return self._calls * self._plan.batch_size

        return work


def _deviation(ratios: list[float]) -> dict[str, Any]:
    """Summarise how far ratios are from 1, if there are any."""
    if len(ratios) < 2:
        return {"ratios": ratios}
    return {
        "ratios": ratios,
        "mean": statistics.fmean(ratios),
        "stdev": statistics.stdev(ratios),
        "furthest": max(abs(ratio - 1) for ratio in ratios),
    }


def _problem(meter: Meter) -> dict[str, Any] | None:
    problem = meter.watch.problem()
    return asdict(problem) if problem else None


@contextmanager
def _burner() -> Iterator[Callable[[], object]]:
    """Yield a function that starts another process, which keeps the GPU busy for 8 s after it has
    reported the start.
    """
    children: list[subprocess.Popen[str]] = []

    def start() -> None:
        child = subprocess.Popen([sys.executable, "-c", BURNER], stdout=subprocess.PIPE, text=True)
        children.append(child)
        if child.stdout:
            child.stdout.readline()

    try:
        yield start
    finally:
        for child in children:
            child.kill()
            child.communicate()


def write_all(
    path: Path, conditions: dict[str, Any], results: Iterable[tuple[str, dict[str, Any]]]
) -> None:
    """Write the conditions and the results to the file, again after every part."""
    survey = dict(conditions)
    for name, result in results:
        survey[name] = result
        path.write_text(json.dumps(survey, indent=1) + "\n", encoding="utf-8")


def main(path: Path) -> None:
    """Survey the current CUDA device and write the file."""
    start_s = time.monotonic()
    doctor = [asdict(finding) for finding in findings()]
    networks = [seeded_network(PUBLISHED["vovnet27_slim"], 10, PLAN.image_size) for _ in range(2)]
    with (
        find_meter("cuda") as meter,
        DeviceLock(meter.device.identity).exclusive(),
        prepare(networks[0], PLAN, meter) as run,
        prepare(networks[1], PLAN, meter) as copy,
        _burner() as beside,
    ):
        conditions = {
            "device": asdict(meter.device),
            "doctor": doctor,
            "plan": PLAN.to_dict(),
        }
        write_all(path, conditions, Survey(meter, run, copy, PLAN, beside).results())
    sys.stdout.write(f"{path}: {time.monotonic() - start_s:.0f} s\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
