"""How long a study will take and how much memory it needs, from a few networks before it starts."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.agent.host import PROC, read_stripped, usable_cores
from nas.analysis.rank_agreement import Interval
from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError, TrialFailedError
from nas.core.foreign import ForeignNetwork
from nas.core.measurement import Status
from nas.core.study import Budget, StudySpec
from nas.core.tasks import Measured, Task
from nas.core.trial import Evaluation
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.pace import Pace
from nas.searching.profile import Member

TIMED_NETWORKS = 4
"""Networks whose training steps are timed."""
TIMED_S = 1.5
"""Seconds of steps that are timed at each rung."""
UNSEEN = 0.5
"""Networks that count as within the limits if none of the sampled ones is."""
SAMPLER_SPREAD = 0.15
"""Relative half width for what the sampler changes: it proposes other networks than random ones."""
MAX_SPREAD = 0.24
"""Largest relative half width of an interval."""
RAY_BYTES = 0.4e9
"""Memory of Ray's own processes."""
MEMORY_FILE = PROC / "self/smaps_rollup"
"""Linux's sums of this process's memory. macOS and gVisor have no such file."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a search will take on this machine, if it stays as busy as it is.

    `searching_s` are seconds of searching until a budget is spent: the `limit`. `networks` are
    those that are trained until then. `memory_bytes` is that of all processes together, None if
    this system does not show it. Beside the searching, `baselines_s` are the seconds of the
    baselines, and `new_seeds_s` those of the trainings with new seeds after it.
    """

    searching_s: Interval
    networks: Interval
    limit: str
    memory_bytes: Interval | None
    baselines_s: float
    new_seeds_s: float


def forecast(
    spec: StudySpec,
    evaluator: Evaluator,
    sampled: Sequence[Member],
    imported_bytes: int | None,
    baselines: Mapping[str, Architecture | ForeignNetwork],
) -> Forecast:
    """Time the training of a few of these random networks, and add their measuring.

    `sampled` have their costs, and parameters and MACs among them. Those over a limit are measured
    and not trained. `baselines` are those that are not finished. `imported_bytes` is what
    `private_bytes` was before the data were read. Raises `InvalidValueError` for a baseline that
    cannot be counted.
    """
    usable = [member for member in sampled if not member.failure]
    within = [member for member in usable if not member.violation(spec.measured_objectives)]
    pace = _training_pace(evaluator, usable) if spec.needs_training else Pace()
    trained_s = [pace.expected_s(_macs(member.evaluation)) or 0.0 for member in within or usable]
    training_s = statistics.fmean(trained_s)
    alone_s = statistics.fmean(member.evaluation.measure_s for member in usable)
    waiting_s = spec.measurement.busy_wait_s * statistics.fmean(map(_is_noisy, usable))
    building_s = statistics.fmean(member.building_s for member in usable) + waiting_s
    tried = len(usable) / max(len(within), UNSEEN)  # measured networks for each that is trained
    each_s = seconds_each(
        spec, alone_s=tried * alone_s, building_s=tried * building_s, training_s=training_s
    )
    measuring_s = tried * (alone_s + building_s)
    # of a share p of n networks, and of the tries until N networks are within the limits
    tries = math.sqrt((1 - 1 / tried) * (tried / len(usable) + 1 / spec.budget.trials))
    spread = _spread(
        [measuring_s + seconds for seconds in trained_s],
        spec.budget.trials,
        2 * tries * measuring_s / (measuring_s + training_s or 1.0),
    )
    budget = spec.search_budget
    has_epochs = budget.epochs is not None and spec.needs_training
    possible = networks_by_limit(
        budget,
        each_s=each_s,
        device_s=tried * alone_s + training_s,
        epochs=evaluator.training_epochs if has_epochs else 0.0,
    )
    possible["proposals"] = budget.max_proposals / tried
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
    counts = [_counted_macs(evaluator, spec, name, each) for name, each in baselines.items()]
    beside = [building_s + (pace.expected_s(macs) or 0.0) for macs in counts]
    return Forecast(
        searching_s=time,
        networks=networks,
        limit=limit,
        memory_bytes=_memory(spec, imported_bytes),
        baselines_s=alone_s * len(beside) + sum(beside) / _at_once(spec),
        new_seeds_s=number * spec.fresh / (1 - spec.fresh) * training_s / _at_once(spec),
    )


