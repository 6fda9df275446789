"""Workers that train one network on several devices together, through Ray Train.

Ray Train starts a process for each device and connects them. If one dies, it starts all of them
again, and they resume from the last checkpoint. The first process reports to the driver.
"""

import math
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

# Each process sees its own GPU only, as the workers of a search do.
os.environ.setdefault("TRAIN_ENABLE_SHARE_CUDA_VISIBLE_DEVICES", "0")

from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchTrainer

from nas.core.errors import ClusterError, NasError, TrialFailedError, first_line
from nas.core.study import WorkersSpec
from nas.core.tasks import AnyTask, Decision, Event
from nas.searching.engine import TaskSource
from nas.searching.evaluators import Preparation, StudyContext
from nas.searching.state import Finished, Wait
from workers.names import ANOTHER_SEARCH, evaluator_of, worker_name
from workers.tune import (
    TuneWorkers,
    ask,
    beside_the_driver,
    change_folder,
    checkpoint_client,
    places_for,
)

POLL_S = 0.2
"""Seconds between two looks at the reports of a training."""


class TrainWorkers(TuneWorkers):
    """Runs final trainings one after the other, each on `workers.count` devices of a Ray cluster:
    whole GPUs if the study's workers have a share of one, and processes of `workers.cpus` threads
    without.
    """

    def prepare(self, context: StudyContext) -> Preparation:
        """Prepare the study on a worker of the cluster.

        Raises `ClusterError` if the cluster has too few devices, or if the worker dies.
        """
        self._connect(context)
        workers = _whole(context.spec.workers)
        if (places := places_for(workers)) < workers.count:
            raise ClusterError(
                f"there are {workers.count} devices to train on, each with {workers.cpus} CPU and "
                f"{workers.gpus:g} GPU, and the cluster has resources for {places}; lower "
                "--devices or the study's workers.cpus"
            )
        return super().prepare(context)

    def run(self, engine: TaskSource, context: StudyContext) -> str:
        """Train until all is done, and return the reason."""
        self._connect(context)
        checkpoint_server = self._checkpoint_server(context)
        while not isinstance(task := engine.propose(), Finished):
            if isinstance(task, Wait):
                raise NasError(ANOTHER_SEARCH)
            engine.begin(task.number, worker_name())
            self._train(engine, context, task, checkpoint_server)
        return task.reason

    @staticmethod
    def _train(
        engine: TaskSource, context: StudyContext, task: AnyTask, checkpoint_server: Any
    ) -> None:
        """Train one network, and give the engine what the processes report.

        Raises the first `NasError` of a process, except for `TrialFailedError`.
        """
        workers = _whole(context.spec.workers)
        reports = beside_the_driver(Reports)
        settings = {
            "context": context,
            "task": task,
            "folder": str(Path.cwd()),
            "reports": reports,
            "checkpoint_server": checkpoint_server,
        }
        pool = ThreadPoolExecutor(1)
        with tempfile.TemporaryDirectory(prefix="nas-train-", ignore_cleanup_errors=True) as folder:
            trainer = TorchTrainer(
                _train,
                train_loop_config=settings,
                scaling_config=ScalingConfig(
                    num_workers=workers.count,
                    use_gpu=workers.gpus > 0,
                    resources_per_worker={"CPU": workers.cpus},
                ),
                run_config=RunConfig(
                    name="final",
                    storage_path=folder,
                    failure_config=FailureConfig(max_failures=workers.retries),
                ),
            )
            try:
                _follow(pool.submit(trainer.fit), reports, engine, task)
            finally:
                pool.shutdown(wait=False)


def _follow(fit: Future[Any], reports: Any, engine: TaskSource, task: AnyTask) -> None:
    """Give the reports to the engine until the training has ended."""
    is_done = ended = False
    while not ended:
        wait([fit], POLL_S)
        ended = fit.done()  # before the last reports are taken
        for report in ask(reports, "take"):
            if isinstance(report, TrialFailedError):
                engine.fail(task.number, str(report))
                is_done = True
            elif isinstance(report, NasError):
                raise report
            else:
                is_done |= engine.report(task.number, report) is Decision.END
    if not is_done:
        error = fit.exception()
        problem = first_line(error) if error else "the training returned before its end"
        engine.fail(task.number, f"all attempts failed, the last with: {problem}", unexpected=True)


class Reports:
    """What the processes of a training report, in a process on the driver's machine."""

    def __init__(self) -> None:
        self._waiting: list[Event | NasError] = []
        self._has_failed = False

    def put(self, report: Event | NasError) -> None:
        """Keep a report until it is taken."""
        self._waiting.append(report)
        self._has_failed |= isinstance(report, NasError)

    def take(self) -> list[Event | NasError]:
        """Return the reports that were not taken yet."""
        taken, self._waiting = self._waiting, []
        return taken

    def has_failed(self) -> bool:
        """Return whether a process reported an error that another attempt would repeat."""
        return self._has_failed


def _train(settings: dict[str, Any]) -> None:
    """Train in one of the processes. Ray Train calls it again in new ones if one of them died."""
    task = settings["task"]
    report: Callable[[Any], Any] = partial(ask, settings["reports"], "put")
    if ask(settings["reports"], "has_failed"):
        return
    change_folder(settings["folder"])
    try:
        client = checkpoint_client(settings["context"], settings["checkpoint_server"])
        with evaluator_of(client.context) as evaluator:
            client.fetch(task)
            for event in evaluator.steps(task):
                if get_context().get_world_rank() == 0:
                    client.deliver(task, event)
                    report(event)
    except NasError as error:
        report(error)
        raise  # so that Ray Train ends the other processes, which wait for this one


def _whole(workers: WorkersSpec) -> WorkersSpec:
    """Return these workers with whole GPUs: two processes on one GPU cannot be connected."""
    return replace(workers, gpus=math.ceil(workers.gpus))
