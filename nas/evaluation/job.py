"""What a worker has to know of a study, and the contract of whoever evaluates architectures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nas.study import StudySpec
from nas.task import Event, Task


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What was found where the trials will run, before the study starts; recorded with it and pinned.

    `dataset` is the data set really used (the fallback's name where it had to be), `classes` how many it has,
    `numerics` the number formats that training uses with the figures they were chosen by.
    """

    dataset: str
    classes: int
    numerics: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """A study as its workers see it.

    `artifacts` is the folder of checkpoints, `folder` the study file's folder (on the import path of workers),
    `evaluator` the `module:attribute` of the evaluator class, `preparation` is None until the study is prepared.
    """

    spec: StudySpec
    artifacts: str
    folder: str
    evaluator: str = "nas.evaluation.evaluator:Evaluator"
    preparation: Preparation | None = None


class Evaluates(Protocol):
    """An evaluator is built once per worker process and then given one task after the other."""

    @classmethod
    def prepare(cls, job: Job) -> Preparation:
        """Find the data, check what this machine can measure, choose the number formats.

        Raises a `NasError` that says what to change where the study cannot run here.
        """

    def __init__(self, job: Job) -> None: ...

    def steps(self, task: Task) -> Iterator[Event]:
        """Measure, then train rung by rung, skipping what `task.evaluation` has. Raises `TrialFailedError`."""
