"""Trials in this process, one after the other: for laptops, debugging and tests."""

import os
import socket

from nas.core import plugins
from nas.core.errors import NasError, TrialFailedError
from nas.core.tasks import AnyTask, Decision
from nas.measuring.meters.host import affinity
from nas.searching.engine import TaskSource
from nas.searching.evaluators import Evaluates, Preparation, StudyContext
from nas.searching.state import Finished, Wait


class LocalWorkers:
    """Runs every task here. `TrialFailedError` fails its trial; any other error of ours ends the
    search, and the trial goes on with the next call. What is unforeseen, as a mistake in a plugin,
    fails its trial after `workers.retries`.
    """

    def __init__(self, address: str | None = None) -> None:
        if address:
            raise NasError(
                f"local workers take no address, but {address!r} was given; use --workers tune"
            )

    def prepare(self, context: StudyContext) -> Preparation:
        """Prepare the study in this process. Raises `NasError` where it has fewer cores than are
        asked for.
        """
        asked, cores = context.spec.workers.cpus, len(affinity())
        if asked > cores:
            raise NasError(
                f"a worker asks for {asked} CPU and this process has {cores}; lower workers.cpus"
            )
        return evaluator_class(context).prepare(context)

    def run(self, engine: TaskSource, context: StudyContext) -> str:
        """Work until the search is finished; returns why it is."""
        evaluator = evaluator_class(context)(context)
        while True:
            task = engine.propose()
            if isinstance(task, Finished):
                return task.reason
            if isinstance(task, Wait):
                raise NasError(
                    "a trial is running elsewhere and none here: is another search at work on this study?"
                )
            engine.begin(task.number, worker_name())
            self._retried(engine, evaluator, task)

    def close(self) -> None:
        """Nothing to let go of."""

    @staticmethod
    def _work(engine: TaskSource, evaluator: Evaluates, task: AnyTask) -> None:
        try:
            for event in evaluator.steps(task):
                if engine.report(task.number, event) is Decision.END:
                    return
        except TrialFailedError as error:
            engine.fail(task.number, str(error))
            return
        raise NasError(f"trial {task.number}: the evaluator ended before the trial was over")

    def _retried(self, engine: TaskSource, evaluator: Evaluates, task: AnyTask) -> None:
        for attempt in range(1, engine.spec.workers.retries + 2):
            try:
                self._work(engine, evaluator, task)
            except NasError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a plugin does wrong
                failed = (
                    f"{attempt} attempts failed, the last with: {type(error).__name__}: {error}"
                )
                task = engine.task(task.number)
            else:
                return
        engine.fail(task.number, failed)


def worker_name() -> str:
    """This process as the record names it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def evaluator_class(context: StudyContext) -> type[Evaluates]:
    """The context's evaluator, with the study's folder on the import path."""
    plugins.add_import_folder(context.folder)
    found: type[Evaluates] = plugins.load("evaluators", context.evaluator)
    return found
