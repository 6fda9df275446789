"""What to try next, when a trial ends, and what is known. Decides everything, stores and measures
nothing.

Theory of operation. A trial is proposed, measured, judged against the limits and by the sampler,
which may pass it over, trained rung by rung, judged at each, and ends; its evaluation belongs to
its architecture, so a second trial of the same architecture (a duplicate) costs nothing: it ends
when and as the first one does. Every method returns trials as they should become; whoever calls
records them first and then calls `learn`, which alone changes what the brain knows and tells the
sampler. So what the brain knows is always what the record holds, and a brain built from the record
goes on where the last one was.

Of a trial that has ended and is not on the front only its architecture's digest stays here, some
0.2 kB; the rest is in the record, and is recalled from there for a duplicate. What the rules at
rungs compare is kept where a study has them.
"""

from collections import defaultdict
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
from nas.core.search_space import Params, SearchSpace
from nas.core.seeds import trial_seed
from nas.core.stopping import (
    Curve,
    Curves,
    Futility,
    continues,
    costs_of,
    curve_of,
    exempt,
    sizes_of,
)
from nas.core.study import StudySpec
from nas.core.tasks import Event, Measured
from nas.core.trial import Trial, TrialState, Usage

MAX_REPEATS = 100
"""After this many proposals in a row that are known already, a sampler has nothing new to say."""
PART = 500
"""Trials of the record that are learned at once: their front is computed once."""


class Sampler(Protocol):
    """Where proposals come from; `nas.sampling.Proposer` is one."""

    def rebuild(self, trials: Iterable[Trial]) -> None:
        """Learn the next part of the record."""

    def ask(self) -> tuple[int, Params, Mapping[str, Any]]:
        """The number of a new trial, its params, and what the sampler wants kept with it."""

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended."""

    def skips(self, trial: Trial) -> bool:
        """Whether it would rather train another network than this one, whose costs are measured
        now.
        """


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Nothing more will be proposed; `reason` says why."""

    reason: str


@dataclass(frozen=True)
class Wait:
    """Nothing can be proposed until a running trial ends."""


