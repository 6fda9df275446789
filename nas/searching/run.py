"""Run a study to its end: search, certify the front, train its members with new seeds.

`nas search` and `nas.search` are this with two observers.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from nas.core import plugins
from nas.core.errors import NasError
from nas.core.search_space import Params
from nas.core.study import DataSpec, StudySpec
from nas.core.tasks import Task
from nas.core.trial import Baseline, Trial
from nas.record import Address, Store
from nas.record.differences import differences
from nas.searching.artifacts import artifacts_folder
from nas.searching.baselines import open_baselines
from nas.searching.closing import uncertified
from nas.searching.launch import (
    Search,
    Trainings,
    Workers,
    open_search,
    prepare,
    with_recorded_choices,
)
from nas.searching.replicates import final_replicates, open_replicates
from nas.searching.study_file import read_study


class SearchObserver:
    """Called while a study runs; each method does nothing by default."""

    def preparing(self, spec: StudySpec) -> None:
        """Called before the workers are prepared."""

    def resuming(self, note: str) -> None:
        """Called with a line on recorded values that differ from the defaults of a new study."""

    def fetch(self, data: DataSpec) -> None:
        """Called before the workers look for this data, if they work on this machine."""

    def prepared(self, search: Search) -> None:
        """Called when everything is ready for the first measurement."""

    def live(self, search: Search) -> AbstractContextManager[None]:
        """Return the context in which the search runs."""
        return nullcontext()

    def update(self, trial: Trial) -> None:
        """Called with every trial after it was recorded."""

    def baselines(self, trainings: Trainings[Task]) -> AbstractContextManager[None]:
        """Return the context in which the baselines are measured and trained."""
        return nullcontext()

    def baseline(self, baseline: Baseline) -> None:
        """Called with a baseline after all its figures were recorded."""

    def baselines_failed(self, failures: Mapping[str, str]) -> None:
        """Called with the reasons of the baselines that could not be finished, by their names."""

    def certifying(self, members: Sequence[Trial]) -> None:
        """Called before these members of the front are certified."""

    def ended(self, reason: str) -> None:
        """Called with the reason for which the search ended."""

    def replicating(self, trainings: Trainings[Task]) -> AbstractContextManager[None]:
        """Return the context in which members of the front are trained with new seeds."""
        return nullcontext()

    def replicated(self, trial: Trial, task: Task) -> None:
        """Called with a trial and its replicate after a rung of the replicate was recorded."""


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A study that ran to its end. `failure` says why its front was not certified, if it failed."""

    study: str
    failure: NasError | None


def run_study(
    study: Path | StudySpec,
    database: str,
    *,
    observer: SearchObserver,
    kind: str | None = None,
    address: str | None = None,
    artifacts: Path | None = None,
    first: Sequence[str | Params] = (),
) -> StudyRun:
    """Run a study until its budget is spent; called again, it resumes.

    `study` is a study file, or a spec whose code lies in the current folder. `kind` replaces the
    kind of the study's workers, `address` is that of a Ray cluster. Checkpoints go to `artifacts`,
    by default the study's recorded folder. `first` are more start networks. Raises what
    `open_search` and `artifacts_folder` raise, and `TrialFailedError` for trainings with new seeds.
    """
    if isinstance(study, StudySpec):
        spec, folder = study, Path.cwd()
    else:
        spec, folder = read_study(study), study.parent
    spec = replace(spec, first=(*spec.first, *first))
    if kind is not None:
        spec = replace(spec, workers=spec.workers.of_kind(kind))
    workers = _workers(spec, address)
    observer.preparing(spec)
    fetch = observer.fetch if address is None else lambda _: None
    prepared = None
    if Address.parse(database).is_new:  # a study that cannot run leaves no empty record
        prepared = prepare(
            spec,
            workers=workers,
            folder=folder,
            fetch=fetch,
            artifacts=artifacts_folder(None, spec, database, artifacts),
        )
    with Store.open(database) as store:
        if isinstance(study, Path):
            spec = _resumed(study, spec, store, observer)
        with open_search(
            spec,
            store=store,
            workers=workers,
            folder=folder,
            listener=observer.update,
            fetch=fetch,
            artifacts=artifacts_folder(store, spec, database, artifacts),
            prepared=prepared,
        ) as search:
            observer.prepared(search)
            _run_baselines(search, store, observer)
            with observer.live(search):
                reason = search.run()
            _run_baselines(search, store, observer)  # again those that met others on the device
            failure = _certify(search, observer)
            observer.ended(reason)
        if spec.fresh and failure is None:
            _train_with_new_seeds(store, spec.name, folder, address, observer)
    return StudyRun(study=spec.name, failure=failure)


def _resumed(
    study_file: Path, spec: StudySpec, store: Store, observer: SearchObserver
) -> StudySpec:
    """Return the study with the recorded values of keys that its file leaves out.

    `spec` is the study as a new one. The observer is called with one line if the record has other
    values than the defaults.
    """
    record = store.find_study(spec.name)
    if record is None:
        return spec
    resumed = replace(
        read_study(study_file, record.spec),
        budget=spec.budget,
        workers=spec.workers,
        first=spec.first,
    )
    new = with_recorded_choices(spec, resumed)
    changed = [
        f"{path} {recorded} (default {default})"
        for path, default, recorded in differences(new.identity(), resumed.identity())
    ]
    if changed:
        observer.resuming(
            f"study {spec.name!r} keeps its recorded values of keys that its file leaves out: "
            f"{', '.join(changed)}"
        )
    return resumed


def _workers(spec: StudySpec, address: str | None) -> Workers:
    workers: Workers = plugins.load("nas.workers", spec.workers.kind)(address)
    return workers


def _run_baselines(search: Search, store: Store, observer: SearchObserver) -> None:
    """Measure and train the baselines that are not finished. One that fails stops no search."""
    trainings = open_baselines(search, store, search.baselines, observer.baseline)
    if trainings is None:
        return
    searched_s = search.engine.elapsed_s()
    with observer.baselines(trainings):
        failures = trainings.run_all()
    if failures:
        observer.baselines_failed(failures)
    search.engine.set_clock(searched_s)


def _certify(search: Search, observer: SearchObserver) -> NasError | None:
    """Certify the front if the study asks for it.

    Returns the error if that fails, since the front is to be shown before it is reported.
    """
    members = uncertified(search.engine)
    try:
        if members:
            observer.certifying(members)
            search.certify(members)
    except NasError as error:
        return error
    return None


def _train_with_new_seeds(
    store: Store, study: str, folder: Path, address: str | None, observer: SearchObserver
) -> None:
    """Spend the share of the budget that is reserved for training front members with new seeds."""
    spec = store.study(study).spec
    todo = final_replicates(spec, store.trials(study))
    if not todo:
        return
    with (
        open_replicates(
            store,
            study,
            todo,
            workers=_workers(spec, address),
            folder=folder,
            listener=observer.replicated,
        ) as trainings,
        observer.replicating(trainings),
    ):
        trainings.run()
