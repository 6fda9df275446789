"""The search state: which network is tried next, when a trial ends, and the front.

It decides everything, and stores and measures nothing.

Theory of operation. A trial is proposed, measured and compared with the limits. The sampler may
skip it then. Otherwise it is trained rung by rung, judged at each rung, and ends. An evaluation
belongs to an architecture: a second trial of the same architecture (a duplicate) costs nothing, and
ends when and as the first one does.

Each method returns the trial's next state and changes nothing. The caller commits it and then calls
`learn`, the only method that updates this object and the sampler. The state is therefore always
that of the record, and a state that is built from the record continues the search.

Of a trial that has ended and is not on the front, only the architecture's digest stays here, about
0.2 kB. The rest is in the record, and is read from there for a duplicate. What the rules at rungs
compare stays here if the study uses them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nas.core.dominance import dominators
from nas.core.measurement import Status
from nas.core.pareto import ParetoFront, front
from nas.core.search_space import Params, SearchSpace, decoded
from nas.core.seeds import trial_seed
from nas.core.stopping import (
    Curve,
    Curves,
    Futility,
    costs_of,
    curve_of,
    exempt,
    shortfalls,
    sizes_of,
)
from nas.core.study import Direction, Objective, StudySpec
from nas.core.tasks import Measured, Result
from nas.core.trial import Trial, TrialState, Usage
from nas.searching.pace import WINDOW
from nas.searching.patience import Patience

MAX_REPEATS = 100
"""Stop the search after this many consecutive duplicate proposals."""
SKIP_REASON = (
    "skipped before training: at its measured costs another candidate has a much higher expected "
    "improvement"
)
TRIALS_PER_BATCH = 500
"""Recorded trials that are learned at once, for which the front is computed once."""


class Sampler(Protocol):
    """A source of proposals, such as `nas.sampling.Proposer`."""

    def rebuild(self, trials: Iterable[Trial]) -> None:
        """Learn the next trials of the record."""

    def ask(self, start: Params | None = None) -> tuple[int, Params, Mapping[str, Any]]:
        """Return the number of a new trial, its params, and the sampler's state to record with
        it. With `start` these are its params.
        """

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended."""

    def skips(self, trial: Trial) -> bool:
        """Return whether another network should be trained instead of this measured one."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The answer that nothing more will be proposed, and the reason."""

    reason: str


@dataclass(frozen=True)
class Wait:
    """The answer that nothing can be proposed until a running trial ends."""


