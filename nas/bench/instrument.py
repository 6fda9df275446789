"""Quality of the measurements on this machine, compared with requirements that were fixed
beforehand: `nas bench instrument`.

Every part measures with the real tiers. `coverage` and `energy` are simulated; all other parts need
an idle machine.

Sessions of the tier `certify` are shortened (1 s of a candidate, 0.4 s of the reference), so that
forty fit into a few minutes. The protocol's sessions are five times as long, and at least as good.
On the CPU of a virtual machine, a session ends when the ratio is known to 2 % instead of 1 %,
except that the sessions of `copy` have full length.
"""

import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from nas.agent.host import affinity
from nas.analysis.rank_agreement import kendall_tau
from nas.bench.energy_reader import SESSIONS, CountingBoard, energy_errors, rms
from nas.bench.simulated_device import DriftingDevice
from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.published import PUBLISHED
from nas.core.search_space import SearchSpace
from nas.measuring.meters import Meter
from nas.measuring.methods import certify
from nas.measuring.methods.certify import SHARED_CPU_CYCLES, Cycles, shared_with
from nas.measuring.metrics import seeded_network
from nas.measuring.metrics.certified import REFERENCE
from nas.measuring.session import certify_targets, latencies
from nas.measuring.targets import NUM_CLASSES, Target

SHORT_CYCLES = Cycles(
    candidate_s=1.0, reference_s=0.4, dropped_s=0.1, pause_s=0.2, max_pause_s=3.2, patience_s=12.0
)
"""Shortened sessions on a device that is not shared."""
SHORT_SHARED_CYCLES = replace(SHARED_CPU_CYCLES, max_half_width=0.02)
"""Shortened sessions on a shared device."""
SPACE = "osa_cifar"
"""Space of the measured networks."""
TRUE_RATIO = 1.7
"""Ratio of the two simulated networks of `coverage`."""
MAX_COPY_ERROR = 0.02
"""Required accuracy of `copy`: largest distance of the ratio from 1."""
MAX_SHIFT = 0.02
"""Largest relative change of a figure that `neighbour` tolerates without a warning."""
MAX_ENERGY_ERROR = 0.005
"""Required accuracy of `energy`: largest relative error."""


