"""A fixed list of tasks in the place of a search: for networks that are trained again after it."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from nas.core.study import StudySpec
from nas.core.tasks import AnyTask, Decision, Event
from nas.searching.state import Finished, Wait

T = TypeVar("T", bound=AnyTask)

Recorder = Callable[[T, Any], T | None]
"""Keeps what a worker found; gives what is left to do of the task, None where it is done."""


class TaskList(Generic[T]):
    """Hands out every task once, in order, to whoever works, as a search's engine does.

    `tasks` are numbered by their places. `failures` are the reasons of the tasks that failed, by
    number; nothing of them is recorded, so that the next call tries them again.
    """

    def __init__(self, *, spec: StudySpec, tasks: Sequence[T], record: Recorder[T]) -> None:
        self.spec = spec
        self.failures: dict[int, str] = {}
        self._tasks, self._record = list(tasks), record
        self._next = 0
        self._running: set[int] = set()

    @property
    def tasks(self) -> Sequence[T]:
        """All tasks, as far as they are done."""
        return self._tasks

    def propose(self) -> T | Wait | Finished:
        """The next task."""
        if self._next == len(self._tasks):
            return Wait() if self._running else Finished(reason=f"{len(self._tasks)} trainings")
        self._next += 1
        self._running.add(self._next - 1)
        return self._tasks[self._next - 1]

    def task(self, number: int) -> T:
        """What is left to do of a task."""
        return self._tasks[number]

    def begin(self, number: int, worker: str) -> None:
        """Nobody asks who works on a plan's tasks."""

    def report(self, number: int, event: Event) -> Decision:
        """Record what a worker found; whether it should go on. A worker may be late for a task that
        is over.
        """
        if number not in self._running:
            return Decision.END
        left = self._record(self._tasks[number], event)
        if left is None:
            self._running.discard(number)
            return Decision.END
        self._tasks[number] = left
        return Decision.CONTINUE

    def fail(self, number: int, reason: str) -> None:
        """Note that a task cannot be finished."""
        self._running.discard(number)
        self.failures[number] = reason
