"""What the instrument is worth on this machine, as figures that were agreed beforehand: `nas bench
instrument`.

Every part measures with the real tiers. `coverage` and `energy` are simulated and need no idle
machine; all others do. Sessions of the tier `certify` are shortened (1 s of a candidate, 0.4 s of
the reference), so that forty fit a few minutes; the protocol's are five times as long, and at least
as good. On the CPU of a virtual machine they end when the ratio is known to 2 % in place of 1 %,
but those of `copy` are whole.
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

from nas.analysis.rank_agreement import kendall_tau
from nas.bench.energy_reader import SESSIONS, CountingBoard, energy_errors, rms
from nas.bench.simulated_device import DriftingDevice
from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.published import PUBLISHED
from nas.core.search_space import SearchSpace
from nas.measuring.meters import Meter
from nas.measuring.meters.host import affinity
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods import certify, latency, prepare
from nas.measuring.methods.certify import SHARED, Cycles, shared_with
from nas.measuring.metrics import seeded_network
from nas.measuring.metrics.certified import REFERENCE
from nas.measuring.session import certify_targets, latencies
from nas.measuring.targets import NUM_CLASSES, Target

SHORT = Cycles(
    candidate_s=1.0, reference_s=0.4, dropped_s=0.1, pause_s=0.2, max_pause_s=3.2, patience_s=12.0
)
SHORT_SHARED = replace(SHARED, max_half_width=0.02)
SPACE = "osa_cifar"
TRUE_RATIO = 1.7
COPY_WITHIN = 0.02
SHIFT_WITHIN = 0.02
ENERGY_WITHIN = 0.005


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One figure: what was found beside what was asked, None where nothing was. `details` are JSON
    values.
    """

    what: str
    found: str
    asked: str = ""
    holds: bool | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the parts share: the meter, the plan, and how often each part does what it does (None:
    its own number).
    """

    meter: Meter
    plan: MeasurementPlan
    sessions: int | None = None
    cycles: Cycles | None = None

    def screened(
        self, network: Target, meter: Meter | None = None, plan: MeasurementPlan | None = None
    ) -> Measurement:
        """Latency by the tier `screen`."""
        with (
            DeviceLock(self.meter.device.identity).exclusive(),
            prepare(network.network, plan or self.plan, self.meter) as run,
        ):
            return latency(run, meter or self.meter, plan or self.plan)

    def certified(
        self, targets: Sequence[Target], meter: Meter | None = None
    ) -> dict[str, Measurement]:
        """Latency of all by the tier `certify`, in one shortened session."""
        cycles = self.cycles or (SHORT_SHARED if shared_with(self.meter.device) else SHORT)
        found = certify_targets(targets, self.plan, meter or self.meter, cycles=cycles)
        return {name: latency for name, (latency,) in found.items()}

    def networks(self, count: int) -> list[Target]:
        """So many networks of the CIFAR space, the same every time."""
        rng, space = random.Random(0), cast("SearchSpace", plugins.load("nas.spaces", SPACE))
        drawn = [
            space.decode({each.name: rng.choice(each.values) for each in space.choices})
            for _ in range(count)
        ]
        return [self._target(f"{SPACE}-{index}", each) for index, each in enumerate(drawn)]

    def reference(self) -> Target:
        """A copy of the reference network."""
        return self._target("copy", PUBLISHED[REFERENCE])

    def _target(self, name: str, architecture: Architecture) -> Target:
        return Target(
            name=name,
            network=seeded_network(architecture, NUM_CLASSES, self.plan.image_size),
            architecture=architecture,
        )


def coverage(bench: Bench) -> Iterator[Proof]:
    """How often the 95 % interval of the tier `certify` holds the true ratio on a device that
    drifts.
    """
    sessions = bench.sessions or 200
    for noise in (0.003, 0.01):
        held, widths = 0, []
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
            held += details["ratio_low"] <= TRUE_RATIO <= details["ratio_high"]
            widths.append((details["ratio_high"] - details["ratio_low"]) / 2 / TRUE_RATIO)
        yield Proof(
            what=f"simulated coverage, noise {noise:.1%}",
            asked=">= 92 %",
            holds=held >= 0.92 * sessions,
            found=f"{held / sessions:.1%} of {sessions}, ± {statistics.median(widths):.2%}",
        )


def energy(bench: Bench) -> Iterator[Proof]:
    """How far joules per frame are off on a simulated board whose counter steps each 100 ms, in
    windows of 1.0 to 1.1 s at random; beside them the error of two bare readings.
    """
    for piece_s in (0.002, 0.03):
        found = energy_errors(
            CountingBoard(250), 250, piece_s=piece_s, sessions=bench.sessions or SESSIONS
        )
        furthest = max(map(abs, found.reader))
        yield Proof(
            what=f"simulated energy, {found.alignment}",
            asked="<= 0.5 % each",
            holds=furthest <= ENERGY_WITHIN,
            details=asdict(found),
            found=f"{rms(found.reader):.2%} rms, {furthest:.2%} at most; two bare readings "
            f"{rms(found.naive):.1%} rms",
        )


def copy(bench: Bench) -> Iterator[Proof]:
    """A/A: the reference against its copy, one session each. Sessions without a value claim nothing
    and are counted.
    """
    sessions = bench.sessions or 40
    if shared_with(bench.meter.device):
        bench = replace(bench, cycles=bench.cycles or SHARED)
    started = time.perf_counter()
    found = [bench.certified([bench.reference()])["copy"] for _ in range(sessions)]
    each_s = (time.perf_counter() - started) / sessions
    ratios = [figure.details["ratio"] for figure in found if figure.value is not None]
    close = sum(abs(ratio - 1) <= COPY_WITHIN for ratio in ratios)
    held = sum(
        figure.details["ratio_low"] <= 1 <= figure.details["ratio_high"]
        for figure in found
        if "ratio_low" in figure.details and figure.value is not None
    )
    worst = max((abs(ratio - 1) for ratio in ratios), default=float("nan"))
    yield Proof(
        what="reference against its copy",
        asked="within 2 % in >= 95 %",
        holds=len(ratios) > 0 and close >= 0.95 * len(ratios),
        found=f"{close} of {len(ratios)}, worst {worst:.2%}, interval holds 1 in {held}, {each_s:.1f} s each, "
        f"{_statuses(found)}",
        details={"ratios": ratios},
    )


def repeat(bench: Bench) -> Iterator[Proof]:
    """Five networks over ten sessions: how far ratio, certified seconds and screened seconds
    spread.
    """
    networks, sessions = bench.networks(5), bench.sessions or 10
    found: dict[str, dict[str, list[float]]] = {
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
                    found[name].setdefault(network.name, []).append(value)
    for name, by_network in found.items():
        spreads = {
            network: statistics.stdev(values) / statistics.fmean(values)
            for network, values in by_network.items()
            if len(values) > 1
        }
        yield Proof(
            what=f"repeat spread of the {name}",
            found=", ".join(f"{s:.2%}" for s in spreads.values()) + f" in {sessions} sessions",
            details={"values": by_network},
        )


def rank(bench: Bench) -> Iterator[Proof]:
    """Twenty networks in two passes of the tier `screen`, in turns within each: Kendall's tau."""
    networks = bench.networks(bench.sessions or 20)
    started = time.perf_counter()
    passes = [latencies(networks, bench.plan, bench.meter) for _ in range(2)]
    both = [
        (first.value, passes[1][name].value)
        for name, first in passes[0].items()
        if first.value is not None and passes[1][name].value is not None
    ]
    tau = kendall_tau([a for a, _ in both if a], [b for _, b in both if b])
    each_s = (time.perf_counter() - started) / 2 / len(networks)
    yield Proof(
        what=f"two passes over {len(networks)} networks",
        asked="tau >= 0.95",
        holds=tau is not None and tau >= 0.95,
        found=f"{'no tau' if tau is None else f'tau {tau:.3f}'} of {len(both)}, {each_s:.1f} s each, "
        f"{_statuses([figure for each in passes for figure in each.values()])}",
        details={"seconds": both},
    )


