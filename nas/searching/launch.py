"""Start work on a study: a search, or trainings of networks of its trials.

Each start prepares the workers, records the study, and resumes what the last call left.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol

from nas.analysis.baselines import is_finished
from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.complexity import totals
from nas.core.errors import (
    InvalidValueError,
    NasError,
    StudyConflictError,
    TrialFailedError,
    next_command,
)
from nas.core.foreign import ForeignNetwork, is_foreign
from nas.core.measurement import AUTO_RUNTIME
from nas.core.search_space import Params, SearchSpace
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
from nas.searching.networks import named_network
from nas.searching.profile import check_sizes
from nas.searching.start_networks import start_params
from nas.searching.state import SearchState, utc_now
from nas.searching.study_name import require_usable_name
from nas.searching.task_list import Recorder, T, TaskList


class Workers(Protocol):
    """Runs trials in this process or on others. A class of the group `nas.workers` is called with
    an address or None.
    """

    def prepare(self, context: StudyContext) -> Preparation:
        """Run the evaluator's `prepare` where the trials will run."""

    def run(self, engine: TaskSource, context: StudyContext) -> str:
        """Work until the engine proposes nothing more, and return its reason."""

    def close(self) -> None:
        """Release all processes and connections."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A prepared search."""

    engine: Engine
    context: StudyContext
    workers: Workers
    baselines: Mapping[str, Architecture | ForeignNetwork] = field(default_factory=dict)
    """The networks of the study's baselines by their names; finished ones may be missing."""

    def run(self) -> str:
        """Search until the budget is spent, and return why it ended. Ctrl-C loses nothing."""
        self.engine.overlap()
        return self.workers.run(self.engine, self.context)

    def certify(
        self,
        members: Sequence[Trial],
        *,
        evaluator: str | None = None,
    ) -> None:
        """Measure these members of the front in one session.

        Raises `TrialFailedError` if one of them cannot be measured.
        """
        task_list = certification(self.engine, members)
        evaluator = evaluator or evaluators_of(self.context.spec).certify
        self.workers.run(task_list, replace(self.context, evaluator=evaluator))
        if task_list.failures:
            raise TrialFailedError("\n".join(task_list.failures.values()))


def evaluators_of(spec: StudySpec) -> EvaluatorPlugin:
    """Return the evaluators that the study names."""
    evaluators: EvaluatorPlugin = plugins.load("nas.evaluators", spec.evaluator)
    return evaluators


def reads_data(spec: StudySpec) -> bool:
    """Return whether the study trains networks with its `data`."""
    return spec.needs_training and evaluators_of(spec).reads_data


def code_folder(record: StudyRecord) -> Path:
    """Put the folder with a recorded study's own code on the import path, and return it.

    It is that of the study file. If that is not recorded or not here, it is the current folder.
    """
    folder = Path.cwd() if record.folder is None else Path(record.folder)
    folder = folder if folder.is_dir() else Path.cwd()
    plugins.add_import_folder(folder)
    return folder


def recorded_evaluators(record: StudyRecord) -> EvaluatorPlugin:
    """Return the evaluators that a recorded study names."""
    code_folder(record)
    return evaluators_of(record.spec)


def require_classifier(record: StudyRecord, trial: str) -> None:
    """Raise `InvalidValueError` if the study measures a trial as another network than a classifier,
    whose figures could not be compared.
    """
    spec = record.spec
    if spec.evaluator != StudySpec.evaluator and recorded_evaluators(record).measured is not None:
        raise InvalidValueError(
            f"{trial} is of a study with the evaluator {spec.evaluator}, which measures no "
            f"classifiers; measure its front with: {next_command('remeasure', spec.name)}"
        )


