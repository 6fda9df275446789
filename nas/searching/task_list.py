"""A fixed list of tasks instead of a search, for networks that are trained again after it."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from nas.core.study import StudySpec
from nas.core.tasks import AnyTask, Decision, Event
from nas.searching.state import Finished, Wait

T = TypeVar("T", bound=AnyTask)

Recorder = Callable[[T, Any], T | None]
"""Records a worker's event, and returns the task with its results so far, None if it is done."""


class TaskList(Generic[T]):
    """Proposes every task once, in order. Nothing is measured ahead.

    The number of a task is its place in `tasks`. `failures` are the reasons of the tasks that
    failed, by number. They are not recorded, so that the next call tries these tasks again.
    """

    measured_ahead = 0

    def __init__(self, *, spec: StudySpec, tasks: Sequence[T], record: Recorder[T]) -> None:
        self.spec = spec
        self.failures: dict[int, str] = {}
        self._tasks, self._record = list(tasks), record
        self._next = 0
        self._running: set[int] = set()

    @property
    def tasks(self) -> Sequence[T]:
        """All tasks with their results so far."""
        return self._tasks

    def propose(self) -> T | Wait | Finished:
        """Return the next task."""
        if self._next == len(self._tasks):
            return Wait() if self._running else Finished(reason=f"{len(self._tasks)} trainings")
        self._next += 1
        self._running.add(self._next - 1)
        return self._tasks[self._next - 1]

    def task(self, number: int) -> T:
        """Return a task with its results so far."""
        return self._tasks[number]

    def begin(self, number: int, worker: str) -> None:
        """Do nothing: the workers of these tasks are not recorded."""

    def report(self, number: int, event: Event) -> Decision:
        """Record an event, and return whether the worker continues with the task.

        A worker may be late. Events of a task that has ended are dropped.
        """
        if number not in self._running:
            return Decision.END
        remaining = self._record(self._tasks[number], event)
        if remaining is None:
            self._running.discard(number)
            return Decision.END
        self._tasks[number] = remaining
        return Decision.CONTINUE

    def fail(self, number: int, reason: str, *, unexpected: bool = False) -> None:
        """Note that a task cannot be finished."""
        self._running.discard(number)
        self.failures[number] = reason