def neighbour(bench: Bench) -> Iterator[Proof]:
    """Processes that begin to use every core in mid-window: what that does to the tiers, with and
    without the guard.
    """
    sessions, network = bench.sessions or 10, bench.reference()
    slow = MeasurementPlan(**{**bench.plan.to_dict(), "min_time_s": 2.0, "max_time_s": 2.0})
    quiet = bench.screened(network, plan=slow).value
    quiet_ratio = bench.certified([network])["copy"].details.get("ratio")
    tiers: dict[str, tuple[float | None, Callable[[Meter], Measurement], float]] = {
        "screen": (quiet, lambda meter: bench.screened(network, meter, slow), 2.0),
        "certify": (quiet_ratio, lambda meter: bench.certified([network], meter)["copy"], 4.0),
    }
    for tier, (truth, take, span_s) in tiers.items():
        for guarded in (False, True):
            rng, figures = random.Random(0), []
            for _ in range(sessions):
                with neighbours(after_s=0.5 + rng.uniform(0.2, 0.6) * span_s, for_s=span_s):
                    figures.append(take(bench.meter if guarded else Unguarded.of(bench.meter)))
            shifts = [
                abs(_figure(figure) / truth - 1) if truth and figure.value is not None else None
                for figure in figures
            ]
            right = sum(
                shift is None or shift <= SHIFT_WITHIN or figure.status != "ok"
                for shift, figure in zip(shifts, figures, strict=True)
            )
            known = [shift for shift in shifts if shift is not None]
            off = (
                f"off by {statistics.median(known):.1%}, worst {max(known):.1%}"
                if known
                else "no values"
            )
            yield Proof(
                what=f"neighbour, {tier}, {'with' if guarded else 'without'} guard",
                asked="noticed or within 2 %" if guarded else "",
                holds=right == sessions if guarded else None,
                found=f"{right} of {sessions} noticed or cancelled; {off}; {_statuses(figures)}",
                details={"shifts": shifts},
            )


PARTS: Mapping[str, Callable[[Bench], Iterator[Proof]]] = {
    "coverage": coverage,
    "energy": energy,
    "copy": copy,
    "repeat": repeat,
    "rank": rank,
    "neighbour": neighbour,
}
"""What can be shown, by name."""


class Unguarded:
    """A meter that sees nothing of the host."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @classmethod
    def of(cls, meter: Meter) -> Meter:
        """The meter without its view of the host."""
        return cast("Meter", cls(meter))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meter, name)

    def host_load(self) -> None:
        """Nothing."""


BURNER = """
import sys, time
sys.stdin.read(1)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end: pass
"""


@contextmanager
def neighbours(*, after_s: float, for_s: float) -> Iterator[None]:
    """One process for each core that begins to compute so long after this, for so long."""
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
    time.sleep(0.2)  # they have to be there, asleep
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        for burner in burners:
            burner.kill()
            burner.wait()
        begin()


def _figure(figure: Measurement) -> float:
    """The ratio where there is one, else the value."""
    return float(figure.details.get("ratio", figure.value))


def _statuses(figures: Sequence[Measurement]) -> str:
    found = [figure.status.value for figure in figures]
    return ", ".join(f"{found.count(name)} {name}" for name in dict.fromkeys(found))