def prepare(
    spec: StudySpec,
    *,
    workers: Workers,
    folder: Path,
    artifacts: Path,
    evaluator: str | None = None,
    fetch: Callable[[DataSpec], object] = lambda _: None,
) -> Preparation:
    """Prepare a new study before its record is made, for `open_search`, which takes the same
    arguments. If the study cannot run, the workers are closed and there is no empty record.
    """
    with ExitStack() as stack:
        stack.callback(workers.close)
        context = _unprepared_context(spec, folder, artifacts, evaluator)
        baseline_networks(spec, None, folder)
        start_params(spec, plugins.load("nas.spaces", spec.space), None, folder)
        preparation = _prepare_workers(context, workers, fetch)
        stack.pop_all()
    return preparation


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
    steady_s: Callable[[], float] = time.monotonic,
) -> Iterator[Search]:
    """Do everything between a study file and the first proposal of a new or a resumed study.
    Nothing is written unless all of it works.

    `fetch` is called with the data of a study that reads it, before the workers look for it
    themselves. `prepared` is the result of `prepare` for a new study. `artifacts` is the folder of
    checkpoints. It may differ from the recorded one if the study's files were moved to it. `now`
    and `steady_s` are the engine's clocks.

    Raises `StudyConflictError` if another process drives a study of this name, or if the recorded
    study has other settings or was begun with other parts. Raises `InvalidValueError` if
    `artifacts` lacks its checkpoints or is a URL, or if commands cannot take the name of a new
    study. Raises the errors of `prepare` too.
    """
    space: SearchSpace = plugins.load("nas.spaces", spec.space)
    make_sampler = plugins.load("nas.samplers", spec.sampler)
    context = _unprepared_context(spec, folder, artifacts, evaluator)
    with ExitStack() as stack:
        stack.callback(workers.close)
        # The claim comes first, so that only one of two new drivers continues.
        stack.enter_context(store.claim(spec.name))
        record = store.find_study(spec.name)
        identity = identity_of(spec, space, folder)
        baselines = baseline_networks(spec, store, folder)
        first = start_params(spec, space, store, folder)
        if record is None:
            require_usable_name(spec.name)
            preparation = prepared or _prepare_workers(context, workers, fetch)
            spec = with_choices(spec, preparation)
        else:
            spec = with_recorded_choices(spec, record.spec)
            store.require_same(spec)
            if record.identity is None:
                require_fitting_trials(record.name, store.each_trial(record.name), space)
            else:
                require_same_parts(record.name, record.identity, space, identity["code"])
            if context.artifacts != record.artifacts:
                _require_checkpoints(store, record, context.artifacts)
            before = record.preparation if record.is_prepared else None
            context = replace(context, spec=spec, preparation=before)
            preparation = _prepare_workers(context, workers, fetch)
            _require_same_files(record, preparation)
            if before is None and any(t.evaluation.rungs for t in store.each_trial(spec.name)):
                # the errors that were copied are those of these number formats
                preparation = replace(preparation, numerics=record.preparation.numerics)
        context = replace(context, spec=spec)
        identity["files"] = dict(preparation.files)
        identity = _with_places(
            identity if record is None else record.identity or identity, spec, first, folder
        )
        sampler = Proposer(
            space=space,
            objectives=spec.objectives,
            seed=spec.seed,
            make_sampler=make_sampler,
            counts=partial(
                totals, image_size=spec.measurement.image_size, num_classes=len(preparation.classes)
            ),
            trained=spec.trained_metrics,
        )
        with store.transaction():
            if record is None:
                store.create_study(
                    spec,
                    dataset=preparation.data.dataset,
                    classes=len(preparation.classes),
                    artifacts=context.artifacts,
                    identity=identity,
                )
            else:
                store.update_study(spec)
                store.set_artifacts(spec.name, context.artifacts)
                store.set_identity(spec.name, identity)
            if record is None or not record.is_prepared:
                store.set_numerics(spec.name, replace(preparation, files={}).to_dict())
        state = SearchState(
            spec=spec,
            space=space,
            sampler=sampler,
            trials=store.each_trial(spec.name),
            recall=partial(store.trial, spec.name),
            first=first,
        )
        engine = Engine(
            state=state,
            record=store,
            spent_s=store.summary(spec.name).searched_s,
            now=now,
            steady_s=steady_s,
        )
        keeper = CheckpointKeeper(store, engine, Path(context.artifacts))
        engine.listeners = [keeper, listener]
        yield Search(
            engine=engine,
            context=replace(context, preparation=preparation),
            workers=workers,
            baselines=baselines,
        )


