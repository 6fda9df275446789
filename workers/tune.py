"""Workers that run trials on a Ray cluster, through Ray Tune.

Tune schedules trials and resources and notices lost nodes; it decides and stores nothing.

* `EngineSearcher` proposes the engine's tasks.
* `EngineScheduler` gives every result to the engine, and returns the engine's decision to Tune.
* `RetryCallback` proposes a task again whose worker died, with its results so far, so that it
  resumes from its last rung. After too many deaths it records the trial as failed.

Tune's own snapshots are never read, and its folder is temporary. Its own retries are off, because
it sometimes reports one death twice and then ends them too early (Ray 2.60).
"""

import logging
import math
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000000")
os.environ.setdefault("TUNE_RESULT_BUFFER_LENGTH", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# By default Ray gives its workers a low priority, which would disturb measurements.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nas.agent.host import usable_cores
from nas.core.errors import ClusterError, NasError, TrialFailedError, first_line
from nas.core.study import WorkersSpec
from nas.core.tasks import AnyTask, Decision
from nas.searching.engine import TaskSource
from nas.searching.evaluators import Evaluates, Preparation, StudyContext, prepared_by
from nas.searching.state import Finished, Wait
from workers.checkpoints import CheckpointClient, CheckpointServer
from workers.names import evaluator_class, evaluator_of, worker_name

logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are recorded with their trials


CONNECT_TIMEOUT_S = 5
"""Seconds until a cluster must accept a connection."""
MAX_FOLDER_BYTES = 107 - len("/ray/session_2026-01-31_23-59-59_000000_4194304/sockets/plasma_store")
"""Longest path of a folder for temporary files in which Ray can open its sockets."""
EXCLUDED_FILES = ["*.db", "*.db-*", "*.lock", "*.safetensors", "*.onnx", "__pycache__"]
"""Files of a study's folder that are not sent to the nodes."""


class TuneWorkers:
    """Runs the tasks of one study on a Ray cluster, at `address` or a new one on this machine."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def prepare(self, context: StudyContext) -> Preparation:
        """Prepare the study on a worker of the cluster, with the resources that trials get.

        Raises `ClusterError` if no machine has them, or if the worker dies.
        """
        self._connect(context)
        workers = context.spec.workers
        self._check_resources(workers)
        remote = ray.remote(
            num_cpus=workers.cpus, num_gpus=workers.gpus, max_calls=1, max_retries=0
        )(_prepare)
        try:
            outcome: Preparation | NasError = ray.get(remote.remote(context, str(Path.cwd())))
        except RayTaskError:
            raise  # a bug
        except RayError as error:
            raise ClusterError(
                f"the study could not be prepared on the cluster: {first_line(error)}"
            ) from error
        if isinstance(outcome, NasError):
            raise outcome
        return outcome

    def run(self, engine: TaskSource, context: StudyContext) -> str:
        """Work until the search is finished, and return its reason.

        Raises `KeyboardInterrupt` after Ctrl-C.
        """
        self._connect(context)
        errors = FirstNasError()
        searcher = EngineSearcher(engine, errors)
        try:
            with tempfile.TemporaryDirectory(
                prefix="nas-tune-", ignore_cleanup_errors=True
            ) as folder:
                self._tuner(engine, context, folder, searcher, errors).fit()
        except (tune.TuneError, NasError, OSError) as error:
            problem = str(error).strip() or type(error).__name__
            raise errors.first or ClusterError(f"Ray Tune: {problem.splitlines()[-1]}") from error
        if not searcher.finished:  # after Ctrl-C Tune stops and returns
            raise KeyboardInterrupt
        return searcher.finished

    def _tuner(
        self,
        engine: TaskSource,
        context: StudyContext,
        folder: str,
        searcher: "EngineSearcher",
        errors: "FirstNasError",
    ) -> tune.Tuner:
        """Return what runs the tasks. Tune's own files go to this folder."""
        workers = context.spec.workers
        if self._address is None:
            workers = _fitting(workers)
        return tune.Tuner(
            tune.with_resources(Worker, _resources(workers, engine.measured_ahead)),
            param_space={
                "context": context,
                "checkpoint_server": self._checkpoint_server(context),
                "folder": str(Path.cwd()),
            },
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=EngineScheduler(engine, errors),
                num_samples=-1,
                max_concurrent_trials=workers.count + engine.measured_ahead,
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
        )

    def close(self) -> None:
        """Leave the cluster. A cluster that `prepare` or `run` started is shut down."""
        ray.shutdown()

    def _connect(self, context: StudyContext) -> None:
        if ray.is_initialized():
            return
        runtime_env: dict[str, Any] = {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}}
        # Without an address Ray joins any cluster that it finds.
        options: dict[str, Any] = {
            "address": "local",
            "include_dashboard": False,
            "num_cpus": usable_cores(),
            "_temp_dir": _short_folder(),
        }
        if self._address:
            _check_address(self._address)
            runtime_env |= {"working_dir": context.folder, "excludes": EXCLUDED_FILES}
            options = {"address": self._address}
        try:
            ray.init(
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                runtime_env=runtime_env,
                **options,
            )
        except Exception as error:  # Ray raises plain exceptions and those of the system too
            problem = first_line(error)
            if not self._address:
                raise ClusterError(
                    f"cannot start a Ray cluster on this machine: {problem}"
                ) from error
            if isinstance(error, ConnectionError):
                problem += "; does this machine have its token (ray get-auth-token)?"
            raise ClusterError(
                f"cannot reach the Ray cluster at {self._address}: {problem}"
            ) from error

    def _checkpoint_server(self, context: StudyContext) -> Any:
        """Start the server of checkpoints on the driver's machine, for nodes without access to its
        folder. A cluster on this machine needs none.
        """
        if self._address is None or not context.spec.needs_training:
            return None
        return beside_the_driver(CheckpointServer, context.artifacts)

    @staticmethod
    def _check_resources(workers: WorkersSpec) -> None:
        """Raise `ClusterError` if no machine has a worker's resources. Ray would wait for one."""
        if not places_for(workers):
            machines = sorted({(each.get("CPU", 0), each.get("GPU", 0)) for each in _machines()})
            have = ", ".join(f"{cpus:g} CPU and {gpus:g} GPU" for cpus, gpus in machines)
            raise ClusterError(
                f"a worker needs {workers.cpus:g} CPU and {workers.gpus:g} GPU of one machine, and "
                f"the machines of the cluster have: {have}; lower workers.cpus or workers.gpus"
            )


