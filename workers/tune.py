"""Trials on a Ray cluster, through Ray Tune. The only module that imports Ray.

Tune runs trials, resources, retries and node loss; it decides and keeps nothing. Our Searcher hands
out the engine's tasks, our TrialScheduler gives every result to the engine and answers with its
decision, our Callback hands a task out again whose worker died, with what is known of it, so that
it goes on at its last rung, and records trials that failed for good. Tune's own snapshots are never
read; its folder is temporary. Its own retries are off: a death that it hears of twice, as happens,
ends them early (Ray 2.60).
"""

import logging
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000000")
os.environ.setdefault("TUNE_RESULT_BUFFER_LENGTH", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault(
    "RAY_worker_niceness", "0"
)  # Ray gives way to everybody by default; a measurement must not
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nas.core.errors import ClusterError, NasError, TrialFailedError
from nas.core.study import WorkersSpec
from nas.core.tasks import AnyTask, Decision
from nas.searching.engine import TaskSource
from nas.searching.evaluators import Evaluates, Preparation, StudyContext
from nas.searching.state import Finished, Wait
from workers.checkpoints import CheckpointClient, CheckpointServer
from workers.local import evaluator_class, worker_name

logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are recorded with their trials


NOT_CODE = ["*.db", "*.db-*", "*.lock", "*.safetensors", "*.onnx", "__pycache__"]
"""What of a study's folder is not sent to the nodes."""


class TuneWorkers:
    """Runs the tasks of one study on a Ray cluster: the one at `address`, or one of its own on this
    machine.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def prepare(self, context: StudyContext) -> Preparation:
        """Prepare the study on a worker of the cluster, with the resources that trials get."""
        self._connect(context)
        workers = context.spec.workers
        self._check_resources(workers)
        remote = ray.remote(num_cpus=workers.cpus, num_gpus=workers.gpus, max_calls=1)(_prepare)
        outcome: Preparation | NasError = ray.get(remote.remote(context, str(Path.cwd())))
        if isinstance(outcome, NasError):
            raise outcome
        return outcome

    def run(self, engine: TaskSource, context: StudyContext) -> str:
        """Work until the search is finished; returns why it is. Raises `KeyboardInterrupt` after
        Ctrl-C.
        """
        self._connect(context)
        workers = context.spec.workers
        errors = FirstNasError()
        searcher = EngineSearcher(engine, errors)
        folder = tempfile.mkdtemp(prefix="nas-tune-")
        try:
            tune.Tuner(
                tune.with_resources(Worker, {"cpu": workers.cpus, "gpu": workers.gpus}),
                param_space={
                    "context": context,
                    "checkpoint_server": self._checkpoint_server(context),
                    "place": str(Path.cwd()),
                },
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=EngineScheduler(engine, errors),
                    num_samples=-1,
                    max_concurrent_trials=workers.count,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="study",
                    storage_path=folder,
                    verbose=0,
                    callbacks=[RetryCallback(engine, searcher, errors), NoProgress()],
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        except (tune.TuneError, NasError) as error:
            raise errors.first or ClusterError(
                f"Ray Tune: {str(error).strip().splitlines()[-1]}"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not searcher.finished:  # Tune answers Ctrl-C by stopping and returning
            raise KeyboardInterrupt
        return searcher.finished

    def close(self) -> None:
        """Leave the cluster; one of our own is shut down."""
        ray.shutdown()

    def _connect(self, context: StudyContext) -> None:
        if ray.is_initialized():
            return
        runtime_env: dict[str, Any] = {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}}
        options: dict[str, Any] = {
            "address": "local",
            "include_dashboard": False,
        }  # else Ray joins any that it finds
        if self._address:
            _check_answers(self._address)
            runtime_env |= {"working_dir": context.folder, "excludes": NOT_CODE}
            options = {"address": self._address}
        try:
            ray.init(
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                runtime_env=runtime_env,
                **options,
            )
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            where = (
                f"the Ray cluster at {self._address}"
                if self._address
                else "a Ray cluster on this machine"
            )
            hint = (
                "; has this machine its token (ray get-auth-token)?"
                if isinstance(error, ConnectionError)
                else ""
            )
            raise ClusterError(
                f"cannot reach {where}: {str(error).splitlines()[0]}{hint}"
            ) from error

    def _checkpoint_server(self, context: StudyContext) -> Any:
        """Takes checkpoints from nodes that do not see the driver's folder; a cluster of our own
        has none.
        """
        if self._address is None or not context.spec.needs_training:
            return None
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return (
            ray.remote(CheckpointServer)
            .options(num_cpus=0, scheduling_strategy=here)
            .remote(context.artifacts)
        )

    @staticmethod
    def _check_resources(workers: WorkersSpec) -> None:
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        for name, wanted in (("CPU", workers.cpus), ("GPU", workers.gpus)):
            if wanted > there.get(name, 0):
                raise ClusterError(
                    f"a worker asks for {wanted:g} {name} and the whole cluster has "
                    f"{there.get(name, 0):g}; lower workers.{name.lower()}s"
                )


def _check_answers(address: str) -> None:
    """Ray tries for minutes where nobody listens; five seconds are enough to find out."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is for Ray's client; run nas search on a machine of the cluster, with --address "
            "HOST:PORT of its head (6379 where nobody chose another) or auto"
        )
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise ClusterError(
                f"cannot reach the Ray cluster at {address}: {error.strerror or error}"
            ) from error