@dataclass(frozen=True, kw_only=True)
class Trainings(Generic[T]):
    """Prepared trainings of a list of tasks. `names` name them in errors, by task number."""

    task_list: TaskList[T]
    names: Sequence[str]
    context: StudyContext
    workers: Workers

    def run(self) -> None:
        """Train all networks. Ctrl-C loses only the work since the last recorded rung or epoch.

        Raises `TrialFailedError` with one line for each training that failed.
        """
        if failures := self.run_all():
            raise TrialFailedError(
                "\n".join(f"{name}: {reason}" for name, reason in failures.items())
            )

    def run_all(self) -> dict[str, str]:
        """Train all networks, and return the reasons of those that failed, by name."""
        self.workers.run(self.task_list, self.context)
        failures = sorted(self.task_list.failures.items())
        return {self.names[number]: reason for number, reason in failures}


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
    count: int | None = None,
) -> Iterator[Trainings[T]]:
    """Do everything before the first training, as the study's only driver. `folder` is put
    on the import path. `kind` and `count` replace those of the study's workers.

    Raises `StudyConflictError` while the study is searched or if the files of its data differ from
    the recorded ones, and the errors of the evaluator's `prepare`.
    """
    study_record = store.study(study)
    spec = study_record.spec
    if kind is not None:
        spec = replace(spec, workers=spec.workers.of_kind(kind))
    if count is not None:
        spec = replace(spec, workers=replace(spec.workers, count=count))
    context = StudyContext(
        spec=spec,
        artifacts=study_record.artifacts,
        folder=str(folder.resolve()),
        evaluator=evaluator,
        preparation=study_record.preparation,
    )
    try:
        with store.claim(study):
            _require_same_files(study_record, workers.prepare(context))
            task_list = TaskList(spec=spec, tasks=tasks, record=record)
            yield Trainings(task_list=task_list, names=names, context=context, workers=workers)
    finally:
        workers.close()


def _with_places(
    identity: Mapping[str, Any], spec: StudySpec, first: Sequence[Params], folder: Path
) -> dict[str, Any]:
    """Return the identity of a prepared study with the folder of its file, and with the params that
    the names of start networks stand for.
    """
    named = zip(spec.first, first, strict=True)
    params = {name: dict(each) for name, each in named if isinstance(name, str)}
    return {
        **identity,
        "is_prepared": True,
        "folder": str(folder.resolve()),
        "first": {**identity.get("first", {}), **params},
    }


def _unprepared_context(
    spec: StudySpec, folder: Path, artifacts: Path, evaluator: str | None
) -> StudyContext:
    if artifacts.parts and artifacts.parts[0].endswith(":"):
        raise InvalidValueError(
            f"checkpoints go into a folder, not to {artifacts.parts[0]}//…; from other machines "
            "they come through Ray, and a bucket can be mounted: docs/clusters.md"
        )
    return StudyContext(
        spec=spec,
        artifacts=os.path.realpath(artifacts),
        folder=str(folder.resolve()),
        evaluator=evaluator or evaluators_of(spec).search,
    )


def baseline_networks(
    spec: StudySpec, store: Store | None, folder: Path
) -> dict[str, Architecture | ForeignNetwork]:
    """Return the networks of the study's baselines by their names.

    A finished baseline is not built again, and its network need not be there any more. Raises
    `InvalidValueError` for another one that is unknown or that its package cannot build.
    """
    finished = finished_baselines(spec, store)
    networks = {}
    for name in spec.baselines:
        if name in finished and is_foreign(name):
            continue
        try:
            networks[name] = named_network(name, store, folder)
        except NasError as error:
            if name not in finished:
                raise InvalidValueError(f"baselines: {error}") from error
    return networks


