"""Two or more processes on this machine: one trains while the others measure on devices elsewhere.

Each is a Python process that evaluates one task after the other. Tasks, events and decisions are
pickled through a socket. The process of the search asks the engine and records; it is never held up
by a training or a measurement.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from threading import Thread

from nas.core.errors import NasError, TrialFailedError
from nas.core.tasks import AnyTask, Decision, Event
from nas.searching.engine import TaskSource
from nas.searching.evaluators import StudyContext
from nas.searching.state import Finished, Wait
from workers.names import ANOTHER_SEARCH, evaluator_of

PROGRAM = "import sys; from workers.overlapped import serve; serve(int(sys.argv[1]))"
END_S = 5.0
"""Longest time in which an idle process ends by itself."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What ended a task: a `TrialFailedError`, another `NasError`, or None for anything else."""

    kind: type[NasError] | None
    text: str


class WorkerProcess:
    """A process that evaluates tasks for this one."""

    def __init__(self, context: StudyContext) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-c", PROGRAM, str(number)]
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, pass_fds=[number], env=environment, stdin=subprocess.DEVNULL
            )
        self.connection = Connection(ours.detach())
        self.connection.send(context)
        self.name = f"{socket.gethostname()}:{self._process.pid}"
        self.task: AnyTask | None = None

    def begin(self, task: AnyTask) -> None:
        """Begin a task."""
        self.task = task
        with suppress(OSError):  # a process that has died is noticed when its answer is read
            self.connection.send(task)

    def receive(self) -> Event | Failure:
        """Return the next event, or what ended the task."""
        try:
            answer: Event | Failure = self.connection.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            return Failure(kind=None, text=f"the worker process ended with code {code}")
        return answer

    def answer(self, decision: Decision) -> None:
        """Continue or end the task."""
        if decision is Decision.END:
            self.task = None
        with suppress(OSError):
            self.connection.send(decision)

    @property
    def lives(self) -> bool:
        """True if the process can take a task."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process. The result of an unfinished step is lost."""
        self.connection.close()
        if self.task is not None:
            self._process.kill()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Overlapped:
    """Runs a search with several processes."""

    def __init__(self, engine: TaskSource, context: StudyContext) -> None:
        self._engine, self._context = engine, context
        self._workers: list[WorkerProcess] = []
        self._attempts: Counter[int] = Counter()
        self._retries: list[int] = []
        """Numbers of tasks whose attempt failed."""

    def run(self, count: int) -> str:
        """Work with this many processes until the engine proposes nothing more.

        Returns the engine's reason. Raises the `NasError` of a process that is no failure of its
        trial.
        """
        try:
            self._workers += [WorkerProcess(self._context) for _ in range(count)]
            while True:
                reason = self._assign()
                busy = [worker for worker in self._workers if worker.task is not None]
                if not busy and reason is not None:
                    return reason
                if not busy:
                    raise NasError(ANOTHER_SEARCH)
                ready = wait([worker.connection for worker in busy])
                for worker in busy:
                    if worker.connection in ready:
                        self._receive(worker)
        finally:
            for worker in self._workers:
                worker.close()

    def _assign(self) -> str | None:
        """Give tasks to idle processes. Return the engine's reason if it proposes nothing more."""
        for index, worker in enumerate(self._workers):
            if worker.task is not None:
                continue
            if self._retries:
                task = self._engine.task(self._retries.pop(0))
            else:
                proposed = self._engine.propose()
                if isinstance(proposed, Finished):
                    return proposed.reason
                if isinstance(proposed, Wait):
                    return None
                task = proposed
            if not worker.lives:
                worker.close()
                self._workers[index] = WorkerProcess(self._context)
            self._engine.begin(task.number, self._workers[index].name)
            self._workers[index].begin(task)
        return None

    def _receive(self, worker: WorkerProcess) -> None:
        """Record what a process reports."""
        task, event = worker.task, worker.receive()
        if task is None:
            return
        if not isinstance(event, Failure):
            worker.answer(self._engine.report(task.number, event))
            return
        worker.task = None
        if event.kind is TrialFailedError:
            self._engine.fail(task.number, event.text)
            return
        if event.kind is NasError:
            raise NasError(event.text)
        worker.close()  # the error may have left the process unusable; another one takes its place
        self._attempts[task.number] += 1
        attempts = self._attempts[task.number]
        if attempts <= self._engine.spec.workers.retries:
            self._retries.append(task.number)
            return
        reason = f"{attempts} attempts failed, the last with: {event.text}"
        self._engine.fail(task.number, reason, unexpected=True)


def serve(number: int) -> None:
    """Evaluate tasks that come through this socket, until the other end closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the search, which ends this
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with (
        Connection(number) as connection,
        suppress(EOFError, BrokenPipeError),
        ExitStack() as stack,
    ):
        context = connection.recv()
        evaluator = None
        while True:
            task = connection.recv()
            try:
                evaluator = evaluator or stack.enter_context(evaluator_of(context))
                for event in evaluator.steps(task):
                    connection.send(event)
                    if connection.recv() is Decision.END:
                        break
                else:
                    text = f"trial {task.number}: the evaluator returned before the trial ended"
                    connection.send(Failure(kind=NasError, text=text))
            except (EOFError, BrokenPipeError):
                raise
            except TrialFailedError as error:
                connection.send(Failure(kind=TrialFailedError, text=str(error)))
            except NasError as error:
                connection.send(Failure(kind=NasError, text=str(error)))
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                connection.send(Failure(kind=None, text=f"{type(error).__name__}: {error}"))


def _end_with(parent: int) -> None:
    """End this process when the search is gone, which may be killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
