"""How a study got where it is: hypervolume over trials, device seconds and time searched; what each
second went into.

The snapshots of the front come from the record; nothing is computed anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from nas.core.errors import InvalidValueError
from nas.core.pareto import ParetoFront
from nas.core.trial import Trial, TrialState, Usage


@dataclass(frozen=True, kw_only=True)
class Step:
    """One snapshot of the front with what had been spent by then.

    `device_s` are seconds of measuring, training and validating on all workers together,
    `searched_s` seconds in which at least one trial was being worked on.
    """

    front: ParetoFront
    device_s: float
    searched_s: float


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that have ended, in the order of their ends; duplicates are left out."""
    ended = [
        t
        for t in trials
        if t.finished_at is not None
        and t.state is not TrialState.RUNNING
        and t.duplicate_of is None
    ]
    return sorted(ended, key=lambda trial: (trial.finished_at, trial.number))


def front_at(fronts: Sequence[ParetoFront], after: int, ended: int) -> ParetoFront:
    """The front as it was after so many of the `ended` finished trials, whether the last of them
    moved it or not.

    Raises `InvalidValueError` where there was none yet, and beyond the finished trials.
    """
    if after > ended:
        message = f"there is no front after {after} trials: {ended} are finished"
        raise InvalidValueError(message)
    before = [front for front in fronts if front.after <= after]
    if not before:
        first = (
            f"the first was after {fronts[0].after} trials" if fronts else "no front is recorded"
        )
        message = f"there was no front after {after} trials; {first}"
        raise InvalidValueError(message)
    return replace(before[-1], after=after)


def steps(trials: Sequence[Trial], fronts: Sequence[ParetoFront]) -> list[Step]:
    """Every recorded snapshot with what had been spent when it was taken."""
    ended = finished(trials)
    spent = np.cumsum([0.0, *(device_seconds(trial) for trial in ended)])
    clock = SearchClock(trials)
    found = []
    for front in fronts:
        count = min(front.after, len(ended))
        moment = ended[count - 1].finished_at if count else None
        found.append(
            Step(
                front=front,
                device_s=float(spent[count]),
                searched_s=0.0 if moment is None else clock.seconds_at(moment),
            )
        )
    return found


def device_seconds(trial: Trial) -> float:
    """Seconds that workers measured, trained and validated this trial's network."""
    return trial.evaluation.spent.device_s


class SearchClock:
    """Runs while at least one of the trials is being worked on, and stands while none is."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        spans = sorted(
            (t.started_at.timestamp(), t.finished_at.timestamp()) for t in trials if t.finished_at
        )
        self._busy: list[tuple[float, float]] = []
        for start, end in spans:
            if self._busy and start <= self._busy[-1][1]:
                self._busy[-1] = (self._busy[-1][0], max(end, self._busy[-1][1]))
            else:
                self._busy.append((start, max(end, start)))
        self._starts = np.asarray([start for start, _ in self._busy])
        self._before = np.cumsum([0.0, *(end - start for start, end in self._busy)])

    @property
    def total_s(self) -> float:
        """Seconds until the last trial ended."""
        return float(self._before[-1])

    def seconds_at(self, moment: datetime) -> float:
        """Seconds it has run by then."""
        now = moment.timestamp()
        index = int(np.searchsorted(self._starts, now, side="right")) - 1
        if index < 0:
            return 0.0
        start, end = self._busy[index]
        return float(self._before[index]) + min(now, end) - start


def ledger(trials: Sequence[Trial]) -> list[Mapping[str, float | str | None]]:
    """What the seconds of all workers went into, one mapping for each state that trials ended in.

    `waiting` is for the device; `other` the time between a trial's start and end that was none of
    the rest: building and saving networks, the engine itself. `energy` are joules, where known.
    """
    found: list[Mapping[str, float | str | None]] = []
    for state in (TrialState.COMPLETE, TrialState.STOPPED, TrialState.FAILED):
        ended = [t for t in finished(trials) if t.state is state]
        lasted = sum((t.finished_at - t.started_at).total_seconds() for t in ended if t.finished_at)
        spent = sum((t.evaluation.spent for t in ended), Usage())
        known = {
            "measuring": spent.measuring_s,
            "training": spent.training_s,
            "validation": spent.validation_s,
            "waiting": spent.waiting_s,
        }
        found.append(
            {
                "state": state.value,
                "trials": len(ended),
                **known,
                "other": max(lasted - sum(known.values()), 0.0),
                "energy": spent.energy_j,
            }
        )
    return found
