"""The course of a study: hypervolume over trials, device seconds and searched time, and the use of
the seconds.

The fronts come from the record. None is computed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import InvalidValueError
from nas.core.pareto import ParetoFront
from nas.core.trial import Trial, TrialState, Usage
from nas.record.records import covered_s


@dataclass(frozen=True, kw_only=True)
class Step:
    """A recorded front and the time spent until then.

    `device_s` are seconds of measuring, training and validating on all workers together.
    `searched_s` are seconds in which at least one trial was running.
    """

    front: ParetoFront
    device_s: float
    searched_s: float


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that have ended, in the order of their ends and without duplicates."""
    ended = [
        t
        for t in trials
        if t.finished_at is not None
        and t.state is not TrialState.RUNNING
        and t.duplicate_of is None
    ]
    return sorted(ended, key=lambda trial: (trial.finished_at, trial.number))


def front_at(fronts: Sequence[ParetoFront], after: int, ended: int) -> ParetoFront:
    """Return the front after the first `after` of `ended` finished trials.

    A front is recorded only when it changes, therefore this is the last one until then. Raises
    `InvalidValueError` if there was none yet, or if fewer trials are finished.
    """
    if after > ended:
        raise InvalidValueError(f"there is no front after {after} trials: {ended} are finished")
    earlier = [front for front in fronts if front.after <= after]
    if not earlier:
        first = (
            f"the first was after {fronts[0].after} trials" if fronts else "no front is recorded"
        )
        raise InvalidValueError(f"there was no front after {after} trials; {first}")
    return replace(earlier[-1], after=after)


def steps(trials: Sequence[Trial], fronts: Sequence[ParetoFront]) -> list[Step]:
    """Return every recorded front with the time spent until then."""
    ended = finished(trials)
    spent = np.cumsum([0.0, *(device_seconds(trial) for trial in ended)])
    spans = busy_spans(trials)
    rows = []
    for front in fronts:
        count = min(front.after, len(ended))
        moment = ended[count - 1].finished_at if count else None
        searched_s = covered_s(spans, moment.timestamp()) if moment else 0.0
        rows.append(Step(front=front, device_s=float(spent[count]), searched_s=searched_s))
    return rows


def device_seconds(trial: Trial) -> float:
    """Return the seconds in which workers of the study measured, trained and validated this trial's
    network; none if it was evaluated elsewhere.
    """
    return 0.0 if trial.origin else trial.evaluation.spent.device_s


def busy_spans(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """Return start and end of each ended trial in seconds since 1970, of shape (n, 2).

    Duplicates do not count, because they end with their originals and need no work.
    """
    spans = [
        (t.started_at.timestamp(), t.finished_at.timestamp())
        for t in trials
        if t.finished_at and t.duplicate_of is None
    ]
    return np.asarray(spans, dtype=float).reshape(-1, 2)


def ledger(trials: Sequence[Trial]) -> list[Mapping[str, float | str | None]]:
    """Return the use of all workers' seconds, one mapping for each final state of trials.

    `waiting` is for the device. `other` is the rest of the time between a trial's start and its
    end: building and saving networks, and the search itself. `energy` is in joules, None if no
    counter was read. Trials that were evaluated elsewhere used none.
    """
    own = [trial for trial in finished(trials) if not trial.origin]
    rows: list[Mapping[str, float | str | None]] = []
    for state in (TrialState.COMPLETE, TrialState.STOPPED, TrialState.FAILED):
        ended = [t for t in own if t.state is state]
        lasted = sum((t.finished_at - t.started_at).total_seconds() for t in ended if t.finished_at)
        spent = sum((t.evaluation.spent for t in ended), Usage())
        parts = {
            "measuring": spent.measuring_s,
            "training": spent.training_s,
            "validation": spent.validation_s,
            "waiting": spent.waiting_s,
        }
        other = max(lasted - sum(parts.values()), 0.0)
        rows.append(
            {
                "state": state.value,
                "trials": len(ended),
                **parts,
                "other": other,
                "energy": spent.energy_j,
            }
        )
    return rows
