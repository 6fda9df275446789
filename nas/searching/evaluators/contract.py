"""The study as its workers see it, and the contract of evaluators."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from nas.core.errors import foreign_code
from nas.core.preparation import Preparation
from nas.core.recipe import Recipe
from nas.core.study import ERROR, StudySpec, TrainedMetric
from nas.core.tasks import Event


class EvaluatorSettings(Protocol):
    """Settings of an evaluator: a frozen dataclass of plain values, checked when it is built."""

    def defaults(self) -> Mapping[str, Mapping[str, Any]]:
        """Return defaults of other keys of the study file, such as `{"training": {...}}`."""


@dataclass(frozen=True, kw_only=True)
class EvaluatorPlugin:
    """The classes that do the work of one kind of study, each as `module:attribute`.

    `search` evaluates trials, `certify` measures the members of a front together, `replicate`
    trains with new seeds, `final` trains fully. Registered in the group `nas.evaluators`. Each
    class has the interface `Evaluates`.

    `trained` are the metrics that training gives at every rung, the most important one first. Each
    can be an objective. `foreign` says that `search` also evaluates networks of other packages.
    `reads_data` says that training reads the study's `data`. Otherwise nothing looks for it.

    `settings` is the class of the study's `evaluator_settings`, None if there are none.
    `final_recipe` gives the defaults of final training, None for those of `Recipe`.

    `network`, `measured`, `export` and `holds` are functions as `module:function`; None stands for
    a classifier and a bundle. `network` builds a trial's network from the study's record and an
    architecture. `measured` builds the network whose latency is measured, with the same weights
    every time, from the study, the classes and an architecture. `export` writes a trial from the
    study's record, the trial, its final trainings or None, and the new folder, and returns lines to
    print. `holds` returns whether a folder, the last of the same arguments, holds what `export`
    would write.
    """

    search: str
    certify: str
    replicate: str
    final: str
    trained: tuple[TrainedMetric, ...] = (ERROR,)
    foreign: bool = False
    reads_data: bool = True
    settings: type[EvaluatorSettings] | None = None
    final_recipe: Callable[[StudySpec], Recipe] | None = None
    network: str | None = None
    measured: str | None = None
    export: str | None = None
    holds: str | None = None


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
    """An evaluator, built once in each worker process, which does one task after the other.

    If it has a method `close`, workers call it at the end.
    """

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
        `task.evaluation` has. An evaluator that cannot stop within a rung may ignore
        `task.remaining_s`. Raises `TrialFailedError`.
        """


E = TypeVar("E", bound=Evaluates)


def prepared_by(kind: type[Evaluates], context: StudyContext) -> Preparation:
    """Prepare the study with this class.

    Raises the errors of `prepare`, and `InvalidValueError` for any other error of a class of
    another package.
    """
    with nullcontext() if _is_ours(kind) else foreign_code(f"{_name(kind)}.prepare fails"):
        return kind.prepare(context)


def built_by(kind: type[E], context: StudyContext) -> E:
    """Build the evaluator of this class, with the same errors as `prepared_by`."""
    with nullcontext() if _is_ours(kind) else foreign_code(f"{_name(kind)} cannot be built"):
        return kind(context)


def _is_ours(kind: type[Evaluates]) -> bool:
    """Return whether the class ships with osa-nas, so that an unexpected error is a bug."""
    return kind.__module__.partition(".")[0] == "nas"


def _name(kind: type[Evaluates]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
