"""The state joined to the record: every decision is committed before anybody acts on it.

Workers call `propose`, `report` and `fail`; listeners are told after each commit. Not for several
threads at once.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from nas.core.complexity import totals
from nas.core.measurement import Measurement
from nas.core.pareto import ParetoFront
from nas.core.study import StudySpec
from nas.core.tasks import AnyTask, Decision, Event, Measured, Task, Trained
from nas.core.trial import Rung, Trial, TrialState
from nas.searching.state import Finished, SearchState, Wait, utc_now


class Record(Protocol):
    """What the engine needs of the database; `nas.record.Store` is one."""

    def transaction(self) -> AbstractContextManager[object]:
        """All that is written inside is kept together or not at all."""

    def add_trial(self, study: str, trial: Trial) -> None:
        """Keep a new trial."""

    def add_measurements(
        self, study: str, number: int, measurements: Sequence[Measurement], seconds: float
    ) -> None:
        """Keep the figures of a trial."""

    def add_effort(
        self,
        study: str,
        number: int,
        waiting_s: float,
        energy_j: float | None,
        *,
        measuring: bool,
        engine_j: float | None = None,
    ) -> None:
        """Keep what the work on a trial took besides its own seconds."""

    def add_rung(self, study: str, number: int, rung: Rung) -> None:
        """Keep a rung that a trial reached."""

    def finish_trial(self, study: str, trial: Trial) -> None:
        """Keep how a trial ended, or of a running one who works on it and since when."""

    def add_front(self, study: str, front: ParetoFront) -> None:
        """Keep the front as it is now."""


class TaskSource(Protocol):
    """Who tells workers what to do; `Engine` is one, a fixed `nas.searching.task_list.TaskList`
    another.
    """

    @property
    def spec(self) -> StudySpec:
        """The study."""

    def propose(self) -> AnyTask | Wait | Finished:
        """The next task for a worker."""

    def task(self, number: int) -> AnyTask:
        """What is left to do of a task."""

    def begin(self, number: int, worker: str) -> None:
        """Take that this worker works on a task from now on."""

    def report(self, number: int, event: Event) -> Decision:
        """Take what a worker found; whether it should go on."""

    def fail(self, number: int, reason: str) -> None:
        """Take that a task cannot be finished."""


MIN_PACES = 3
"""Trained networks from which the time of the next one is estimated."""
Listener = Callable[[Trial], None]
"""Called with every trial that has just been recorded."""


class Engine:
    """Runs one study: hands out tasks, records what comes back.

    Trials that a former call left running are handed out first, with what is known of them.
    `spent_s` are the seconds of searching of former calls.
    """

    def __init__(
        self,
        *,
        state: SearchState,
        record: Record,
        spent_s: float = 0.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.state = state
        self._record = record
        self.listeners: Sequence[Listener] = ()
        self._now = now
        self._interrupted = [trial.number for trial in state.running]
        self._spent_s = spent_s
        self._started = now()
        self._stopped: str | None = None
        self._pace: list[float] = []

    @property
    def spec(self) -> StudySpec:
        """The study."""
        return self.state.spec

    def propose(self) -> Task | Wait | Finished:
        """The next task, recorded as running; duplicates on the way to it are recorded too."""
        if self._stopped is not None:
            at_work = len(self.state.running) - len(self._interrupted)
            return Wait() if at_work else Finished(reason=self._stopped)
        if self._interrupted:
            return self._resumed(self._interrupted.pop(0))
        while True:
            limit = self.spec.search_budget.wall_time_s
            if limit is not None and self.elapsed_s() >= limit:
                return (
                    Wait()
                    if self.state.running
                    else Finished(reason=f"{limit:g} s of searching are spent, {self.state.whose}")
                )
            proposed = self.state.propose(self._now())
            if not isinstance(proposed, Trial):
                return proposed
            if limit is not None and not self._fits(proposed, limit - self.elapsed_s()):
                self.stop(
                    f"{self.elapsed_s():.4g} of {limit:g} s of searching are spent, and the next "
                    f"network would not reach its first rung in the rest, {self.state.whose}"
                )
                return self.propose()
            self._record.add_trial(self.spec.name, proposed)
            self._learn(proposed)
            if proposed.duplicate_of is None:
                return self.task(proposed.number)

    def stop(self, reason: str) -> None:
        """Propose nothing more; trials at work go on to their ends."""
        self._stopped = reason

    def task(self, number: int) -> Task:
        """What is left to do of a running trial. Figures without a value, for which it once failed,
        are measured again.
        """
        trial = self.state.trial(number)
        known = {
            name: figure
            for name, figure in trial.evaluation.measurements.items()
            if figure.value is not None
        }
        return Task(
            number=number,
            architecture=trial.architecture,
            seed=trial.seed,
            evaluation=replace(trial.evaluation, measurements=known),
        )

    def _fits(self, trial: Trial, left_s: float) -> bool:
        """Whether a new network is expected to reach its first rung in this time.

        The estimate is the median of the seconds per MAC of this call's trials; before three of
        them every network is tried.
        """
        if trial.duplicate_of is not None or len(self._pace) < MIN_PACES:
            return True
        return statistics.median(self._pace) * self._macs(trial) <= left_s

    def _macs(self, trial: Trial) -> float:
        size = self.spec.measurement.image_size
        return totals(trial.architecture, image_size=size, num_classes=1)["macs"]

    def begin(self, number: int, worker: str) -> None:
        """Record who works on a running trial."""
        if self.state.is_running(number):
            self._note(replace(self.state.trial(number), worker=worker))

    def report(self, number: int, event: Event) -> Decision:
        """Record what a worker found; whether it should go on with the trial.

        A trial that is over stays as it is: a worker may be late.
        """
        if not self.state.is_running(number):
            return Decision.END
        trial = self.state.judge(number, event, self._now())
        self._commit(trial, event)
        if isinstance(event, Trained) and len(trial.evaluation.rungs) == 1:
            macs = self._macs(trial)
            self._pace.append((self._now() - trial.started_at).total_seconds() / macs)
        return Decision.CONTINUE if trial.state is TrialState.RUNNING else Decision.END

    def fail(self, number: int, reason: str) -> None:
        """Record that a trial cannot be finished, unless it is over."""
        if self.state.is_running(number):
            self._commit(self.state.fail(number, reason, self._now()))

    def add_figures(self, found: Mapping[int, Measured]) -> None:
        """Record figures of members of the front, by number, on which no decision depends."""
        with self._record.transaction():
            for number, event in found.items():
                self._record.add_measurements(
                    self.spec.name, number, event.measurements, event.seconds
                )
                self._add_effort(number, event)
        for number, event in found.items():
            trial = self.state.trial(number)
            self.state.amend(
                replace(
                    trial,
                    evaluation=trial.evaluation.with_measurements(
                        event.measurements, event.seconds
                    ).with_usage(event.waiting_s, event.energy_j, measuring=True),
                )
            )

    def elapsed_s(self) -> float:
        """Seconds of searching, all calls of the study together."""
        return self._spent_s + (self._now() - self._started).total_seconds()

    def _resumed(self, number: int) -> Task:
        """A trial that a former call left running, as if it had begun later: the pause is no time
        of searching.
        """
        trial = self.state.trial(number)
        spent = trial.evaluation.spent
        worked = timedelta(seconds=spent.device_s + spent.waiting_s)
        self._note(replace(trial, worker="", started_at=self._now() - worked))
        return self.task(number)

    def _note(self, trial: Trial) -> None:
        """Record what changed of a running trial besides its evaluation."""
        self._record.finish_trial(self.spec.name, trial)
        self._learn(trial)

    def _commit(self, trial: Trial, event: Event | None = None) -> None:
        """Record the event, the trial if it ended, the duplicates that waited for it, and the front
        if it moved.
        """
        study = self.spec.name
        ended = (
            [trial, *self.state.followers(trial)] if trial.state is not TrialState.RUNNING else []
        )
        front = self.state.front_with(trial)
        with self._record.transaction():
            if isinstance(event, Measured):
                self._record.add_measurements(
                    study, trial.number, event.measurements, event.seconds
                )
            elif event is not None:
                self._record.add_rung(study, trial.number, event.rung)
            if event is not None:
                self._add_effort(trial.number, event)
            for each in ended:
                self._record.finish_trial(study, each)
            if (front.members, front.hypervolume) != (
                self.state.front.members,
                self.state.front.hypervolume,
            ):
                self._record.add_front(study, front)
        for each in ended or [trial]:
            self._learn(each)

    def _add_effort(self, number: int, event: Event) -> None:
        if event.waiting_s or event.energy_j is not None or event.engine_j is not None:
            self._record.add_effort(
                self.spec.name,
                number,
                event.waiting_s,
                event.energy_j,
                measuring=isinstance(event, Measured),
                engine_j=event.engine_j,
            )

    def _learn(self, trial: Trial) -> None:
        self.state.learn(trial)
        for listener in self.listeners:
            listener(trial)
