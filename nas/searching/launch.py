"""From a study and a record to running work: a search, or networks of its trials that are trained
again. Prepare, record, go on where the last call stopped.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol

from nas.core import plugins
from nas.core.complexity import totals
from nas.core.errors import InvalidValueError, TrialFailedError
from nas.core.search_space import SearchSpace
from nas.core.study import DataSpec, StudySpec
from nas.core.trial import Trial
from nas.record import Store, StudyRecord
from nas.sampling import Proposer
from nas.searching.checkpoints import CheckpointKeeper
from nas.searching.closing import certification
from nas.searching.engine import Engine, Listener, TaskSource
from nas.searching.evaluators import EvaluatorPlugin, Preparation, StudyContext
from nas.searching.identity import (
    identity_of,
    require_fitting_trials,
    require_same_files,
    require_same_parts,
)
from nas.searching.profile import check_sizes
from nas.searching.state import SearchState, utc_now
from nas.searching.task_list import Recorder, T, TaskList


class Workers(Protocol):
    """Where trials run; found by name in `nas.workers`, built from an address or None."""

    def prepare(self, context: StudyContext) -> Preparation:
        """Run the evaluator's `prepare` where the trials will run."""

    def run(self, engine: TaskSource, context: StudyContext) -> str:
        """Work until the engine has nothing more to propose; returns its reason."""

    def close(self) -> None:
        """Let go of everything."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A prepared search."""

    engine: Engine
    context: StudyContext
    workers: Workers

    def run(self) -> str:
        """Search until the budget is spent; returns why it ended. Ctrl-C loses nothing."""
        return self.workers.run(self.engine, self.context)

    def certify(
        self,
        members: Sequence[Trial],
        *,
        evaluator: str | None = None,
    ) -> None:
        """Measure these members of the front together. Raises `TrialFailedError` where one of them
        cannot be.
        """
        plan = certification(self.engine, members)
        evaluator = evaluator or evaluators_of(self.context.spec).certify
        self.workers.run(plan, replace(self.context, evaluator=evaluator))
        if plan.failures:
            raise TrialFailedError("\n".join(plan.failures.values()))


def evaluators_of(spec: StudySpec) -> EvaluatorPlugin:
    """Return the evaluators that the study names."""
    found: EvaluatorPlugin = plugins.load("nas.evaluators", spec.evaluator)
    return found


def prepare(
    spec: StudySpec,
    *,
    workers: Workers,
    folder: Path,
    artifacts: Path,
    evaluator: str | None = None,
    fetch: Callable[[DataSpec], object] = lambda _: None,
) -> Preparation:
    """Prepare a study of which there is no record, for `open_search`, whose arguments these are:
    where the study cannot run, the workers are closed and no record has been made.
    """
    with ExitStack() as stack:
        stack.callback(workers.close)
        found = _prepared(_context(spec, folder, artifacts, evaluator), workers, fetch)
        stack.pop_all()
    return found