class SearchState:
    """State of one study's search.

    `trials` are those of the record in order of their numbers. `recall` reads an ended trial from
    the record. `first` are the params of networks that are tried before the sampler is asked.
    """

    def __init__(
        self,
        *,
        spec: StudySpec,
        space: SearchSpace,
        sampler: Sampler,
        trials: Iterable[Trial],
        recall: Callable[[int], Trial],
        first: Sequence[Params] = (),
    ) -> None:
        self.spec = spec
        self._space = space
        self._sampler = sampler
        self._recall = recall
        self._first = list(first)
        self._trials: dict[int, Trial] = {}
        """Running trials, and the members of the front."""
        self._originals: dict[bytes, int] = {}
        """Numbers of the trials that evaluate an architecture, by its digest."""
        self._running: set[int] = set()
        self._followers: dict[int, list[int]] = {}
        """Duplicates of running trials, by the number of the original."""
        self._curves: dict[int, Curve] = {}
        """Curves of complete trials, for the futility rule."""
        self._front_losses: tuple[tuple[int, ...], NDArray[np.float64]] = ((), np.empty((0, 0)))
        """Members of a front, and their losses (n, m)."""
        self._repeats = 0
        self._num_ended = 0
        self._num_copied = 0
        """Number of architectures that were evaluated elsewhere."""
        self.num_skipped = 0
        """Number of architectures that were skipped, without those of elsewhere."""
        self._ended_usage = Usage()
        self.num_trials = 0
        """Number of trials, duplicates included."""
        self.num_failed = 0
        """Number of failed trials, duplicates included."""
        self.front = front([], spec.objectives)
        self._patience = Patience(spec)
        trained: deque[Trial] = deque(maxlen=WINDOW)
        remaining = iter(trials)
        while batch := list(islice(remaining, TRIALS_PER_BATCH)):
            sampler.rebuild(batch)
            trained.extend(each for each in batch if each.duplicate_of is None and _is_timed(each))
            self._count_ended([trial for trial in batch if self._take(trial)])
        self.last_trained: Sequence[Trial] = trained
        """The latest trials of the record that reached a rung after a known time."""

    def trial(self, number: int) -> Trial:
        """Return a trial as it is recorded."""
        return self._trials.get(number) or self._recall(number)

    def members(self) -> list[Trial]:
        """Return the members of the front in its order."""
        return [self._trials[number] for number in self.front.members]

    @property
    def running(self) -> list[Trial]:
        """Running trials without duplicates."""
        return [self._trials[number] for number in sorted(self._running)]

    def is_running(self, number: int) -> bool:
        """Return whether this trial is running and no duplicate."""
        return number in self._running

    @property
    def num_architectures(self) -> int:
        """Number of different architectures that were proposed."""
        return len(self._originals)

    @property
    def num_counted(self) -> int:
        """Number of architectures that `budget.trials` counts: all but the skipped and those that
        were evaluated elsewhere.
        """
        return self.num_architectures - self.num_skipped - self._num_copied

    @property
    def num_finished(self) -> int:
        """Number of counted architectures whose trials have ended."""
        return self._num_ended - self.num_skipped - self._num_copied

    @property
    def spent(self) -> Usage:
        """Resources that all trials used."""
        return sum((trial.evaluation.spent for trial in self.running), self._ended_usage)

    def limit_name(self, key: str) -> str:
        """Return the limit of the search that a key of the study's budget sets, in words."""
        reserved = " without the share for new seeds" if self.spec.fresh else ""
        return f"the limit of budget.{key}{reserved}"

    def propose(self, now: datetime) -> Trial | Finished:
        """Return a new trial, or why there is none. A duplicate may have ended already.

        While trials are at work there may be one later, because skipped networks count in no
        budget.
        """
        reason = self._spent_budget()
        if not reason and self._repeats >= MAX_REPEATS:
            reason = (
                f"the sampler {self.spec.sampler} proposed only networks that were tried before, "
                f"{MAX_REPEATS} times in a row"
            )
        if reason:
            untried = f"; start networks that were not tried: {len(self._untried())}"
            reason += untried if self._first else ""
            return Finished(reason=reason)
        start = self._untried()
        number, params, state = self._sampler.ask(start[0] if start else None)
        architecture = decoded(self._space, params)
        trial = Trial(
            number=number,
            params=params,
            architecture=architecture,
            seed=trial_seed(self.spec.seed, architecture.digest),
            sampler_state=state,
            started_at=now,
        )
        original_number = self._originals.get(bytes.fromhex(architecture.digest))
        if original_number is None:
            return trial
        original = self.trial(original_number)
        duplicate = replace(trial, duplicate_of=original_number, evaluation=original.evaluation)
        if original.state is TrialState.RUNNING:
            return duplicate
        return duplicate.moved_to(original.state, reason=original.reason, finished_at=now)

    def _untried(self) -> list[Params]:
        """Return the start networks that were not proposed yet."""
        self._first = [
            params
            for params in self._first
            if bytes.fromhex(decoded(self._space, params).digest) not in self._originals
        ]
        return self._first

    def judge(self, number: int, event: Result, now: datetime) -> Trial:
        """Return the trial after this event: still running, or ended with a reason."""
        trial = self._trials[number]
        trial = replace(
            trial,
            evaluation=trial.evaluation.with_usage(
                event.waiting_s, event.energy_j, measuring=isinstance(event, Measured)
            ),
        )
        if isinstance(event, Measured):
            evaluation = trial.evaluation.with_measurements(event.measurements, event.seconds)
            trial = replace(trial, evaluation=evaluation)
            return self._judge_figures(trial, now) if event.decides else trial
        trial = replace(trial, evaluation=trial.evaluation.with_rung(event.rung))
        if len(trial.evaluation.rungs) >= len(self.spec.rungs):
            missing = [o.key for o in self.spec.objectives if trial.evaluation.value(o.key) is None]
            if missing:
                reason = f"there is no figure for {', '.join(missing)}"
                return trial.moved_to(TrialState.FAILED, reason=reason, finished_at=now)
            return trial.moved_to(TrialState.COMPLETE, finished_at=now)
        reason = self._stopping_reason(trial)
        if not reason:
            return trial
        return trial.moved_to(TrialState.STOPPED, reason=reason, finished_at=now)

    def fail(self, number: int, reason: str, now: datetime) -> Trial:
        """Return the trial as failed."""
        return self._trials[number].moved_to(TrialState.FAILED, reason=reason, finished_at=now)

    def followers(self, trial: Trial) -> list[Trial]:
        """Return the duplicates of this ended trial, ended as it did."""
        return [
            replace(self._trials[number], evaluation=trial.evaluation).moved_to(
                trial.state, reason=trial.reason, finished_at=trial.finished_at
            )
            for number in self._followers.get(trial.number, [])
        ]

    def front_with(self, trial: Trial) -> ParetoFront:
        """Return the front after this trial."""
        if trial.state is TrialState.RUNNING or trial.duplicate_of is not None:
            return self.front
        return self._front_after([trial])

    def learn(self, trial: Trial) -> None:
        """Learn a trial that has been recorded. The sampler learns it if it has ended."""
        if self._take(trial):
            self._count_ended([trial])
        if trial.state is not TrialState.RUNNING:
            self._sampler.tell(trial)

    def amend(self, trial: Trial) -> None:
        """Replace a member of the front to which figures were added. Nothing depends on them,
        therefore the sampler does not learn them.
        """
        self._trials[trial.number] = trial

    def _take(self, trial: Trial) -> bool:
        """Store a trial. Return whether it must be counted as ended, which duplicates are not."""
        number, original, before = trial.number, trial.duplicate_of, self._trials.get(trial.number)
        running = trial.state is TrialState.RUNNING
        if before is None:
            self.num_trials += 1
            self._repeats = 0 if original is None else self._repeats + 1
        self.num_failed += trial.state is TrialState.FAILED
        if running or original is None:
            self._trials[number] = trial
        else:
            self._trials.pop(number, None)
        if original is None:
            self._originals.setdefault(bytes.fromhex(trial.architecture.digest), number)
            (self._running.add if running else self._running.discard)(number)
            if self.spec.stopping.futility and (curve := curve_of(trial, self.spec)):
                self._curves[number] = curve
        elif running and before is None:
            self._followers.setdefault(original, []).append(number)
        elif not running:
            self._followers.pop(original, None)  # all of them end at once
        return original is None and not running

    def _count_ended(self, ended: Sequence[Trial]) -> None:
        """Count trials that have just ended, and forget those that are not on the front."""
        members_before = self.front.members
        self.front = self._front_after(ended)
        for trial in sorted(ended, key=lambda each: each.finished_at or each.started_at):
            self._num_ended += 1
            self._patience.add(trial)
            if trial.origin:
                self._num_copied += 1
                continue
            self.num_skipped += trial.skipped
            self._ended_usage += trial.evaluation.spent
        candidates = {*members_before, *(trial.number for trial in ended)}
        for number in candidates.difference(self.front.members):
            del self._trials[number]

    def _front_after(self, ended: Sequence[Trial]) -> ParetoFront:
        """Return the front with these ended trials."""
        after = self._num_ended + len(ended)
        candidates = [trial for trial in ended if not self._is_dominated(trial)]
        if not candidates:
            return replace(self.front, after=after)
        return replace(front([*self.members(), *candidates], self.spec.objectives), after=after)

    def _is_dominated(self, trial: Trial) -> bool:
        """Return whether an ended trial leaves a feasible front as it is, which most do. This is
        much faster than computing the front.
        """
        if not self.front.feasible:
            return False
        objectives = self.spec.objectives
        losses = trial.losses(objectives)
        if (
            trial.state is not TrialState.COMPLETE
            or losses is None
            or trial.violation(objectives) > 0
        ):
            return True
        if self._front_losses[0] != self.front.members:
            member_losses = [member.losses(objectives) for member in self.members()]
            self._front_losses = (self.front.members, np.asarray(member_losses))
        return bool(dominators([losses], self._front_losses[1])[0])

    def _spent_budget(self) -> str:
        """Return why no new architecture may be tried, or an empty string."""
        budget = self.spec.search_budget
        if self.num_counted >= budget.trials:
            return f"{budget.trials} networks were tried, {self.limit_name('trials')}"
        if self.num_architectures >= self._space.cardinality:
            return f"all {self._space.cardinality} networks of the space were tried"
        proposed = self.num_architectures - self._num_copied
        if proposed >= budget.max_proposals:
            return (
                f"only {self.num_counted} of {proposed} proposed networks were worth training: "
                "the others are over a limit, or were skipped; widen the limits, or raise "
                "budget.proposals"
            )
        return self.spent_resources() or self._patience.reason

    def spent_resources(self) -> str:
        """Return which budget of epochs, device time or energy is spent, or an empty string."""
        budget, spent = self.spec.search_budget, self.spent
        for key, used, unit in (
            ("epochs", spent.epochs, "epochs of training"),
            ("device_s", spent.device_s, "s of device time"),
            ("energy_j", spent.energy_j or 0.0, "J"),
        ):
            limit = getattr(budget, key)
            if limit is not None and used >= limit:
                return f"{used:.4g} {unit} were used, and {self.limit_name(key)} is {limit:g}"
        return ""

    def _judge_figures(self, trial: Trial, now: datetime) -> Trial:
        """Return the trial after a measurement. It ends if a figure is missing or over its limit,
        if no training is missing, or if the sampler skips it. It stays as it is if a figure is
        contended, since that says nothing of the network.
        """
        objectives = self.spec.objectives
        figures = [
            (objective, figure)
            for objective in objectives
            if (figure := trial.evaluation.measurements.get(objective.key)) is not None
        ]
        if any(figure.status is Status.CONTENDED for _, figure in figures):
            return trial
        for objective, figure in figures:
            if figure.value is None:
                reason = f"{objective.key} is {figure.status}: {figure.reason}"
                return trial.moved_to(TrialState.FAILED, reason=reason, finished_at=now)
            if objective.violation(figure.value) > 0:
                reason = limit_reason(objective, figure.value, figure.unit)
                return trial.moved_to(TrialState.STOPPED, reason=reason, finished_at=now)
        is_trained = len(trial.evaluation.rungs) >= len(self.spec.rungs)
        if trial.losses(objectives) is not None and (is_trained or not self.spec.needs_training):
            return trial.moved_to(TrialState.COMPLETE, finished_at=now)
        noisy = any(figure.status is Status.NOISY for _, figure in figures)
        if not noisy and not trial.evaluation.rungs and self._sampler.skips(trial):
            return trial.moved_to(TrialState.STOPPED, reason=SKIP_REASON, finished_at=now)
        return trial

    def _stopping_reason(self, trial: Trial) -> str:
        """Return why the trial is stopped at the rung that it has reached, or an empty string."""
        if not self.spec.stopping.futility or exempt(trial.seed):
            return ""
        rungs = trial.evaluation.rungs
        curves = [self._curves[number] for number in sorted(self._curves)]
        rule = Futility(Curves.of_curves(curves), len(rungs))
        errors = shortfalls(trial, self.spec)
        if rule.stops(errors, costs_of(trial, self.spec), sizes_of(trial)):
            return f"dominated even by an optimistic estimate after {rungs[-1].epochs:g} epochs"
        return ""


def limit_reason(objective: Objective, value: float, unit: str) -> str:
    """Return why a trial with this value is over the objective's limit."""
    side = "over" if objective.direction is Direction.MINIMIZE else "under"
    suffix = "" if unit == "1" else f" {unit}"
    return f"{objective.key} {value:g}{suffix} is {side} the limit {objective.limit:g}{suffix}"


def utc_now() -> datetime:
    """Return the current time with its time zone."""
    return datetime.now(UTC)


def _is_timed(trial: Trial) -> bool:
    """Return whether a trial reached a rung after a known time.

    Imported ones lack it, and certified ones have the seconds of the certification in it.
    """
    rungs = trial.evaluation.rungs
    is_certified = trial.evaluation.certified_session is not None
    return bool(rungs) and rungs[0].train_s is not None and not is_certified
