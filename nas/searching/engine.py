"""The engine joins the search state to the record: it commits every decision before it is used.

Workers call `propose`, `report` and `fail`. Listeners are called after each commit. An engine is
not safe for several threads at once.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from nas.core.complexity import totals
from nas.core.errors import NasError, next_command
from nas.core.measurement import Kind, Measurement, Status
from nas.core.pareto import ParetoFront
from nas.core.study import StudySpec
from nas.core.tasks import AnyTask, Decision, Event, Measured, OutOfTime, Result, Task, Trained
from nas.core.trial import Rung, Trial, TrialState
from nas.core.units import format_duration
from nas.searching.pace import Pace
from nas.searching.state import Finished, SearchState, Wait, utc_now

OVERRUN = 0.05
"""Share of the time budget by which a training may overrun it to reach its rung."""
MAX_POSTPONED = 3
"""Number of trials that wait for a quiet device before the search begins no other one."""
MAX_CONTENDED = 90
"""Number of contended measurements in a row after which the search ends; an hour by default."""
MAX_UNEXPECTED = 5
"""Number of trials in a row that fail by unexpected errors, after which the search ends."""
CLOCK_GAP_S = 1.0
"""Seconds by which the two clocks drift apart only if the machine was suspended or its wall clock
was set.
"""


class Record(Protocol):
    """The methods of the database that the engine calls; `nas.record.Store` has them."""

    def transaction(self) -> AbstractContextManager[object]:
        """Commit everything that is written in the `with` block, or nothing."""

    def add_trial(self, study: str, trial: Trial) -> None:
        """Record a new trial."""

    def add_measurements(
        self, study: str, number: int, measurements: Sequence[Measurement], seconds: float
    ) -> None:
        """Record figures of a trial, and the seconds that they took."""

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
        """Record the waiting time and the energies of the work on a trial."""

    def add_rung(self, study: str, number: int, rung: Rung) -> None:
        """Record a rung that a trial reached."""

    def finish_trial(self, study: str, trial: Trial) -> None:
        """Record the end of a trial, or the worker and the start of a running one."""

    def add_front(self, study: str, front: ParetoFront) -> None:
        """Record the current front."""


class TaskSource(Protocol):
    """A source of tasks for workers: the `Engine` of a search, or a fixed `TaskList`."""

    @property
    def spec(self) -> StudySpec:
        """The study."""

    @property
    def measured_ahead(self) -> int:
        """How many tasks are measured elsewhere while `workers.count` others train."""

    def propose(self) -> AnyTask | Wait | Finished:
        """Return the next task for a worker."""

    def task(self, number: int) -> AnyTask:
        """Return a task with its results so far."""

    def begin(self, number: int, worker: str) -> None:
        """Note that this worker begins to work on a task."""

    def report(self, number: int, event: Event) -> Decision:
        """Record a result, and return whether its worker continues with the task."""

    def fail(self, number: int, reason: str, *, unexpected: bool = False) -> None:
        """Record that a task cannot be finished. `unexpected` says that no `TrialFailedError` is
        the reason, but any other exception or the end of a process.
        """


Listener = Callable[[Trial], None]
"""Called with every trial that has just been recorded."""


class Engine:
    """Runs one study: proposes tasks, and records their results.

    Trials that an earlier call left running are proposed first, with their results so far.
    `spent_s` are the seconds of searching of earlier calls.

    `now` is the wall clock, for the times in the record. `steady_s` measures the time of searching.
    It stops while the machine is suspended, and it is never set.

    Two kinds of trials stay running although no worker has them. A trial is paused if a budget was
    spent when it reached a rung, or if it is not expected to reach the next one in the remaining
    time, or did not: it resumes in a later call with a larger budget. A trial whose figures were
    contended is postponed: it is measured again when the device is quiet.

    After `overlap`, a trial is two tasks: one worker measures it elsewhere, and then waits until
    fewer than `workers.count` networks train. Meanwhile the next trials are measured.
    """

    def __init__(
        self,
        *,
        state: SearchState,
        record: Record,
        spent_s: float = 0.0,
        now: Callable[[], datetime] = utc_now,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = state
        self._record = record
        self.listeners: Sequence[Listener] = ()
        self._now, self._steady_s = now, steady_s
        self._wall_ahead_s = self._wall_clock_ahead_s()
        self._interrupted = [trial.number for trial in state.running]
        self._paused: set[int] = set()
        self._postponed: list[int] = []
        self._begun_before = set(self._interrupted)
        self._ahead = 0
        self._measuring: set[int] = set()
        """With `overlap`: trials that a worker measures."""
        self._training: set[int] = set()
        """With `overlap`: trials that a worker trains."""
        self._measured: list[int] = []
        """With `overlap`: trials that wait for a training."""
        self._measured_at_s: dict[int, float] = {}
        """When they began to wait, by the steady clock."""
        self._waited_s: dict[int, float] = {}
        """Seconds for which trials waited for a training or a quiet device, without a worker."""
        self._num_contended = 0
        self._num_unexpected = 0
        self._spent_s = spent_s
        self._started_s = steady_s()
        self._stop_reason: str | None = None
        self._paces = [Pace() for _ in state.spec.rungs]
        for trial in state.last_trained:
            for pace, seconds in zip(self._paces, _rung_seconds(trial), strict=False):
                pace.add(self._macs(trial), seconds)

    @property
    def spec(self) -> StudySpec:
        """The study."""
        return self.state.spec

    @property
    def measured_ahead(self) -> int:
        """How many trials are measured elsewhere while others train."""
        return self._ahead

    def propose(self) -> Task | Wait | Finished:
        """Return the next task, which is recorded as running. Duplicates that the sampler proposes
        before it are recorded too.
        """
        self._follow_wall_clock()
        while self._continues():
            if self._ahead and (task := self._overlapped()) is not None:
                return task
            if self._stop_reason is not None:
                break
            unfinished = self._next_unfinished()
            proposed = None if unfinished else self.state.propose(self._now())
            if not isinstance(proposed, Trial):
                unfinished = unfinished or self._postponed
                if proposed is not None and not unfinished:
                    return self._end(proposed.reason)
                number = unfinished.pop(0)
                if self._fits(self.state.trial(number)):
                    return self._measure(self._resume(number))
                self._paused.add(number)
                continue
            if not self._fits(proposed):
                self._stop_for_time()
                break
            self._record.add_trial(self.spec.name, proposed)
            self._learn(proposed)
            if proposed.duplicate_of is None:
                return self._measure(self.task(proposed.number))
        return self._end(self._stop_reason or "")

    def _end(self, reason: str) -> Wait | Finished:
        """Return that nothing more is proposed, or `Wait` while a worker has a trial."""
        idle = [self._interrupted, self._paused, self._postponed, self._measured]
        if len(self.state.running) > sum(map(len, idle)):
            return Wait()
        return Finished(reason=f"{reason}{self._unfinished()}")

    def _continues(self) -> bool:
        """Return whether the search continues. It stops if a budget is spent."""
        if self._stop_reason is None and (spent := self._spent()):
            self.stop(spent)
        return self._stop_reason is None

    def overlap(self) -> None:
        """Measure trials elsewhere while others train, if the study measures elsewhere."""
        self._ahead = self.spec.measured_ahead
        if self._ahead:
            running = self.state.running
            self._measured = [each.number for each in running if is_measured(self.spec, each)]
            self._interrupted = [n for n in self._interrupted if n not in self._measured]

    def _overlapped(self) -> Task | Wait | None:
        """Return the training that comes before any measurement, or `Wait` if the device must wait;
        None if a trial is to be measured, or if the search stops.
        """
        count = self.spec.workers.count
        if self._measured and len(self._training) < count:
            number = self._measured[0]
            if not self._fits(self.state.trial(number)):
                self._stop_for_time()
                return None
            self._training.add(self._measured.pop(0))
            if (since_s := self._measured_at_s.pop(number, None)) is not None:
                self._add_waiting(number, self._steady_s() - since_s)
            return self._resume(number) if number in self._begun_before else self.task(number)
        full = len(self._measuring) >= self._ahead or len(self._measured) >= count
        return Wait() if full else None

    def _add_waiting(self, number: int, seconds: float) -> float:
        """Take in for how long a trial waited without a worker, and return it; at least 0."""
        waited_s = max(seconds, 0.0)
        self._waited_s[number] = self._waited_s.get(number, 0.0) + waited_s
        return waited_s

    def _measure(self, task: Task) -> Task:
        """Note that a worker measures this trial."""
        if self._ahead:
            self._measuring.add(task.number)
        return task

    def _stop_for_time(self) -> None:
        self.stop(
            f"the remaining {self._remaining_s():.3g} s are too short to train another network; "
            f"{self.state.limit_name('wall_time_s')} is {self._time_limit_s():g} s"
        )

    def _spent(self) -> str:
        """Return which budget is spent, so that no trial begins or resumes, or an empty string."""
        if self._remaining_s() <= 0:
            limit = self.state.limit_name("wall_time_s")
            return f"{self._time_limit_s():g} s of searching have passed, {limit}"
        if spent := self.state.spent_resources():
            return spent
        if self._num_contended >= MAX_CONTENDED:
            return (
                f"{self._num_contended} measurements in a row failed, because other programs used "
                "the device"
            )
        return ""

    def _next_unfinished(self) -> list[int]:
        """Return the unfinished trials of which the first comes before a new one.

        Postponed trials do if the device is quiet, or if so many wait for it that another one
        would only wait too.
        """
        if self._interrupted:
            return self._interrupted
        quiet = not self._num_contended
        return self._postponed if quiet or len(self._postponed) >= MAX_POSTPONED else []

    def _unfinished(self) -> str:
        """Return how many trials wait for a later call, in words."""
        paused = len(self._paused) + len(self._interrupted) + len(self._measured)
        resumes = f"; unfinished networks, which a larger budget resumes: {paused}"
        repeats = f"; networks that the same command measures again: {len(self._postponed)}"
        return f"{resumes if paused else ''}{repeats if self._postponed else ''}"

    def stop(self, reason: str) -> None:
        """Propose nothing more. Trials at work continue to their ends."""
        self._stop_reason = reason

    def task(self, number: int) -> Task:
        """Return a running trial as a task. Figures without a value, for which the trial failed
        before, are measured again.
        """
        trial = self.state.trial(number)
        return Task(
            number=number,
            architecture=trial.architecture,
            seed=trial.seed,
            evaluation=trial.evaluation.usable(),
            remaining_s=self._remaining_s() + OVERRUN * self._time_limit_s(),
        )

    def set_clock(self, elapsed_s: float) -> None:
        """Let the searching time continue from this value, after work that is no searching."""
        self._spent_s, self._started_s = elapsed_s, self._steady_s()

    def _time_limit_s(self) -> float:
        """Return the seconds of searching in all calls; infinity without a limit."""
        limit_s = self.spec.search_budget.wall_time_s
        return math.inf if limit_s is None else limit_s

    def _remaining_s(self) -> float:
        return self._time_limit_s() - self.elapsed_s()

    def _fits(self, trial: Trial) -> bool:
        """Return whether a network is expected to reach its next rung in the remaining time.

        The first three networks of a study are always tried, and so is one that has all its rungs
        and lacks a figure.
        """
        if trial.duplicate_of is not None or len(trial.evaluation.rungs) >= len(self._paces):
            return True
        rungs, spent = trial.evaluation.rungs, trial.evaluation.spent
        expected_s = self._paces[len(rungs)].expected_s(self._macs(trial))
        waited_s = spent.waiting_s - self._waited_s.get(trial.number, 0.0)
        done_s = 0.0 if rungs else spent.device_s + waited_s
        return expected_s is None or expected_s - done_s <= self._remaining_s()

    def _macs(self, trial: Trial) -> float:
        size = self.spec.measurement.image_size
        return totals(trial.architecture, image_size=size, num_classes=1)["macs"]

    def begin(self, number: int, worker: str) -> None:
        """Record the worker of a running trial."""
        if self.state.is_running(number):
            self._record_progress(replace(self.state.trial(number), worker=worker))

    def report(self, number: int, event: Event) -> Decision:
        """Record a result, and return whether its worker continues with the trial.

        A trial that has ended stays as it is, because a worker may be late. A rung without a
        trained objective, or with an impossible value, fails its trial and is not recorded.
        """
        self._follow_wall_clock()
        decision = self._reported(number, event)
        if decision is Decision.END:
            self._release(number)
        elif number in self._measuring and is_measured(self.spec, self.state.trial(number)):
            self._release(number)
            self._measured.append(number)
            self._measured_at_s[number] = self._steady_s()
            self._record_progress(replace(self.state.trial(number), worker=""))
            return Decision.END
        return decision

    def _release(self, number: int) -> None:
        """Note that no worker has this trial."""
        self._measuring.discard(number)
        self._training.discard(number)

    def _reported(self, number: int, event: Event) -> Decision:
        """Record a result, and return whether its trial continues."""
        if not self.state.is_running(number):
            return Decision.END
        if isinstance(event, OutOfTime):
            self._add_effort(number, event)
            self._paused.add(number)
            return Decision.END
        if isinstance(event, Trained) and (problem := self.spec.rung_problem(event.rung.metrics)):
            self.fail(number, problem)
            return Decision.END
        self._paused.discard(number)
        if contended(event):
            self._num_contended += 1
        elif isinstance(event, Measured) and any(
            figure.kind is not Kind.COUNTED for figure in event.measurements
        ):
            self._num_contended = 0
        trial = self.state.judge(number, event, self._now())
        self._commit(trial, event)
        if isinstance(event, Trained):
            self._add_pace(trial, event)
        if trial.state is not TrialState.RUNNING:
            return Decision.END
        if contended(event):
            self._postponed.append(number)
        elif self._spent() or (isinstance(event, Trained) and not self._fits(trial)):
            self._paused.add(number)
        else:
            return Decision.CONTINUE
        return Decision.END

    def _add_pace(self, trial: Trial, event: Trained) -> None:
        """Take in the seconds in which a trial reached its last rung."""
        rungs = trial.evaluation.rungs
        if len(rungs) == 1:
            lasted_s = (self._now() - trial.started_at).total_seconds()
            seconds = lasted_s - self._waited_s.pop(trial.number, 0.0)
        else:
            seconds = event.waiting_s + _seconds_of(rungs[-1])
        self._paces[len(rungs) - 1].add(self._macs(trial), seconds)

    @property
    def waits_for(self) -> str:
        """For how long the search waits for a quiet device, in words."""
        remaining_s = self._remaining_s()
        if math.isfinite(remaining_s):
            return f"for at most {format_duration(max(remaining_s, 0.0))} of searching"
        return f"at most {MAX_CONTENDED - self._num_contended} more times"

    def fail(self, number: int, reason: str, *, unexpected: bool = False) -> None:
        """Record that a trial cannot be finished, unless it has ended.

        Raises `NasError`, which ends the search, if this and the last trials that were not skipped
        failed unexpectedly: the process or its device may be broken, and every other trial would
        fail too.
        """
        self._follow_wall_clock()
        self._release(number)
        if not self.state.is_running(number):
            return
        self._commit(self.state.fail(number, reason, self._now()))
        self._num_unexpected = self._num_unexpected + 1 if unexpected else 0
        if self._num_unexpected >= MAX_UNEXPECTED:
            retry = next_command("study", "retry", self.spec.name)
            raise NasError(
                f"{self._num_unexpected} networks in a row failed unexpectedly, trial {number}: "
                f"{reason.splitlines()[0]}; the study's code or the device may be at fault: "
                f"correct it, then {retry}, and search again"
            )

    def add_figures(self, events: Mapping[int, Measured]) -> None:
        """Record figures of members of the front, by trial. No decision depends on them."""
        with self._record.transaction():
            for number, event in events.items():
                self._record.add_measurements(
                    self.spec.name, number, event.measurements, event.seconds
                )
                self._add_effort(number, event)
        for number, event in events.items():
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
        """Return the seconds of searching of all calls of the study."""
        return self._spent_s + self._steady_s() - self._started_s

    def _wall_clock_ahead_s(self) -> float:
        return self._now().timestamp() - self._steady_s()

    def _follow_wall_clock(self) -> None:
        """If the machine was suspended or its wall clock was set, move the start of this call's
        trials by as much, because that is no time of searching.
        """
        ahead_s = self._wall_clock_ahead_s()
        gap_s = ahead_s - self._wall_ahead_s
        if abs(gap_s) < CLOCK_GAP_S:
            return
        self._wall_ahead_s = ahead_s
        for trial in self.state.running:
            if trial.number not in self._begun_before:
                begin = trial.started_at + timedelta(seconds=gap_s)
                self._record_progress(replace(trial, started_at=begin))

    def _resume(self, number: int) -> Task:
        """Return an unfinished trial. If an earlier call left it, its start is moved by the pause,
        which is no time of searching. Otherwise it has waited for a quiet device since.
        """
        trial = self.state.trial(number)
        spent = trial.evaluation.spent
        begin = self._now() - timedelta(seconds=spent.device_s + spent.waiting_s)
        if number in self._begun_before:
            self._begun_before.remove(number)
            trial = replace(trial, started_at=begin)
        else:
            waited_s = self._add_waiting(number, (begin - trial.started_at).total_seconds())
            self._record.add_effort(self.spec.name, number, waited_s, None, measuring=True)
            evaluation = trial.evaluation.with_usage(waited_s, None, measuring=True)
            trial = replace(trial, evaluation=evaluation)
        self._record_progress(replace(trial, worker=""))
        return self.task(number)

    def _record_progress(self, trial: Trial) -> None:
        """Record the worker and the times of a running trial."""
        self._record.finish_trial(self.spec.name, trial)
        self._learn(trial)

    def _commit(self, trial: Trial, event: Result | None = None) -> None:
        """Record the event, the trial and its duplicates if it has ended, and the front if it has
        changed.
        """
        study, state = self.spec.name, self.state
        ended = trial.state is not TrialState.RUNNING
        changed = [trial, *state.followers(trial)] if ended else [trial]
        front = state.front_with(trial)
        if ended and trial.state is not TrialState.FAILED and not trial.skipped:
            self._num_unexpected = 0
        with self._record.transaction():
            if isinstance(event, Measured):
                self._record.add_measurements(
                    study, trial.number, event.measurements, event.seconds
                )
            elif event is not None:
                self._record.add_rung(study, trial.number, event.rung)
            if event is not None:
                self._add_effort(trial.number, event)
            for each in changed if ended else []:
                self._record.finish_trial(study, each)
            if front.members != state.front.members or front.hypervolume != state.front.hypervolume:
                self._record.add_front(study, front)
        for each in changed:
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


def is_measured(spec: StudySpec, trial: Trial | Task) -> bool:
    """Return whether only the training of a trial is missing."""
    values = [trial.evaluation.value(o.key) for o in spec.measured_objectives]
    return None not in values


def contended(event: Event) -> bool:
    """Return whether the event has a figure that could not be taken beside other processes."""
    return isinstance(event, Measured) and any(
        figure.status is Status.CONTENDED for figure in event.measurements
    )


def _rung_seconds(trial: Trial) -> list[float]:
    """Return the seconds that led to each rung of a recorded trial, with the measuring in those of
    the first. Waiting is left out, since it may have been for a quiet device, without a worker.
    """
    spent, later = trial.evaluation.spent, trial.evaluation.rungs[1:]
    later_s = [_seconds_of(rung) for rung in later]
    return [spent.device_s - sum(later_s), *later_s]


def _seconds_of(rung: Rung) -> float:
    """Return the seconds of training and validating that are recorded of a rung."""
    return (rung.train_s or 0.0) + (rung.validation_s or 0.0)
