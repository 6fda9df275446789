"""The evaluator of replicates: trains and judges as the search does, with the task's seed, and
measures nothing.
"""

from collections.abc import Iterator
from dataclasses import replace

from nas.core.errors import NasError
from nas.core.tasks import Event, Task
from nas.data import file_digests, resolve
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.evaluators.contract import Preparation, StudyContext


class Replicator(Evaluator):
    """Same images, same recipe, same number formats as in the search."""

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """See to it that the study's data is here. Raises `DataNotFoundError`."""
        if context.preparation is None:
            raise NasError(
                f"study {context.spec.name!r} was never prepared, so there is nothing to train again"
            )
        resolution = resolve(context.preparation.data)
        return replace(context.preparation, files=file_digests(resolution.spec))

    def steps(self, task: Task) -> Iterator[Event]:
        """Train rung by rung, skipping what `task.evaluation` has."""
        yield from self._trained(task)

    def _place(self, task: Task) -> str:
        """Beside the checkpoints of the trial itself."""
        return f"{super()._place(task)}/seed-{task.seed}"
