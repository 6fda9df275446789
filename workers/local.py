"""Workers in this process, which run one trial after the other: for laptops and tests."""

from nas.agent.host import usable_cores
from nas.core.errors import NasError, TrialFailedError
from nas.core.tasks import AnyTask, Decision
from nas.searching.engine import TaskSource
from nas.searching.evaluators import Evaluates, Preparation, StudyContext, prepared_by
from nas.searching.state import Finished, Wait
from workers.names import ANOTHER_SEARCH, evaluator_class, evaluator_of, worker_name
from workers.overlapped import Overlapped


class LocalWorkers:
    """Runs every task in this process.

    `TrialFailedError` fails its trial. Any other `NasError` ends the search, and the next call
    resumes the trial. Any other exception, such as a mistake in a plugin, fails its trial after
    `workers.retries`.
    """

    def __init__(self, address: str | None = None) -> None:
        if address:
            raise NasError(
                f"local workers take no address, but {address!r} was given; use --workers tune"
            )

    def prepare(self, context: StudyContext) -> Preparation:
        """Prepare the study in this process.

        Raises `NasError` if the process has fewer cores than `workers.cpus`.
        """
        cpus, cores = context.spec.workers.cpus, usable_cores()
        if cpus > cores:
            raise NasError(
                f"a worker needs {cpus} CPU and this process has {cores}; lower workers.cpus"
            )
        return prepared_by(evaluator_class(context), context)

    def run(self, engine: TaskSource, context: StudyContext) -> str:
        """Work until the search is finished, and return its reason.

        If devices elsewhere measure the next trials meanwhile, each has a process of its own, and
        so does the training.
        """
        if engine.measured_ahead:
            return Overlapped(engine, context).run(1 + engine.measured_ahead)
        with evaluator_of(context) as evaluator:
            while not isinstance(task := engine.propose(), Finished):
                if isinstance(task, Wait):
                    raise NasError(ANOTHER_SEARCH)
                engine.begin(task.number, worker_name())
                self._work_with_retries(engine, evaluator, task)
            return task.reason

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    @staticmethod
    def _work(engine: TaskSource, evaluator: Evaluates, task: AnyTask) -> None:
        try:
            for event in evaluator.steps(task):
                if engine.report(task.number, event) is Decision.END:
                    return
        except TrialFailedError as error:
            engine.fail(task.number, str(error))
            return
        raise NasError(f"trial {task.number}: the evaluator returned before the trial ended")

    def _work_with_retries(self, engine: TaskSource, evaluator: Evaluates, task: AnyTask) -> None:
        for attempt in range(1, engine.spec.workers.retries + 2):
            try:
                self._work(engine, evaluator, task)
            except NasError:
                raise
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                reason = (
                    f"{attempt} attempts failed, the last with: {type(error).__name__}: {error}"
                )
                task = engine.task(task.number)
            else:
                return
        engine.fail(task.number, reason, unexpected=True)