def _fitting(workers: WorkersSpec) -> WorkersSpec:
    """Return these workers, at most as many as this machine has resources for. The others would
    hold trials on which nobody works.
    """
    return replace(workers, count=max(min(workers.count, places_for(workers)), 1))


def places_for(workers: WorkersSpec) -> int:
    """Return how many of these workers the machines of the cluster have resources for. A share of a
    GPU is one of the same GPU.
    """
    shares = {"CPU": workers.cpus, "GPU": workers.gpus}
    return sum(
        min(_fits(have.get(name, 0), share) for name, share in shares.items() if share)
        for have in _machines()
    )


def _fits(units: float, share: float) -> int:
    return int(units) * int(1 / share + 1e-9) if share < 1 else int(units / share)


def _machines() -> list[dict[str, float]]:
    """Return the resources of each machine of the cluster."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def beside_the_driver(kind: type, *arguments: Any) -> Any:
    """Start an actor of this class on the driver's machine, which takes none of its resources."""
    node = ray.get_runtime_context().get_node_id()
    on_this_node = NodeAffinitySchedulingStrategy(node, soft=False)
    actor: Any = ray.remote(kind)
    return actor.options(num_cpus=0, scheduling_strategy=on_this_node).remote(*arguments)


def _resources(workers: WorkersSpec, ahead: int) -> dict[str, float]:
    """Return the resources of a worker.

    `ahead` workers that measure elsewhere share the resources of those that train. All of them have
    the same resources, since Tune ends idle workers whose resources no waiting trial has.
    """
    if not ahead:
        return {"cpu": workers.cpus, "gpu": workers.gpus}
    at_once = workers.count + ahead
    num_gpus = max(math.floor(workers.count * workers.gpus), 1)
    return {
        "cpu": workers.cpus * workers.count / at_once,
        "gpu": workers.gpus and 1 / math.ceil(at_once / num_gpus),
    }


