"""What is being done on a study now: by whom, what each worker is at, how its device is used.

Known from the record, from the claim of whoever drives the study and, on the device's own machine,
from its lock. What none of them tells is not told.
"""

import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nas.core.measurement import Measurement
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.core.units import format_duration
from nas.measuring.meters.host import program_name
from nas.measuring.meters.lock import DeviceLock, Use
from nas.record import Store, StudyRecord


@dataclass(frozen=True, kw_only=True)
class Work:
    """A running trial: its worker (HOST:PID, empty before one has taken it up), what is done, and
    for how many seconds it has been at work.
    """

    trial: int
    worker: str
    doing: str
    lasted_s: float


@dataclass(frozen=True, kw_only=True)
class AtWork:
    """`driver` is the process that drives the study, None where nobody does: then its trials are
    unfinished. `workers` is how many there may be at once; `device` are sentences.
    """

    driver: str | None
    workers: int
    works: tuple[Work, ...]
    device: tuple[str, ...]

    @property
    def heading(self) -> str:
        """Who is at work, in a sentence."""
        if self.driver is not None:
            busy = (
                f"{len(self.works)} of {self.workers} workers busy"
                if self.works
                else "no trial is running"
            )
            return f"at work: {self.driver}, {busy}"
        if self.works:
            return "nobody is at work; what is unfinished goes on with the next nas search"
        return "nobody is at work"

    def to_dict(self) -> dict[str, Any]:
        """For a page."""
        busy = self.driver is not None or bool(self.works)
        return {
            "busy": busy,
            "heading": self.heading,
            "device": list(self.device),
            "works": [
                {
                    "trial": each.trial,
                    "worker": each.worker or "no worker yet",
                    "doing": each.doing,
                    "lasted": format_duration(each.lasted_s),
                }
                for each in self.works
            ],
        }


def at_work(store: Store, record: StudyRecord, running: Collection[int]) -> AtWork:
    """As it is now; `running` are the running trials that are no duplicates."""
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
        workers=record.spec.workers.count,
        works=works,
        device=tuple(_device(record, store.last_measured(record.name), works, now)),
    )


def activity(trial: Trial, spec: StudySpec) -> str:
    """What is being done with a running trial."""
    known, rungs = trial.evaluation, spec.rungs.epochs
    if not known.measurements:
        return "counting"
    missing = [
        o.metric for o in spec.objectives if o.metric != "error" and known.value(o.metric) is None
    ]
    if missing:
        return f"measuring {', '.join(missing)}"
    done = len(known.rungs)
    return (
        f"training to {rungs[done]:g} epochs (rung {done + 1} of {len(rungs)})"
        if done < len(rungs)
        else "ending"
    )


def _device(
    record: StudyRecord, last: tuple[int, Measurement] | None, works: Sequence[Work], now: datetime
) -> Iterator[str]:
    """Which device the study measures on, who has it, and how its last figure was."""
    found: Mapping[str, Any] = record.numerics.get("device", {})
    name, identity = found.get("name"), found.get("identity")
    if last is not None and last[1].device is not None:
        name, identity = last[1].device.name, last[1].device.identity
    if name is not None:
        yield f"device: {name}, {_use(identity, works)}"
    if last is not None:
        number, figure = last
        reason = f" ({figure.reason})" if figure.reason else ""
        yield (
            f"last figure: {figure.metric} of trial {number}, {figure.status}{reason}, "
            f"{format_duration(max((now - figure.started_at).total_seconds(), 0.0))} ago"
        )


def _use(identity: str | None, works: Sequence[Work]) -> str:
    """Who holds the device, as its lock says."""
    holders = DeviceLock(identity).holders() if identity else None
    if holders is None:
        return "which is not known here to be in use or free"
    if holders.use is Use.NOBODY:
        return "free"
    names = {each.worker: f"{each.worker} (trial {each.trial})" for each in works}
    shown = [
        names.get(f"{socket.gethostname()}:{number}")
        or f"process {number} ({program_name(number) or 'unknown'})"
        for number in holders.processes
    ]
    return f"{holders.use} by {', '.join(shown) or 'processes that are not shown here'}"