@contextmanager
def open_search(
    spec: StudySpec,
    *,
    store: Store,
    workers: Workers,
    folder: Path,
    artifacts: Path,
    listener: Listener = lambda _: None,
    evaluator: str | None = None,
    fetch: Callable[[DataSpec], object] = lambda _: None,
    prepared: Preparation | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Iterator[Search]:
    """Everything between a study file and its first proposal. Nothing is written unless all of it
    works.

    `fetch` is called with the data of a study that trains, before the workers look for it
    themselves. `prepared` is what `prepare` gave, for a study that is new.

    `artifacts` is the folder of checkpoints; a study that goes on may have been moved to it, files
    and all.

    Raises `StudyConflictError` where another process drives a study of this name or the record
    holds another one, `InvalidValueError` where `artifacts` lacks its checkpoints or is a URL, and
    what `prepare` raises.
    """
    space: SearchSpace = plugins.load("nas.spaces", spec.space)
    make_sampler = plugins.load("nas.samplers", spec.sampler)
    context = _context(spec, folder, artifacts, evaluator)
    with ExitStack() as stack:
        stack.callback(workers.close)
        stack.enter_context(
            store.claim(spec.name)
        )  # before anything is known, so that of two new drivers one goes on
        known = next((record for record in store.studies() if record.name == spec.name), None)
        identity = identity_of(spec, space, folder)
        if known is not None:
            store.require_same(spec)
            _require_same_parts(store, known, space, identity)
            if context.artifacts != known.artifacts:
                _require_checkpoints(store, known, context.artifacts)
            context = replace(context, preparation=Preparation.from_dict(known.numerics))
        preparation = prepared if prepared and known is None else _prepared(context, workers, fetch)
        identity["files"] = dict(preparation.files)
        sampler = Proposer(
            space=space,
            objectives=spec.objectives,
            seed=spec.seed,
            make_sampler=make_sampler,
            counts=partial(
                totals, image_size=spec.measurement.image_size, num_classes=len(preparation.classes)
            ),
        )
        if known is None:
            with store.transaction():
                store.create_study(
                    spec,
                    dataset=preparation.data.dataset,
                    classes=len(preparation.classes),
                    artifacts=context.artifacts,
                    identity=identity,
                )
                store.set_numerics(spec.name, replace(preparation, files={}).to_dict())
        else:
            _require_same_files(known, preparation)
            with store.transaction():
                store.update_study(spec)
                store.set_artifacts(spec.name, context.artifacts)
                if known.identity is None:
                    store.set_identity(spec.name, identity)
        state = SearchState(
            spec=spec,
            space=space,
            sampler=sampler,
            trials=store.each_trial(spec.name),
            recall=partial(store.trial, spec.name),
        )
        engine = Engine(
            state=state, record=store, spent_s=store.summary(spec.name).searched_s, now=now
        )
        keeper = CheckpointKeeper(store, engine, Path(context.artifacts))
        engine.listeners = [keeper, listener]
        yield Search(
            engine=engine, context=replace(context, preparation=preparation), workers=workers
        )


@dataclass(frozen=True, kw_only=True)
class Trainings(Generic[T]):
    """Prepared trainings of a plan's tasks; `names` are what they are called in errors, by task
    number.
    """

    plan: TaskList[T]
    names: Sequence[str]
    context: StudyContext
    workers: Workers

    def run(self) -> None:
        """Train. Ctrl-C loses nothing but what was at work. Raises `TrialFailedError` where
        trainings failed.
        """
        self.workers.run(self.plan, self.context)
        if self.plan.failures:
            raise TrialFailedError(
                "\n".join(
                    f"{self.names[number]}: {reason}"
                    for number, reason in sorted(self.plan.failures.items())
                )
            )


@contextmanager
def open_trainings(
    store: Store,
    study: str,
    tasks: Sequence[T],
    names: Sequence[str],
    record: Recorder[T],
    *,
    evaluator: str,
    workers: Workers,
    folder: Path,
    kind: str | None = None,
) -> Iterator[Trainings[T]]:
    """Everything before the first training, as its study's only driver. `folder` goes on the import
    path, `kind` stands in the place of the study's workers.

    Raises `StudyConflictError` while the study is searched, and what the evaluator's `prepare`
    raises.
    """
    known = store.study(study)
    spec = (
        known.spec
        if kind is None
        else replace(known.spec, workers=known.spec.workers.of_kind(kind))
    )
    context = StudyContext(
        spec=spec,
        artifacts=known.artifacts,
        folder=str(folder.resolve()),
        evaluator=evaluator,
        preparation=Preparation.from_dict(known.numerics),
    )
    try:
        with store.claim(study):
            _require_same_files(known, workers.prepare(context))
            plan = TaskList(spec=spec, tasks=tasks, record=record)
            yield Trainings(plan=plan, names=names, context=context, workers=workers)
    finally:
        workers.close()


def _context(spec: StudySpec, folder: Path, artifacts: Path, evaluator: str | None) -> StudyContext:
    """The study's context, not prepared yet."""
    if artifacts.parts and artifacts.parts[0].endswith(":"):
        raise InvalidValueError(
            f"checkpoints go into a folder, not to {artifacts.parts[0]}//…; from other machines "
            "they come through Ray, and a bucket can be mounted: docs/clusters.md"
        )
    return StudyContext(
        spec=spec,
        artifacts=str(artifacts.resolve()),
        folder=str(folder.resolve()),
        evaluator=evaluator or evaluators_of(spec).search,
    )


def _prepared(
    context: StudyContext, workers: Workers, fetch: Callable[[DataSpec], object]
) -> Preparation:
    """What the workers find, after the data was fetched here. Raises `InvalidValueError` for images
    too small for the networks of a new study.
    """
    spec = context.spec
    if spec.needs_training:
        fetch(context.preparation.data if context.preparation else spec.data)
    found = workers.prepare(context)
    if context.preparation is None:
        sizes = {"measurement.image_size": spec.measurement.image_size}
        if spec.needs_training:
            sizes |= {
                f"the images of {found.data.dataset} at {rung}": min(
                    rung.image_size or found.image_size, found.image_size
                )
                for rung in spec.rungs
            }
        check_sizes(plugins.load("nas.spaces", spec.space), sizes, spec.seed)
    return found


def _require_same_parts(
    store: Store, record: StudyRecord, space: SearchSpace, identity: Mapping[str, Any]
) -> None:
    """Raise `StudyConflictError` unless the names in the study file stand for what they stood for
    when the study began. If that was not recorded, the recorded trials must be of the space.
    """
    if record.identity is None:
        require_fitting_trials(record.name, store.each_trial(record.name), space)
        return
    require_same_parts(record.name, record.identity, space, identity["code"])


def _require_same_files(record: StudyRecord, preparation: Preparation) -> None:
    """Raise `StudyConflictError` unless the files of the data are those that were recorded."""
    if record.identity is not None:
        require_same_files(record.name, record.identity["files"], preparation.files)


def _require_checkpoints(store: Store, known: StudyRecord, artifacts: str) -> None:
    """Raise `InvalidValueError` unless another folder holds the checkpoints that are needed."""
    going = [
        trial.evaluation.rungs
        for trial in store.trials(known.name, store.summary(known.name).running)
    ]
    needed = [
        *(artifact.path for artifact in store.artifacts(known.name)),
        *(rungs[-1].checkpoint for rungs in going if rungs and rungs[-1].checkpoint),
    ]
    missing = [name for name in needed if not (Path(artifacts) / name).exists()]
    if missing:
        raise InvalidValueError(
            f"{artifacts} lacks {len(missing)} checkpoints of study {known.name!r}, such as "
            f"{missing[0]}: move the folder {Path(known.artifacts) / known.name} there, or leave "
            "the study where it is, without --artifacts"
        )