def _short_folder() -> str | None:
    """Return a folder for Ray's files if the paths of its sockets would be too long in the folder
    for temporary files, else None.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or ""
    if len(os.fsencode(folder)) <= MAX_FOLDER_BYTES:
        return None
    return f"/tmp/ray-{os.getuid()}"  # noqa: S108 - Ray's own default is /tmp/ray


def _check_address(address: str) -> None:
    """Raise `ClusterError` if nothing listens at the address. Ray itself would try for minutes."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is for Ray's client; run nas search on a machine of the cluster, with "
            "--address HOST:PORT of its head (port 6379 by default) or --address auto"
        )
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise ClusterError(
                f"cannot reach the Ray cluster at {address}: {error.strerror or error}"
            ) from error


def change_folder(folder: str) -> None:
    """Change to the folder in which the search was started, where ./data is, or to the home folder
    on a machine without it. Ray's copy of the study's folder may be deleted during the work.
    """
    os.chdir(folder if Path(folder).is_dir() else Path.home())


def _prepare(context: StudyContext, folder: str) -> Preparation | NasError:
    """Prepare the study on a worker. A `NasError` is returned, so that Ray does not wrap it."""
    change_folder(folder)
    try:
        return prepared_by(evaluator_class(context), context)
    except NasError as error:
        return error


class Worker(tune.Trainable):
    """A process that does one task after the other with one evaluator, and its data and device."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first task."""
        self._evaluator: Evaluates | None = None
        self._at_the_end = ExitStack()
        self._checkpoint_client: CheckpointClient | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next task. Tune has just changed to a folder of the trial."""
        change_folder(new_config["folder"])
        self._steps = self._work(**new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Return the worker's name first, then one event at each call, or the error that ended the
        work, so that Ray does not wrap it.
        """
        try:
            return next(self._steps)
        except StopIteration:
            return {"error": NasError("the evaluator returned before the trial ended")}
        except NasError as error:
            return {"error": error}

    def cleanup(self) -> None:
        """Release the resources of an unfinished task, and those of the evaluator."""
        self._steps = iter(())
        self._at_the_end.close()

    def _work(
        self, *, context: StudyContext, checkpoint_server: Any, task: AnyTask, **_: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the results of a task. The evaluator is built for the first one."""
        yield {"worker": worker_name()}
        if self._evaluator is None or self._checkpoint_client is None:
            self._checkpoint_client = checkpoint_client(context, checkpoint_server)
            self._evaluator = self._at_the_end.enter_context(
                evaluator_of(self._checkpoint_client.context)
            )
        self._checkpoint_client.fetch(task)
        for event in self._evaluator.steps(task):
            self._checkpoint_client.deliver(task, event)
            yield {"event": event}


def ask(actor: Any, method: str, *arguments: Any) -> Any:
    """Call a method of an actor, and wait for what it returns."""
    return ray.get(getattr(actor, method).remote(*arguments))


def checkpoint_client(context: StudyContext, checkpoint_server: Any) -> CheckpointClient:
    """Return what transfers the checkpoints of a worker. Without a server it has access."""
    return CheckpointClient(
        context, None if checkpoint_server is None else partial(ask, checkpoint_server)
    )


class _NotPickled:
    """Base of objects that refer to the engine. They are empty in Tune's snapshot, which is never
    read.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}


class FirstNasError:
    """The first `NasError` of a run, because Tune hides exceptions in its own ones."""

    first: NasError | None = None

    @contextmanager
    def stored(self) -> Iterator[None]:
        """Store the first error that is raised in the `with` block."""
        try:
            yield
        except NasError as error:
            self.first = self.first or error
            raise