class SearchState:
    """The state machine of one study. `trials` is the record, in order of their numbers; `recall`
    reads from it one that has ended.
    """

    def __init__(
        self,
        *,
        spec: StudySpec,
        space: SearchSpace,
        sampler: Sampler,
        trials: Iterable[Trial],
        recall: Callable[[int], Trial],
    ) -> None:
        self.spec = spec
        self._space = space
        self._sampler = sampler
        self._recall = recall
        self._kept: dict[int, Trial] = {}  # running ones, and the members of the front
        self._first: dict[bytes, int] = {}
        self._running: set[int] = set()
        self._followers: dict[int, list[int]] = {}
        self._reached: defaultdict[int, dict[int, tuple[float, ...]]] = defaultdict(dict)
        self._curves: dict[int, Curve] = {}
        self._best: tuple[tuple[int, ...], NDArray[np.float64]] = (
            (),
            np.empty((0, 0)),
        )  # front's members, their losses
        self._repeats = 0
        self._finished = 0
        self._skipped = 0
        self._ended = Usage()
        self.known = 0
        self.failed = 0
        self.front = front([], spec.objectives)
        remaining = iter(trials)
        while part := list(islice(remaining, PART)):
            sampler.rebuild(part)
            self._settle([trial for trial in part if self._know(trial)])

    def trial(self, number: int) -> Trial:
        """A trial as it is recorded; one that has ended and is not on the front is read from the
        record.
        """
        return self._kept.get(number) or self._recall(number)

    def members(self) -> list[Trial]:
        """The members of the front in its order."""
        return [self._kept[number] for number in self.front.members]

    @property
    def running(self) -> list[Trial]:
        """The trials that somebody works on, duplicates not among them."""
        return [self._kept[number] for number in sorted(self._running)]

    def is_running(self, number: int) -> bool:
        """Whether somebody works on this trial, which is no duplicate."""
        return number in self._running

    @property
    def architectures(self) -> int:
        """How many different architectures were proposed."""
        return len(self._first)

    @property
    def counted(self) -> int:
        """How many of them `budget.trials` counts: all but those that ended on purpose before any
        training.
        """
        return self.architectures - self._skipped

    @property
    def done(self) -> int:
        """How many of the counted ones have ended."""
        return self._finished - self._skipped

    @property
    def spent(self) -> Usage:
        """What all trials took."""
        return sum((trial.evaluation.spent for trial in self.running), self._ended)

    @property
    def whose(self) -> str:
        """Whose limits end a search, in words."""
        return (
            f"the study's budget{' without what fresh seeds have of it' if self.spec.fresh else ''}"
        )

    def propose(self, now: datetime) -> Trial | Wait | Finished:
        """A new trial (a duplicate may have ended already), or why there is none. Not known until
        `learn`.
        """
        reason = self._spent()
        if reason:
            return Wait() if self._running else Finished(reason=reason)
        if self._repeats >= MAX_REPEATS:
            return (
                Wait()
                if self._running
                else Finished(
                    reason=f"the sampler {self.spec.sampler} proposed nothing new {MAX_REPEATS} times in a row"
                )
            )
        number, params, state = self._sampler.ask()
        architecture = self._space.decode(params)
        seed = trial_seed(self.spec.seed, architecture.digest)
        trial = Trial(
            number=number,
            params=params,
            architecture=architecture,
            seed=seed,
            sampler_state=state,
            started_at=now,
        )
        known = self._first.get(bytes.fromhex(architecture.digest))
        if known is None:
            return trial
        original = self.trial(known)
        trial = replace(trial, duplicate_of=known, evaluation=original.evaluation)
        if original.state is TrialState.RUNNING:
            return trial
        return trial.moved_to(original.state, reason=original.reason, finished_at=now)

    def judge(self, number: int, event: Event, now: datetime) -> Trial:
        """The trial after this event: still running, or ended and why."""
        trial = self._kept[number]
        trial = replace(
            trial,
            evaluation=trial.evaluation.with_usage(
                event.waiting_s, event.energy_j, measuring=isinstance(event, Measured)
            ),
        )
        if isinstance(event, Measured):
            evaluation = trial.evaluation.with_measurements(event.measurements, event.seconds)
            return self._measured(replace(trial, evaluation=evaluation), now)
        trial = replace(trial, evaluation=trial.evaluation.with_rung(event.rung))
        if len(trial.evaluation.rungs) >= len(self.spec.rungs):
            missing = [
                o.metric for o in self.spec.objectives if trial.evaluation.value(o.metric) is None
            ]
            if missing:
                reason = f"nobody gave a figure for {', '.join(missing)}"
                return trial.moved_to(TrialState.FAILED, reason=reason, finished_at=now)
            return trial.moved_to(TrialState.COMPLETE, finished_at=now)
        reason = self._hopeless(trial)
        return (
            trial.moved_to(TrialState.STOPPED, reason=reason, finished_at=now) if reason else trial
        )

    def fail(self, number: int, reason: str, now: datetime) -> Trial:
        """The trial as failed."""
        return self._kept[number].moved_to(TrialState.FAILED, reason=reason, finished_at=now)

    def followers(self, trial: Trial) -> list[Trial]:
        """The duplicates that waited for this ended trial, ended like it."""
        return [
            replace(self._kept[number], evaluation=trial.evaluation).moved_to(
                trial.state, reason=trial.reason, finished_at=trial.finished_at
            )
            for number in self._followers.get(trial.number, [])
        ]

    def front_with(self, trial: Trial) -> ParetoFront:
        """The front once this trial is known."""
        if trial.state is TrialState.RUNNING or trial.duplicate_of is not None:
            return self.front
        return self._front_of([trial])

    def learn(self, trial: Trial) -> None:
        """Take in a trial that is now recorded; the sampler is told if it ended."""
        if self._know(trial):
            self._settle([trial])
        if trial.state is not TrialState.RUNNING:
            self._sampler.tell(trial)

    def amend(self, trial: Trial) -> None:
        """Take in what was added to a member of the front; nothing was decided by it, so the
        sampler is not told.
        """
        self._kept[trial.number] = trial

    def _know(self, trial: Trial) -> bool:
        """Take in a trial; whether it is one that has to be settled, since it has ended and is no
        duplicate.
        """
        number, original, before = trial.number, trial.duplicate_of, self._kept.get(trial.number)
        running = trial.state is TrialState.RUNNING
        if before is None:
            self.known += 1
            self._repeats = 0 if original is None else self._repeats + 1
        self.failed += trial.state is TrialState.FAILED
        if running or original is None:
            self._kept[number] = trial
        else:
            self._kept.pop(number, None)
        if original is None:
            self._first.setdefault(bytes.fromhex(trial.architecture.digest), number)
            (self._running.add if running else self._running.discard)(number)
            self._note_rungs(trial, 0 if before is None else len(before.evaluation.rungs))
        elif running and before is None:
            self._followers.setdefault(original, []).append(number)
        elif not running:
            self._followers.pop(original, None)  # all of them end at once
        return original is None and not running

    def _settle(self, ended: Sequence[Trial]) -> None:
        """Count trials that have just ended, and forget those that are not on the front."""
        left, self.front = self.front.members, self._front_of(ended)
        for trial in ended:
            self._finished += 1
            self._skipped += trial.skipped
            self._ended += trial.evaluation.spent
        for number in {*left, *(trial.number for trial in ended)}.difference(self.front.members):
            del self._kept[number]

    def _front_of(self, ended: Sequence[Trial]) -> ParetoFront:
        """The front with these ended trials."""
        after = self._finished + len(ended)
        candidates = [trial for trial in ended if not self._beaten(trial)]
        if not candidates:
            return replace(self.front, after=after)
        return replace(front([*self.members(), *candidates], self.spec.objectives), after=after)

    def _beaten(self, trial: Trial) -> bool:
        """Whether an ended trial leaves a feasible front as it is, as most do; told without
        computing a front.
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
        if self._best[0] != self.front.members:
            self._best = (
                self.front.members,
                np.asarray([member.losses(objectives) for member in self.members()]),
            )
        return bool(dominators([losses], self._best[1])[0])

    def _spent(self) -> str:
        """Why no new architecture may be tried, or an empty string."""
        budget, spent = self.spec.search_budget, self.spent
        if self.counted >= budget.trials:
            return f"{budget.trials} architectures were tried, {self.whose}"
        if self.architectures >= self._space.cardinality:
            return f"all {self._space.cardinality} architectures of the space were tried"
        if self.architectures >= budget.max_proposals:
            return (
                f"{self.counted} of {self.architectures} proposed architectures are within the limits and promise "
                "enough to be trained; widen the limits, or raise budget.proposals"
            )
        for limit, used, unit in (
            (budget.epochs, spent.epochs, "epochs of training"),
            (budget.device_s, spent.device_s, "s of device time"),
            (budget.energy_j, spent.energy_j or 0.0, "J"),
        ):
            if limit is not None and used >= limit:
                return f"{used:.4g} of {limit:g} {unit} are spent, {self.whose}"
        return ""

    def _measured(self, trial: Trial, now: datetime) -> Trial:
        """Ended where a limit is violated, a figure is missing, nothing else is asked for, or
        another network promises more.
        """
        objectives = self.spec.objectives
        for objective in objectives:
            figure = trial.evaluation.measurements.get(objective.metric)
            if figure is not None and figure.value is None:
                reason = f"{objective.metric} is {figure.status}: {figure.reason}"
                return trial.moved_to(TrialState.FAILED, reason=reason, finished_at=now)
            if (
                figure is not None
                and figure.value is not None
                and objective.violation(figure.value) > 0
            ):
                unit = "" if figure.unit == "1" else f" {figure.unit}"
                reason = f"{objective.metric} {figure.value:g}{unit} is beyond the limit {objective.limit:g}{unit}"
                return trial.moved_to(TrialState.STOPPED, reason=reason, finished_at=now)
        if trial.losses(objectives) is not None and not self.spec.needs_training:
            return trial.moved_to(TrialState.COMPLETE, finished_at=now)
        figures = [trial.evaluation.measurements.get(objective.metric) for objective in objectives]
        sure = all(figure is None or figure.status is not Status.NOISY for figure in figures)
        if sure and not trial.evaluation.rungs and self._sampler.skips(trial):
            reason = "passed over: at its measured costs other networks promise more"
            return trial.moved_to(TrialState.STOPPED, reason=reason, finished_at=now)
        return trial

    def _hopeless(self, trial: Trial) -> str:
        """Why the trial is stopped at the rung that it has reached, or an empty string."""
        rules, reached = self.spec.stopping, trial.evaluation.rungs
        if exempt(trial.seed):
            return ""
        if rules.keep is not None and not self._goes_on(trial, len(reached)):
            return f"behind the others after {reached[-1].epochs:g} epochs"
        if rules.futility:
            rule = Futility(
                Curves.of_curves([self._curves[n] for n in sorted(self._curves)]), len(reached)
            )
            if rule.stops(
                [rung.error for rung in reached],
                costs_of(trial, self.spec.objectives),
                sizes_of(trial),
            ):
                return f"even at best dominated after {reached[-1].epochs:g} epochs"
        return ""

    def _goes_on(self, trial: Trial, rung: int) -> bool:
        """Whether the trial is among the best `keep` of the trials that reached this rung."""
        own = trial.losses(self.spec.objectives)
        others = [
            losses for number, losses in self._reached[rung].items() if number != trial.number
        ]
        return own is None or continues(
            [own, *others], 0, self.spec.stopping.keep or 1.0, self.spec.stopping.min_trials
        )

    def _note_rungs(self, trial: Trial, known: int) -> None:
        """Keep what the rules compare: the losses at the rungs beyond the first `known`, and the
        curve at the end.
        """
        if (
            self.spec.stopping.futility
            and (curve := curve_of(trial, self.spec.objectives)) is not None
        ):
            self._curves[trial.number] = curve
        if self.spec.stopping.keep is None:
            return
        for count in range(known + 1, len(trial.evaluation.rungs) + 1):
            rungs = trial.evaluation.rungs[:count]
            losses = replace(trial, evaluation=replace(trial.evaluation, rungs=rungs)).losses(
                self.spec.objectives
            )
            if losses is not None:
                self._reached[count][trial.number] = losses


def utc_now() -> datetime:
    """The current time, aware."""
    return datetime.now(UTC)