def finished_baselines(spec: StudySpec, store: Store | None) -> set[str]:
    """Return the names of the study's baselines that have all their figures in the record."""
    if store is None or store.find_study(spec.name) is None:
        return set()
    return {
        each.name for each in store.baselines(spec.name, spec.baselines) if is_finished(spec, each)
    }


def with_recorded_choices(spec: StudySpec, recorded: StudySpec) -> StudySpec:
    """Return the study with the runtime and the image sizes that it began with in place of `auto`.

    A study that began with whole images keeps them only if its file does not ask for `auto`.
    """
    spec = _with_runtime(spec, recorded.measurement.runtime)
    if len(spec.rungs) != len(recorded.rungs):
        return spec
    pairs = zip(spec.rungs, recorded.rungs, strict=True)
    return replace(spec, rungs=tuple(rung.with_side(former.image_size) for rung, former in pairs))


def with_choices(spec: StudySpec, preparation: Preparation) -> StudySpec:
    """Return a new study with what its preparation chose in place of `auto`."""
    spec = _with_runtime(spec, preparation.runtime or "eager")
    side = preparation.reduced_size or preparation.image_size
    return replace(spec, rungs=tuple(rung.with_side(side) for rung in spec.rungs))


def _with_runtime(spec: StudySpec, runtime: str) -> StudySpec:
    if spec.measurement.runtime != AUTO_RUNTIME:
        return spec
    return replace(spec, measurement=replace(spec.measurement, runtime=runtime))


def _prepare_workers(
    context: StudyContext, workers: Workers, fetch: Callable[[DataSpec], object]
) -> Preparation:
    """Fetch the data here and prepare the workers.

    Raises `InvalidValueError` for images that are too small for the networks of a new study.
    """
    spec = context.spec
    if reads_data(spec):
        fetch(context.preparation.data if context.preparation else spec.data)
    preparation = workers.prepare(context)
    if context.preparation is None:
        require_fitting_sizes(with_choices(spec, preparation), preparation)
    return preparation


def require_fitting_sizes(spec: StudySpec, preparation: Preparation) -> None:
    """Raise `InvalidValueError` for images that are too small for the networks of the space."""
    sizes = {"measurement.image_size": spec.measurement.image_size}
    if reads_data(spec):
        image_size = preparation.image_size
        for rung in spec.rungs:
            name = f"the images of {preparation.data.dataset} at {rung}"
            sizes[name] = rung.side(image_size)
    check_sizes(plugins.load("nas.spaces", spec.space), sizes, spec.seed)


def _require_same_files(record: StudyRecord, preparation: Preparation) -> None:
    """Raise `StudyConflictError` unless the data set and its files are those that were recorded."""
    dataset = preparation.data.dataset
    if not record.is_prepared and dataset != record.dataset:
        raise StudyConflictError(
            f"study {record.name!r} needs the data set {record.dataset} of the study that it was "
            f"copied from, and only its fallback {dataset} is here"
        )
    if record.identity is not None:
        require_same_files(record.name, record.identity["files"], preparation.files)


def _require_checkpoints(store: Store, record: StudyRecord, artifacts: str) -> None:
    """Raise `InvalidValueError` unless the folder holds the checkpoints that the study needs."""
    running = store.trials(record.name, store.summary(record.name).running)
    last_rungs = [trial.evaluation.rungs[-1] for trial in running if trial.evaluation.rungs]
    needed = [
        *(artifact.path for artifact in store.artifacts(record.name)),
        *(rung.checkpoint for rung in last_rungs if rung.checkpoint),
    ]
    missing = [name for name in needed if not (Path(artifacts) / name).exists()]
    if missing:
        raise InvalidValueError(
            f"{artifacts} lacks {len(missing)} checkpoints of study {record.name!r}, such as "
            f"{missing[0]}: move the folder {Path(record.artifacts) / record.name} there, or leave "
            "the study where it is, without --artifacts"
        )