def _settle(place: str) -> None:
    """Work in the folder that the search was started in, or at home on a machine that has no such
    folder: ./data is there. Not in Ray's copy of the study's folder, which Ray may delete while
    somebody works in it.
    """
    os.chdir(place if Path(place).is_dir() else Path.home())


def _prepare(context: StudyContext, place: str) -> Preparation | NasError:
    """Runs on a worker. An error of ours comes back as a value, so that its message is not wrapped
    in Ray's.
    """
    _settle(place)
    try:
        return evaluator_class(context).prepare(context)
    except NasError as error:
        return error


class Worker(tune.Trainable):
    """One warm process: keeps the evaluator (data, device, caches) and takes one task after the
    other.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first task."""
        self._evaluator: Evaluates | None = None
        self._checkpoint_client: CheckpointClient | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next task; Tune has just moved into a folder of the trial's."""
        _settle(new_config["place"])
        self._steps = self._work(**new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Who works, then one event, or the error that ended the work: as a value, so that its
        message is not wrapped in Ray's.
        """
        try:
            return next(self._steps)
        except StopIteration:
            return {"error": NasError("the evaluator ended before the trial was over")}
        except NasError as error:
            return {"error": error}

    def cleanup(self) -> None:
        """Let go of what a half-done task holds."""
        self._steps = iter(())

    def _work(
        self, *, context: StudyContext, checkpoint_server: Any, task: AnyTask, **_: Any
    ) -> Iterator[dict[str, Any]]:
        """The results of a task; the evaluator is built for the first one."""
        yield {"worker": worker_name()}
        if self._evaluator is None or self._checkpoint_client is None:
            self._checkpoint_client = CheckpointClient(
                context, None if checkpoint_server is None else partial(_ask, checkpoint_server)
            )
            self._evaluator = evaluator_class(context)(self._checkpoint_client.context)
        self._checkpoint_client.fetch(task)
        for event in self._evaluator.steps(task):
            self._checkpoint_client.deliver(event)
            yield {"event": event}


def _ask(checkpoint_server: Any, method: str, *arguments: Any) -> Any:
    return ray.get(getattr(checkpoint_server, method).remote(*arguments))


class _NotPickled:
    """Tune writes its parts into a snapshot that nobody reads; what holds the engine goes there
    empty.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}