@dataclass(frozen=True, kw_only=True)
class QualityCheck:
    """One figure of the measurements' quality: `what` it is, the value `found`, and the requirement
    `asked`.

    `holds` is None if nothing is required. `details` are JSON values.
    """

    what: str
    found: str
    asked: str = ""
    holds: bool | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings that the parts share. `sessions` is the number of repetitions, and each part has its
    own default.
    """

    meter: Meter
    plan: MeasurementPlan
    sessions: int | None = None
    cycles: Cycles | None = None

    def screened(
        self, network: Target, meter: Meter | None = None, plan: MeasurementPlan | None = None
    ) -> Measurement:
        """Measure the latency with the tier `screen`."""
        return latencies([network], plan or self.plan, meter or self.meter)[network.name]

    def certified(
        self, targets: Sequence[Target], meter: Meter | None = None
    ) -> dict[str, Measurement]:
        """Measure the latency of all targets with the tier `certify`, in one shortened session."""
        short = SHORT_SHARED_CYCLES if shared_with(self.meter.device) else SHORT_CYCLES
        figures = certify_targets(
            targets, self.plan, meter or self.meter, cycles=self.cycles or short
        )
        return {name: latency for name, (latency,) in figures.items()}

    def networks(self, count: int) -> list[Target]:
        """Return `count` networks of the CIFAR space, the same every time."""
        rng, space = random.Random(0), cast("SearchSpace", plugins.load("nas.spaces", SPACE))
        targets = []
        for index in range(count):
            params = {choice.name: rng.choice(choice.values) for choice in space.choices}
            targets.append(self._target(f"{SPACE}-{index}", space.decode(params)))
        return targets

    def reference(self) -> Target:
        """Return a copy of the reference network."""
        return self._target("copy", PUBLISHED[REFERENCE])

    def _target(self, name: str, architecture: Architecture) -> Target:
        return Target(
            name=name,
            network=seeded_network(architecture, NUM_CLASSES, self.plan.image_size),
            architecture=architecture,
        )


def coverage(bench: Bench) -> Iterator[QualityCheck]:
    """Count how often the 95 % interval of the tier `certify` covers the true ratio on a simulated
    device that drifts.
    """
    sessions = bench.sessions or 200
    for noise in (0.003, 0.01):
        covered, half_widths = 0, []
        for seed in range(sessions):
            device = DriftingDevice(seed, noise)
            details = certify(
                {"net": device.network(TRUE_RATIO * 0.1)},
                device.network(0.1),
                device,
                MeasurementPlan(block_s=0.1),
                sleep=device.sleep,
                seed=seed,
            )["net"].details
            covered += details["ratio_low"] <= TRUE_RATIO <= details["ratio_high"]
            width = details["ratio_high"] - details["ratio_low"]
            half_widths.append(width / 2 / TRUE_RATIO)
        yield QualityCheck(
            what=f"simulated coverage, noise {noise:.1%}",
            asked=">= 92 %",
            holds=covered >= 0.92 * sessions,
            found=f"{covered / sessions:.1%} of {sessions}, ± {statistics.median(half_widths):.2%}",
        )


def energy(bench: Bench) -> Iterator[QualityCheck]:
    """Compute the error of joules per frame on a simulated board whose counter advances every
    100 ms, in random windows of 1.0 to 1.1 s. For comparison, add the error of two plain readings.
    """
    for piece_s in (0.002, 0.03):
        errors = energy_errors(
            CountingBoard(250), 250, piece_s=piece_s, sessions=bench.sessions or SESSIONS
        )
        largest = max(map(abs, errors.reader))
        yield QualityCheck(
            what=f"simulated energy, {errors.alignment}",
            asked="<= 0.5 % each",
            holds=largest <= MAX_ENERGY_ERROR,
            details=asdict(errors),
            found=f"{rms(errors.reader):.2%} rms, {largest:.2%} at most; two bare readings "
            f"{rms(errors.naive):.1%} rms",
        )


def copy(bench: Bench) -> Iterator[QualityCheck]:
    """Measure the reference against its copy (A/A), one session each. Sessions without a value are
    only counted.
    """
    sessions = bench.sessions or 40
    if shared_with(bench.meter.device):
        bench = replace(bench, cycles=bench.cycles or SHARED_CPU_CYCLES)
    started = time.perf_counter()
    figures = [bench.certified([bench.reference()])["copy"] for _ in range(sessions)]
    session_s = (time.perf_counter() - started) / sessions
    measured = [figure.details for figure in figures if figure.value is not None]
    ratios = [details["ratio"] for details in measured]
    close = sum(abs(ratio - 1) <= MAX_COPY_ERROR for ratio in ratios)
    covered = sum(
        details["ratio_low"] <= 1 <= details["ratio_high"]
        for details in measured
        if "ratio_low" in details
    )
    worst = max((abs(ratio - 1) for ratio in ratios), default=float("nan"))
    yield QualityCheck(
        what="reference against its copy",
        asked="within 2 % in >= 95 %",
        holds=len(ratios) > 0 and close >= 0.95 * len(ratios),
        found=f"{close} of {len(ratios)}, worst {worst:.2%}, interval holds 1 in {covered}, "
        f"{session_s:.1f} s each, {_statuses(figures)}",
        details={"ratios": ratios},
    )


def repeat(bench: Bench) -> Iterator[QualityCheck]:
    """Measure five networks in ten sessions, and compute the spread of the ratio, the certified
    seconds and the screened seconds.
    """
    networks, sessions = bench.networks(5), bench.sessions or 10
    by_figure: dict[str, dict[str, list[float]]] = {
        "ratio": {},
        "certified seconds": {},
        "screened seconds": {},
    }
    for _ in range(sessions):
        figures = bench.certified(networks)
        for network in networks:
            figure, screened = figures[network.name], bench.screened(network)
            for name, value in (
                ("ratio", figure.details.get("ratio")),
                ("certified seconds", figure.value),
                ("screened seconds", screened.value),
            ):
                if value is not None:
                    by_figure[name].setdefault(network.name, []).append(value)
    for name, by_network in by_figure.items():
        spreads = {
            network: statistics.stdev(values) / statistics.fmean(values)
            for network, values in by_network.items()
            if len(values) > 1
        }
        yield QualityCheck(
            what=f"repeat spread of the {name}",
            found=", ".join(f"{s:.2%}" for s in spreads.values()) + f" in {sessions} sessions",
            details={"values": by_network},
        )


def rank(bench: Bench) -> Iterator[QualityCheck]:
    """Measure twenty networks in two passes of the tier `screen`, interleaved within each, and
    compute Kendall's tau.
    """
    networks = bench.networks(bench.sessions or 20)
    started = time.perf_counter()
    passes = [latencies(networks, bench.plan, bench.meter) for _ in range(2)]
    pairs = []
    for name, first in passes[0].items():
        second = passes[1][name]
        if first.value is not None and second.value is not None:
            pairs.append((first.value, second.value))
    tau = kendall_tau([first for first, _ in pairs], [second for _, second in pairs])
    shown_tau = "no tau" if tau is None else f"tau {tau:.3f}"
    network_s = (time.perf_counter() - started) / 2 / len(networks)
    yield QualityCheck(
        what=f"two passes over {len(networks)} networks",
        asked="tau >= 0.95",
        holds=tau is not None and tau >= 0.95,
        found=f"{shown_tau} of {len(pairs)}, {network_s:.1f} s each, "
        f"{_statuses([*passes[0].values(), *passes[1].values()])}",
        details={"seconds": pairs},
    )


def neighbour(bench: Bench) -> Iterator[QualityCheck]:
    """Measure while other processes begin to use every core in the middle of a window, with and
    without the guard against a busy host.
    """
    sessions, network = bench.sessions or 10, bench.reference()
    slow = MeasurementPlan(**{**bench.plan.to_dict(), "min_time_s": 2.0, "max_time_s": 2.0})
    quiet = bench.screened(network, plan=slow).value
    quiet_ratio = bench.certified([network])["copy"].details.get("ratio")
    tiers: dict[str, tuple[float | None, Callable[[Meter], Measurement], float]] = {
        "screen": (quiet, lambda meter: bench.screened(network, meter, slow), 2.0),
        "certify": (quiet_ratio, lambda meter: bench.certified([network], meter)["copy"], 4.0),
    }
    for tier, (quiet_value, measure, span_s) in tiers.items():
        for guarded in (False, True):
            rng, figures = random.Random(0), []
            for _ in range(sessions):
                with neighbours(after_s=0.5 + rng.uniform(0.2, 0.6) * span_s, for_s=span_s):
                    figures.append(measure(bench.meter if guarded else Unguarded.of(bench.meter)))
            shifts = [_shift(figure, quiet_value) for figure in figures]
            right = sum(
                shift is None or shift <= MAX_SHIFT or figure.status != "ok"
                for shift, figure in zip(shifts, figures, strict=True)
            )
            sizes = [shift for shift in shifts if shift is not None]
            off = "no values"
            if sizes:
                off = f"off by {statistics.median(sizes):.1%}, worst {max(sizes):.1%}"
            yield QualityCheck(
                what=f"neighbour, {tier}, {'with' if guarded else 'without'} guard",
                asked="noticed or within 2 %" if guarded else "",
                holds=right == sessions if guarded else None,
                found=f"{right} of {sessions} noticed or cancelled; {off}; {_statuses(figures)}",
                details={"shifts": shifts},
            )


PARTS: Mapping[str, Callable[[Bench], Iterator[QualityCheck]]] = {
    "coverage": coverage,
    "energy": energy,
    "copy": copy,
    "repeat": repeat,
    "rank": rank,
    "neighbour": neighbour,
}
"""The parts by name."""


class Unguarded:
    """A meter that does not observe the load of the host."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @classmethod
    def of(cls, meter: Meter) -> Meter:
        """Return the meter without its observation of the host."""
        return cast("Meter", cls(meter))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meter, name)

    def host_load(self) -> None:
        """Return None, as meters do that cannot observe the host."""


BURNER = """
import sys, time
sys.stdin.read(1)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end: pass
"""


@contextmanager
def neighbours(*, after_s: float, for_s: float) -> Iterator[None]:
    """Start one process for each core, which begins to compute `after_s` from now, for `for_s`."""
    burners = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-S", "-c", BURNER, str(for_s)],
            stdin=subprocess.PIPE,
        )
        for _ in affinity()
    ]

    def begin() -> None:
        for burner in burners:
            if burner.stdin is not None:
                burner.stdin.close()

    timer = threading.Timer(after_s, begin)
    time.sleep(0.2)  # the processes must have started, and be waiting
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        for burner in burners:
            burner.kill()
            burner.wait()
        begin()


def _shift(figure: Measurement, quiet_value: float | None) -> float | None:
    """Return the relative change from the quiet value, of the ratio if there is one."""
    if not quiet_value or figure.value is None:
        return None
    return abs(float(figure.details.get("ratio", figure.value)) / quiet_value - 1)


def _statuses(figures: Sequence[Measurement]) -> str:
    """Return how many figures have each status."""
    names = [figure.status.value for figure in figures]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
