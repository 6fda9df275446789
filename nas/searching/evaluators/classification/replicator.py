"""The evaluator of replicates: it trains and validates as the search does, with the task's seed."""

from collections.abc import Iterator
from dataclasses import replace

from nas.core.errors import NasError
from nas.core.preparation import Preparation
from nas.core.tasks import Event, Task
from nas.data import file_digests, resolve
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.evaluators.contract import StudyContext


def recorded_preparation(context: StudyContext) -> Preparation:
    """Return the preparation of the study's search. Raises `NasError` if there was none."""
    if context.preparation is None:
        raise NasError(
            f"study {context.spec.name!r} was never prepared: search it before replicates"
        )
    return context.preparation


class Replicator(Evaluator):
    """Trains with the images, the recipe and the number formats of the search; measures nothing."""

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Find or download the study's data. Raises `DataNotFoundError`."""
        prepared = recorded_preparation(context)
        resolution = resolve(prepared.data)
        return replace(prepared, files=file_digests(resolution.spec))

    def steps(self, task: Task) -> Iterator[Event]:
        """Train rung by rung, without the rungs that `task.evaluation` has."""
        yield from self._train(task)

    def _checkpoint_folder(self, task: Task) -> str:
        """Return a folder beside the checkpoints of the trial itself."""
        return f"{super()._checkpoint_folder(task)}/seed-{task.seed}"