class FirstNasError:
    """Tune hides exceptions in its own, so the first one of ours is kept here."""

    first: NasError | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is raised inside."""
        try:
            yield
        except NasError as error:
            self.first = self.first or error
            raise


class EngineSearcher(_NotPickled, Searcher):
    """Gives Tune the engine's tasks."""

    def __init__(self, engine: TaskSource, errors: FirstNasError) -> None:
        super().__init__()
        self._engine, self._errors = engine, errors
        self.finished = ""
        self.again: list[int] = []  # tasks whose worker died

    def suggest(self, trial_id: str) -> Any:
        """The next task as a trial's config, None to wait, or Tune's word for the end."""
        with self._errors.kept():
            task = self._engine.task(self.again.pop(0)) if self.again else self._engine.propose()
        if isinstance(task, Finished):
            self.finished = task.reason
            return Searcher.FINISHED
        return None if isinstance(task, Wait) else {"task": task}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """The scheduler has recorded it."""

    def save(self, checkpoint_path: str) -> None:
        """The database is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """The database is the record."""


class EngineScheduler(_NotPickled, FIFOScheduler):
    """Gives the engine every result and Tune the engine's decision. `TrialFailedError` fails the
    trial, any other error ends the search.
    """

    def __init__(self, engine: TaskSource, errors: FirstNasError) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._engine, self._errors = engine, errors

    def choose_trial_to_run(self, tune_controller: TuneController) -> TuneTrial | None:
        """The first that waits. Tune's own way looks at all trials there ever were, twice, at every
        step.
        """
        waiting = [
            trial
            for trial in tune_controller.get_live_trials()  # type: ignore[no-untyped-call]
            if trial.status == TuneTrial.PENDING
        ]
        return min(waiting, key=lambda trial: trial.config["task"].number, default=None)

    def on_trial_result(
        self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        """Record the event; go on or stop."""
        with self._errors.kept():
            decision = self._decide(trial.config["task"], result)
        return str(TrialScheduler.STOP if decision is Decision.END else TrialScheduler.CONTINUE)

    def on_trial_complete(
        self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]
    ) -> None:
        """It is recorded; Tune need not keep those that ended before it."""
        _forget(tune_controller)

    def _decide(self, task: AnyTask, result: Mapping[str, Any]) -> Decision:
        error: NasError | None = result.get("error")
        if isinstance(error, TrialFailedError):
            self._engine.fail(task.number, str(error))
            return Decision.END
        if error is not None:
            raise error
        if "worker" in result:
            self._engine.begin(task.number, result["worker"])
            return Decision.CONTINUE
        return self._engine.report(task.number, result["event"])


def _forget(controller: TuneController) -> None:
    """Have Tune let go of the trials that are over. It keeps 40 kB of each, and writes them all
    down at its end.
    """
    over = controller._stopped_trials | controller._failed_trials  # noqa: SLF001 - Tune has no way to forget
    controller._trials[:] = [trial for trial in controller._trials if trial not in over]  # noqa: SLF001
    for kept in (
        controller._live_trials,  # noqa: SLF001
        controller._trials_to_cache,  # noqa: SLF001
        controller._stopped_trials,  # noqa: SLF001
        controller._failed_trials,  # noqa: SLF001
    ):
        kept.difference_update(over)


class NoProgress(_NotPickled, TrialProgressCallback):
    """In the place of Tune's own callback, which prints nothing here and keeps every trial
    for it.
    """

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        """Nothing to print."""

    on_trial_error = on_trial_complete = on_trial_result


class RetryCallback(_NotPickled, tune.Callback):
    """Has the task of a worker that died, or raised something unforeseen, done again; records it as
    failed once that has happened more often than is retried.
    """

    def __init__(self, engine: TaskSource, searcher: EngineSearcher, errors: FirstNasError) -> None:
        self._engine, self._searcher, self._errors = engine, searcher, errors
        self._attempts: Counter[int] = Counter()

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Once more, or fail the trial with the last line of what went wrong; end the search where
        no worker came to life.
        """
        number = trial.config["task"].number
        self._attempts[number] += 1
        attempts, last = self._attempts[number], _last_error(trial)
        if attempts <= self._engine.spec.workers.retries:
            self._searcher.again.append(number)
            return
        with self._errors.kept():
            if NEVER_RAN in last:
                raise ClusterError(f"Ray started no worker in {attempts} attempts: {last}")
            self._engine.fail(number, f"{attempts} attempts failed, the last with: {last}")


NEVER_RAN = "The actor never ran"
"""Ray's words for a worker that died before it was one: no fault of the trial's."""


def _last_error(trial: TuneTrial) -> str:
    """The last line that Tune wrote about a trial's failures. `trial.get_error` reads a copy that
    comes too late.
    """
    written = Path(trial.error_file).read_text().strip() if trial.error_file else ""
    return written.splitlines()[-1] if written else "no message of Ray's"
