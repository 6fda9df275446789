"""Current work on a study: the driver, the state of each worker, and the use of the device.

Read from the record, from the lock of the process that drives the study and, on the device's own
machine, from the device's lock. Devices elsewhere are not asked: of them only the use by this
machine is known. Nothing is reported that none of these holds.
"""

import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nas.agent.host import program_name
from nas.core.measurement import Measurement
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.core.units import format_duration
from nas.measuring.meters.lock import DeviceLock, Holders, Use, drivers_lock
from nas.record import StudyRecord, Summary

if TYPE_CHECKING:
    from nas.record import Store


@dataclass(frozen=True, kw_only=True)
class Work:
    """A running trial.

    `worker` is HOST:PID and empty until a worker has accepted the trial. `doing` names the current
    step, and `lasted_s` counts the seconds since the trial began.
    """

    trial: int
    worker: str
    doing: str
    lasted_s: float


WAITS_FOR_TRAINING = "measured, waits for a training to end"
"""Step of a trial that was measured elsewhere while other networks train."""


LIMITING_SHARE = 0.8
"""Share of the time that measuring or training takes at least if the other one waits for it
(judgement). With less, the search itself or building networks takes the rest.
"""


@dataclass(frozen=True, kw_only=True)
class AtWork:
    """Current work on one study.

    `driver` is the process that drives the study. If it is None, the trials in `works` are
    unfinished. `workers` is the largest number of workers, and `device` holds sentences.
    """

    driver: str | None
    workers: int
    works: tuple[Work, ...]
    device: tuple[str, ...]

    @property
    def heading(self) -> str:
        """The driver and the number of busy workers in a sentence."""
        if self.driver is None:
            rest = "; nas search resumes the unfinished trials" if self.works else ""
            return f"no search is running{rest}"
        if not self.works:
            return f"at work: {self.driver}, no trial is running"
        busy = sum(work.doing != WAITS_FOR_TRAINING for work in self.works)
        return f"at work: {self.driver}, {busy} of {self.workers} workers busy"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a page."""
        return {
            "busy": self.driver is not None or bool(self.works),
            "heading": self.heading,
            "device": list(self.device),
            "works": [
                {
                    "trial": work.trial,
                    "worker": work.worker or "no worker yet",
                    "doing": work.doing,
                    "lasted": format_duration(work.lasted_s),
                }
                for work in self.works
            ],
        }


def at_work(store: "Store", record: StudyRecord, running: Collection[int]) -> AtWork:
    """Read the current work. `running` are the running trials without duplicates."""
    trials, now = store.trials(record.name, running) if running else [], datetime.now(UTC)
    works = tuple(
        Work(
            trial=trial.number,
            worker=trial.worker,
            doing=activity(trial, record.spec),
            lasted_s=max((now - trial.started_at).total_seconds(), 0.0),
        )
        for trial in trials
    )
    return AtWork(
        driver=store.driver(record.name),
        workers=record.spec.workers.count + record.spec.measured_ahead,
        works=works,
        device=tuple(_device(record, store.last_measured(record.name), works, now)),
    )


def activity(trial: Trial, spec: StudySpec) -> str:
    """Name the current step of a running trial."""
    evaluation, rungs = trial.evaluation, spec.rungs
    if not evaluation.measurements:
        return "counting"
    metrics = [objective.key for objective in spec.measured_objectives]
    missing = [metric for metric in metrics if evaluation.value(metric) is None]
    if missing:
        return f"measuring {', '.join(missing)}"
    done = len(evaluation.rungs)
    if spec.measured_ahead and not done and not trial.worker:
        return WAITS_FOR_TRAINING
    if done == len(rungs):
        return "ending"
    return f"training to {rungs[done]} (rung {done + 1} of {len(rungs)})"


def overlap_line(spec: StudySpec, summary: Summary) -> str | None:
    """Return which of measuring elsewhere and training waits for the other one.

    Returns None for a study that does not do both, or has not begun.
    """
    if not spec.measured_ahead or not summary.searched_s:
        return None
    spent, devices = summary.spent, spec.devices_elsewhere
    measuring = spent.measuring_s / len(devices) / summary.searched_s
    training = (spent.training_s + spent.validation_s) / spec.workers.count / summary.searched_s
    names = " and ".join(devices)
    waits = "trainings wait for it" if measuring > training else "it waits for trainings"
    if max(measuring, training) < LIMITING_SHARE:
        waits = "neither limits the search"
    return (
        f"{names} measured in {100 * measuring:.0f} % of the time, workers trained in "
        f"{100 * training:.0f} %: {waits}"
    )


def _device(
    record: StudyRecord, last: tuple[int, Measurement] | None, works: Sequence[Work], now: datetime
) -> Iterator[str]:
    """Name the study's devices, their use and the last measurement."""
    recorded: Mapping[str, Any] = record.numerics.get("device", {})
    own, elsewhere = record.spec.measurement.device, record.spec.devices_elsewhere
    name, identity = recorded.get("name"), recorded.get("identity")
    used = None if last is None else last[1].device
    if used is not None and "device" not in used.details:
        name, identity = used.name, used.identity
    if name is not None and own not in elsewhere:
        yield f"device: {name}, {_use(identity, works)}"
    for device in elsewhere:
        facts = recorded if device == own else recorded.get("others", {}).get(device, {})
        yield f"device {device}: {_use_elsewhere(device, facts.get('identity'), works)}"
    if last is not None:
        number, figure = last
        reason = f" ({figure.reason})" if figure.reason else ""
        yield (
            f"last figure: {figure.metric} of trial {number}, {figure.status}{reason}, "
            f"{format_duration(max((now - figure.started_at).total_seconds(), 0.0))} ago"
        )


def _use(identity: str | None, works: Sequence[Work]) -> str:
    """Say from the device's lock whether it is in use, and by which processes."""
    holders = DeviceLock(identity).holders() if identity else None
    if holders is None:
        return "whose use is unknown on this machine"
    return "free" if holders.use is Use.FREE else _named(holders, works)


def _use_elsewhere(device: str, identity: str | None, works: Sequence[Work]) -> str:
    """Say whether processes of this machine measure on a device elsewhere. The device is not asked,
    which may take seconds.
    """
    holders = drivers_lock(identity).holders() if identity else None
    if holders is None or holders.use is Use.FREE:
        return f"not in use from this machine; nas doctor --device {device} asks it"
    return _named(holders, works)


def _named(holders: Holders, works: Sequence[Work]) -> str:
    """Return the use of a device by processes of this machine."""
    workers = {work.worker: f"{work.worker} (trial {work.trial})" for work in works}
    names = [
        workers.get(f"{socket.gethostname()}:{number}")
        or f"process {number} ({program_name(number) or 'unknown'})"
        for number in holders.processes
    ]
    return f"{holders.use} by {', '.join(names) or 'processes that this system does not show'}"
