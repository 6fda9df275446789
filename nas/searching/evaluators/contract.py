"""The study as its workers see it, and the contract of evaluators."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from nas.core.study import DataSpec, StudySpec
from nas.core.tasks import Event


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The data and the device of a study, found where its trials will run.

    It is recorded when the study begins and fixed from then on.

    `data` is the data that is used, which may be the fallback. `classes` are its names in the order
    of the labels. `mean` and `std` are those of the training pixels per channel, scaled to [0, 1],
    and `image_size` is the side of the images in pixels. `numerics` are the number formats of
    training with the timings by which they were chosen. `device` is the measured device. `files`
    are digests of the data's files by part and class, which are computed at every start.
    """

    data: DataSpec
    classes: tuple[str, ...]
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    image_size: int = 32
    numerics: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    runtime: str = ""
    """The runtime that measures if the study's is `auto`; eager if the evaluator names none."""
    files: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the preparation that `to_dict` wrote."""
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

    `artifacts` is the folder of checkpoints. `folder` is that of the study file, which is on the
    import path of workers. `evaluator` names the evaluator class as `module:attribute`.
    `preparation` is None until the study is prepared.
    """

    spec: StudySpec
    artifacts: str
    folder: str
    evaluator: str = "nas.searching.evaluators.classification.evaluator:Evaluator"
    preparation: Preparation | None = None


class Evaluates(Protocol):
    """An evaluator, built once in each worker process, which does one task after the other."""

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Find the data, check that this machine can measure the metrics, and choose the number
        formats. If the context has a preparation, because the study resumes, only check that it
        still holds.

        Raises a `NasError` that says what to change if the study cannot run here.
        """

    def __init__(self, context: StudyContext) -> None: ...

    def steps(self, task: Any) -> Iterator[Event]:
        """Do a task, and yield an event for each result.

        A search's task is a `Task`: measure, then train rung by rung, without the results that
        `task.evaluation` has. Raises `TrialFailedError`.
        """