def seconds_each(spec: StudySpec, *, alone_s: float, building_s: float, training_s: float) -> float:
    """Return the seconds of searching of each network.

    One network at a time is measured, alone for `alone_s`. The rest is done by as many workers at
    once as the machine has cores for. Devices elsewhere measure the next networks meanwhile, each
    device one network; then the slower of measuring and training counts.
    """
    if spec.measured_ahead:
        measuring_s = (alone_s + building_s) / spec.measured_ahead
        return max(measuring_s, training_s / _at_once(spec))
    return alone_s + (building_s + training_s) / _at_once(spec)


def _at_once(spec: StudySpec) -> float:
    """Return how many workers have cores at the same time, at least one."""
    return max(min(spec.workers.count, usable_cores() / spec.workers.cpus), 1.0)


def _macs(evaluation: Evaluation) -> float:
    return float(evaluation.value("macs") or 0.0)


def _counted_macs(
    evaluator: Evaluator, spec: StudySpec, name: str, network: Architecture | ForeignNetwork
) -> float:
    """Return the MACs of a baseline, which are counted first. Nothing is measured."""
    try:
        counted = next(evaluator.steps(Task(number=0, architecture=network, seed=spec.seed)))
    except TrialFailedError as error:
        raise InvalidValueError(f"baselines: {name}: {error}") from error
    figures = counted.measurements if isinstance(counted, Measured) else ()
    return _macs(Evaluation().with_measurements(figures))


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


def _training_pace(evaluator: Evaluator, members: Sequence[Member]) -> Pace:
    """Return the seconds of a network's training by its MACs, timed for a few of all sizes."""
    macs = [_macs(member.evaluation) for member in members]
    order = sorted(range(len(members)), key=lambda index: macs[index])
    step = max((len(order) - 1) // (TIMED_NETWORKS - 1), 1)
    pace = Pace()
    for index in order[::step]:
        pace.add(macs[index], evaluator.training_s(members[index].architecture, TIMED_S))
    return pace


def _spread(seconds: Sequence[float], trials: int, limits: float) -> float:
    """Return the relative half width of the mean over the trials; `limits` is the part that is
    unknown of the networks over a limit.
    """
    if len(seconds) < 2:
        return MAX_SPREAD
    relative = statistics.stdev(seconds) / statistics.fmean(seconds)
    sampled = 2 * relative * math.sqrt(1 / len(seconds) + 1 / trials)
    return min(math.hypot(sampled, limits, SAMPLER_SPREAD), MAX_SPREAD)


def private_bytes() -> int | None:
    """Return the memory of this process that no other process shares, None if this system does not
    show it.
    """
    return _memory_bytes("Private_Clean:", "Private_Dirty:")


def _memory(spec: StudySpec, imported_bytes: int | None) -> Interval | None:
    """Return the memory of the search from that of this process, None if that is unknown.

    The libraries are in memory once, and each process has its own `imported_bytes`. This process
    holds the data twice, once for preparing and once for timing; a worker holds them once.
    """
    resident_bytes, own_bytes = _memory_bytes("Rss:"), private_bytes()
    if resident_bytes is None or own_bytes is None or imported_bytes is None:
        return None
    libraries_bytes = resident_bytes - own_bytes
    data_bytes = (own_bytes - imported_bytes) / 2
    workers = 1 if spec.workers.kind == "local" else spec.workers.count
    total = libraries_bytes + workers * (imported_bytes + data_bytes)
    if spec.workers.kind != "local":
        total += imported_bytes + RAY_BYTES
    return Interval.around(total, MAX_SPREAD)


def _memory_bytes(*names: str) -> int | None:
    """Return the sum of these lines of what Linux says of this process's memory, None if this
    system has no such file.
    """
    text = read_stripped(MEMORY_FILE)
    if text is None:
        return None
    lines = text.splitlines()
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith(names)]
    return 1024 * sum(kilobytes)
