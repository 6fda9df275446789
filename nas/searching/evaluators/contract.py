"""What a worker has to know of a study, and the contract of whoever evaluates architectures."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from nas.core.study import DataSpec, StudySpec
from nas.core.tasks import Event


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What was found where the trials will run, before the study starts; recorded with it and
    pinned.

    `data` is what is really used (the fallback where it had to be); `classes` are its names in the
    order of the labels, `mean` and `std` its training pixels' per channel, scaled to [0, 1],
    `image_size` their size; `numerics` are the number formats of training with the figures they
    were chosen by, `device` is what measures. `files` are digests of the data's files, by part and
    class; they are looked up again whenever a study resumes.
    """

    data: DataSpec
    classes: tuple[str, ...]
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    image_size: int = 32
    numerics: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The preparation that `to_dict` wrote."""
        lists = {name: tuple(values[name]) for name in ("classes", "mean", "std", "warnings")}
        return cls(**{**values, **lists, "data": DataSpec(**values["data"])})


@dataclass(frozen=True, kw_only=True)
class EvaluatorPlugin:
    """The classes that do the work of one kind of study, each as `module:attribute`.

    `search` evaluates trials, `certify` measures the members of a front together, `replicate`
    trains with new seeds, `final` trains fully. Registered in the group `nas.evaluators`. Each
    class has the interface `Evaluates`.
    """

    search: str
    certify: str
    replicate: str
    final: str


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """A study as its workers see it.

    `artifacts` is the folder of checkpoints, `folder` the study file's folder (on the import path
    of workers), `evaluator` the `module:attribute` of the evaluator class, `preparation` is None
    until the study is prepared.
    """

    spec: StudySpec
    artifacts: str
    folder: str
    evaluator: str = "nas.searching.evaluators.classification.evaluator:Evaluator"
    preparation: Preparation | None = None


class Evaluates(Protocol):
    """An evaluator is built once per worker process and then given one task after the other."""

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Find the data, check what this machine can measure, choose the number formats; where the
        context has a preparation already (a study that goes on), keep to it and only check that it
        still holds.

        Raises a `NasError` that says what to change where the study cannot run here.
        """

    def __init__(self, context: StudyContext) -> None: ...

    def steps(self, task: Any) -> Iterator[Event]:
        """Do a task; the search's are `Task`: measure, then train rung by rung, skipping what
        `task.evaluation` has. Raises `TrialFailedError`.
        """
