"""How long a study will take and how much memory it needs, from a few networks before it starts."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.agent.host import affinity
from nas.analysis.rank_agreement import Interval
from nas.core.measurement import Status
from nas.core.study import Budget, StudySpec
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.pace import Pace
from nas.searching.profile import Member

TIMED_NETWORKS = 4
"""Networks whose training steps are timed."""
TIMED_S = 1.5
"""Seconds of steps that are timed at each rung."""
SAMPLER_SPREAD = 0.15
"""Relative half width for what the sampler changes: it proposes other networks than random ones."""
MAX_SPREAD = 0.24
"""Largest relative half width of an interval."""
RAY_BYTES = 0.4e9
"""Memory of Ray's own processes."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a search will take on this machine, if it stays as busy as it is.

    `searching_s` are seconds of searching until a budget is spent: the `limit`. `networks` are
    those that are trained until then. `memory_bytes` is that of all processes together.
    """

    searching_s: Interval
    networks: Interval
    limit: str
    memory_bytes: Interval


def forecast(
    spec: StudySpec, evaluator: Evaluator, sampled: Sequence[Member], imported_bytes: int
) -> Forecast:
    """Time the training of a few of these random networks, and add their measuring.

    `sampled` have their costs, and parameters and MACs among them. `imported_bytes` is what
    `private_bytes` was before the data were read.
    """
    usable = [member for member in sampled if not member.failure]
    trained_s = _training_s(evaluator, usable) if spec.needs_training else [0.0] * len(usable)
    alone_s = statistics.fmean(member.evaluation.measure_s for member in usable)
    waiting_s = spec.measurement.busy_wait_s * statistics.fmean(map(_is_noisy, usable))
    shared = [
        member.building_s + waiting_s + seconds
        for member, seconds in zip(usable, trained_s, strict=True)
    ]
    each_s = seconds_each(spec, alone_s, statistics.fmean(shared))
    spread = _spread([alone_s + seconds for seconds in shared], spec.budget.trials)
    budget = spec.budget
    last = spec.rungs[-1]
    possible = networks_by_limit(
        budget,
        each_s=each_s,
        device_s=alone_s + statistics.fmean(trained_s),
        epochs=last.amount if last.unit == "epochs" else 0.0,
    )
    limit = min(possible, key=lambda name: possible[name])
    number = possible[limit]
    time = Interval.around(number * each_s, spread)
    networks = Interval.around(number, 0.0 if limit == "trials" else spread)
    if budget.wall_time_s is not None:
        time = Interval(
            value=min(time.value, budget.wall_time_s),
            low=budget.wall_time_s if limit == "wall_time_s" else time.low,
            high=min(time.high, budget.wall_time_s),
        )
    return Forecast(
        searching_s=time, networks=networks, limit=limit, memory_bytes=_memory(spec, imported_bytes)
    )


def seconds_each(spec: StudySpec, alone_s: float, shared_s: float) -> float:
    """Return the seconds of searching of each network.

    One network at a time is measured, alone for `alone_s`. The rest, `shared_s`, is done by as many
    workers at once as the machine has cores for.
    """
    at_once = min(spec.workers.count, len(affinity()) / spec.workers.cpus)
    return alone_s + shared_s / max(at_once, 1.0)


def networks_by_limit(
    budget: Budget, *, each_s: float, device_s: float, epochs: float
) -> dict[str, float]:
    """Return how many networks are trained until each limit of the budget is reached.

    `each_s` are the seconds of searching of a network, `device_s` those of its work, and `epochs`
    those of its training. Energy does not count.
    """
    costs = {"wall_time_s": each_s, "device_s": device_s, "epochs": epochs}
    limits = {name: getattr(budget, name) for name in costs}
    networks = {
        name: limit / costs[name]
        for name, limit in limits.items()
        if limit is not None and costs[name] > 0
    }
    return {"trials": float(budget.trials), **networks}


def _is_noisy(member: Member) -> bool:
    """Return whether a figure is noisy. On a busy machine each network of a search waits before it
    is, while the networks of a check wait together.
    """
    figures = member.evaluation.measurements.values()
    return any(figure.status is Status.NOISY for figure in figures)


def _training_s(evaluator: Evaluator, members: Sequence[Member]) -> list[float]:
    """Return the seconds of each network's training, timed for a few of all sizes."""
    macs = [float(member.evaluation.value("macs") or 0.0) for member in members]
    order = sorted(range(len(members)), key=lambda index: macs[index])
    step = max((len(order) - 1) // (TIMED_NETWORKS - 1), 1)
    pace = Pace()
    for index in order[::step]:
        pace.add(macs[index], evaluator.training_s(members[index].architecture, TIMED_S))
    return [pace.expected_s(each) or 0.0 for each in macs]


def _spread(seconds: Sequence[float], trials: int) -> float:
    """Return the relative half width of the mean over the trials."""
    if len(seconds) < 2:
        return MAX_SPREAD
    relative = statistics.stdev(seconds) / statistics.fmean(seconds)
    sampled = 2 * relative * math.sqrt(1 / len(seconds) + 1 / trials)
    return min(math.hypot(sampled, SAMPLER_SPREAD), MAX_SPREAD)


def private_bytes() -> int:
    """Return the memory of this process that no other process shares."""
    return _memory_bytes("Private_Clean:", "Private_Dirty:")


def _memory(spec: StudySpec, imported_bytes: int) -> Interval:
    """Return the memory of the search from that of this process.

    The libraries are in memory once, and each process has its own `imported_bytes`. This process
    holds the data twice, once for preparing and once for timing; a worker holds them once.
    """
    libraries_bytes = _memory_bytes("Rss:") - private_bytes()
    data_bytes = (private_bytes() - imported_bytes) / 2
    workers = 1 if spec.workers.kind == "local" else spec.workers.count
    total = libraries_bytes + workers * (imported_bytes + data_bytes)
    if spec.workers.kind != "local":
        total += imported_bytes + RAY_BYTES
    return Interval.around(total, MAX_SPREAD)


def _memory_bytes(*names: str) -> int:
    """Return the sum of these lines of what Linux says of this process's memory."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith(names)]
    return 1024 * sum(kilobytes)