class EngineSearcher(_NotPickled, Searcher):
    """Proposes the engine's tasks to Tune."""

    def __init__(self, engine: TaskSource, errors: FirstNasError) -> None:
        super().__init__()
        self._engine, self._errors = engine, errors
        self.finished = ""
        self.retries: list[int] = []
        """Numbers of tasks whose worker died."""

    def suggest(self, trial_id: str) -> Any:
        """Return the next task as a trial's config, None to wait, or Tune's `FINISHED`."""
        with self._errors.stored():
            task = self._next_task()
        if isinstance(task, Finished):
            self.finished = task.reason
            return Searcher.FINISHED
        return None if isinstance(task, Wait) else {"task": task}

    def _next_task(self) -> AnyTask | Wait | Finished:
        if self.retries:
            return self._engine.task(self.retries.pop(0))
        return self._engine.propose()

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the scheduler has recorded it."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the database is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the database is the record."""


class EngineScheduler(_NotPickled, FIFOScheduler):
    """Gives every result to the engine, and the engine's decision to Tune.

    `TrialFailedError` fails the trial. Any other error ends the search.
    """

    def __init__(self, engine: TaskSource, errors: FirstNasError) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._engine, self._errors = engine, errors

    def choose_trial_to_run(self, tune_controller: TuneController) -> TuneTrial | None:
        """Return the first waiting trial. Tune's own method examines all trials, also ended ones,
        twice at every step.
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
        """Record the event, and continue or stop."""
        with self._errors.stored():
            decision = self._decide(trial.config["task"], result)
        return str(TrialScheduler.STOP if decision is Decision.END else TrialScheduler.CONTINUE)

    def on_trial_complete(
        self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]
    ) -> None:
        """Make Tune forget the trials that ended before this one."""
        _forget_ended_trials(tune_controller)

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


def _forget_ended_trials(controller: TuneController) -> None:
    """Remove ended trials from Tune, which stores 40 kB of each and writes all of them at its
    end.
    """
    ended = controller._stopped_trials | controller._failed_trials  # noqa: SLF001 - Tune has no way to forget
    controller._trials[:] = [trial for trial in controller._trials if trial not in ended]  # noqa: SLF001
    for trials in (
        controller._live_trials,  # noqa: SLF001
        controller._trials_to_cache,  # noqa: SLF001
        controller._stopped_trials,  # noqa: SLF001
        controller._failed_trials,  # noqa: SLF001
    ):
        trials.difference_update(ended)


class NoProgress(_NotPickled, TrialProgressCallback):
    """Replaces Tune's own callback, which stores every trial although it prints nothing here."""

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        """Print nothing."""

    on_trial_error = on_trial_complete = on_trial_result


class RetryCallback(_NotPickled, tune.Callback):
    """Proposes a task again if its worker died or raised an unexpected exception.

    After `workers.retries` repetitions it records the task as failed.
    """

    def __init__(self, engine: TaskSource, searcher: EngineSearcher, errors: FirstNasError) -> None:
        self._engine, self._searcher, self._errors = engine, searcher, errors
        self._attempts: Counter[int] = Counter()

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Propose the task again, or fail it with the last line of its last error.

        Raises `ClusterError`, which ends the search, if no worker could be started.
        """
        number = trial.config["task"].number
        self._attempts[number] += 1
        attempts, error = self._attempts[number], _last_error(trial)
        if attempts <= self._engine.spec.workers.retries:
            self._searcher.retries.append(number)
            return
        with self._errors.stored():
            if ACTOR_NEVER_RAN in error:
                raise ClusterError(f"Ray started no worker in {attempts} attempts: {error}")
            reason = f"{attempts} attempts failed, the last with: {error}"
            self._engine.fail(number, reason, unexpected=True)


ACTOR_NEVER_RAN = "The actor never ran"
"""Ray's message about a worker that died before it began to work, for which no trial is to blame.
"""


def _last_error(trial: TuneTrial) -> str:
    """Return the last line that Tune wrote about a trial's failures. `trial.get_error` reads a
    copy, which is written too late.
    """
    text = Path(trial.error_file).read_text(encoding="utf-8").strip() if trial.error_file else ""
    return text.splitlines()[-1] if text else "no message from Ray"
