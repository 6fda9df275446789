"""The public Python API: open a record, look at a study, search, measure, and ask and tell.

`nas/__init__.py` exports what stands here; `docs/api.md` shows each part with an example that runs.
Frames are pandas data frames whose column names end in the unit: `latency_s`, `energy_j`,
`peak_memory_bytes`; shares and counts have no ending.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nas.analysis.baselines import beaten_by
from nas.analysis.finals import FinalResult, latest_results
from nas.analysis.posterior import front_now
from nas.analysis.study_front import StudyFront, study_front
from nas.core.architecture import Architecture
from nas.core.complexity import totals
from nas.core.errors import InvalidValueError
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.moved import import_attribute
from nas.core.preparation import Preparation
from nas.core.study import StudySpec
from nas.core.tasks import Decision, Measured, Trained
from nas.core.trial import Baseline, Evaluation, Rung, Trial
from nas.record import Store, StudyRecord
from nas.searching.artifacts import artifacts_folder
from nas.searching.engine import Engine
from nas.searching.evaluators import StudyContext
from nas.searching.launch import Search, open_search, recorded_evaluators, require_classifier
from nas.searching.run import SearchObserver, run_study
from nas.searching.state import Finished, Wait

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from torch import nn

UNIT_ENDINGS: Mapping[str, str] = {"1": "", "s": "_s", "J": "_j", "B": "_bytes", "W": "_w"}
"""Ending of a column's name, by the metric's unit."""

OnEvent = Callable[[Trial], object]
"""Called with every trial that has just been recorded; trials are frozen values."""


def open(database: str | PathLike[str] = "nas.db") -> "Record":  # noqa: A001 - read as nas.open
    """Open a record: a file name, `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.

    Nothing is written until `create` or `Study.ask`. Raises `DatabaseError` if there is no such
    record or it cannot be read.
    """
    return Record(str(database))


def search(
    study: str | PathLike[str] | StudySpec,
    *,
    database: str | PathLike[str] = "nas.db",
    artifacts: str | PathLike[str] | None = None,
    address: str | None = None,
    on_event: OnEvent = lambda _: None,
) -> "Study":
    """Search until the study's budget is spent, and return the study; called again, it resumes.

    `study` is a study file or a `StudySpec`. Checkpoints go to `artifacts`, by default the study's
    former folder, or `NAME-artifacts` beside a record `NAME.db`. `address` is that of a Ray
    cluster, for workers of the kind `tune`. `on_event` is called with every trial after it was
    recorded: if it raises, nothing recorded is lost, no new trial begins, and the exception is
    raised here once the trials at work have ended.

    Raises `NasError` for a study that cannot run, and `TrialFailedError` if members of the front
    could not be certified.
    """
    done = run_study(
        study if isinstance(study, StudySpec) else Path(study),
        str(database),
        observer=_Events(on_event),
        address=address,
        artifacts=None if artifacts is None else Path(artifacts),
    )
    if done.failure is not None:
        raise done.failure
    return open(database).study(done.study)


def measure(
    *targets: "str | nn.Module",
    device: str | None = None,
    database: str | PathLike[str] = "nas.db",
    **plan: Any,
) -> "pd.DataFrame":
    """Measure networks and return one row for each figure; nothing is recorded.

    A target is a torch module for images (N, 3, H, W), or what `nas measure` takes: a published
    VoVNet, `STUDY:TRIAL` of the record in `database`, an exported folder, an ONNX file,
    `timm:NAME`, `module:callable`. `plan` are fields
    of `MeasurementPlan`, such as `batch_size=8, runtime="onnxruntime"`. Several networks are
    measured interleaved. Raises `NasError` for a target that cannot be loaded.
    """
    import pandas as pd

    from nas.measuring.meters import REMOTE_RUNTIME, elsewhere, find_meter
    from nas.measuring.session import measure_all
    from nas.measuring.targets import Target, load_target

    def find_trial(text: str) -> tuple[Architecture, int]:
        name, _, number = text.rpartition(":")
        with Store.open(str(database), read_only=True) as store:
            record, trial = store.study(name), store.trial(name, int(number))
        require_classifier(record, text)
        return trial.architecture, record.classes

    runtime = {"runtime": REMOTE_RUNTIME} if elsewhere(device) else {}
    conditions = MeasurementPlan(**{**runtime, **plan})
    loaded = [
        load_target(target, conditions, find_trial)
        if isinstance(target, str)
        else Target(name=type(target).__name__, network=target)
        for target in targets
    ]
    with find_meter(device) as meter:
        taken = measure_all(loaded, conditions, meter)
        rows = [
            {"network": target.name, **_figure_row(figure)}
            for target, figures in zip(loaded, taken, strict=True)
            for figure in figures
        ]
    return pd.DataFrame(rows)


class Record:
    """The studies of one database."""

    def __init__(self, database: str) -> None:
        self.database = database
        with Store.open(database, read_only=True) as store:
            self._names = tuple(record.name for record in store.studies())

    def studies(self) -> tuple[str, ...]:
        """Return the names of the studies as they were when the record was opened."""
        return self._names

    def study(self, name: str | None = None) -> "Study":
        """Return the study of this name, or the only one. Raises `UnknownNameError`."""
        if name is None:
            if len(self._names) != 1:
                raise InvalidValueError(f"name one of the studies: {', '.join(self._names)}")
            name = self._names[0]
        return Study(self.database, name)


class Study:
    """One recorded study. Every call reads the record as it is at that moment."""

    def __init__(self, database: str, name: str) -> None:
        self.database, self.name = database, name
        with self._store() as store:
            self.spec = store.study(name).spec

    def __repr__(self) -> str:
        return f"<nas.Study {self.name!r}>"

    @property
    def classes(self) -> int:
        """Outputs of the classifier."""
        return self._record().classes

    def trial(self, number: int) -> Trial:
        """Return one trial. Raises `UnknownNameError`."""
        with self._store() as store:
            return store.trial(self.name, number)

    def trials(self) -> "pd.DataFrame":
        """Return one row for each trial, indexed by its number.

        Columns: `state`, `reason`, `duplicate_of`, `origin` (where it was evaluated, if not in this
        study), one for each metric with the bounds of its 95 % interval (`latency_s`,
        `latency_low_s`, `latency_high_s`), `epochs`, `measuring_s`, `training_s`, and the values of
        all choices. Trained figures are those of the search's own training. A time that was not
        reported is None.
        """
        import pandas as pd

        with self._store() as store:
            rows = [_trial_row(self.spec, trial) for trial in store.trials(self.name)]
        return pd.DataFrame(rows).set_index("trial") if rows else pd.DataFrame()

    def front(self) -> "pd.DataFrame":
        """Return one row for each member of the front, in the order of the first objective.

        The columns are those of `trials`, and `standing`: how certain the membership is, given all
        intervals. Trained figures of replicated networks are posterior means over their seeds.
        """
        import pandas as pd

        now = self._front()
        rows = [
            {**_trial_row(self.spec, member), "standing": str(now.standings.get(number, ""))}
            for number, member in now.members.items()
        ]
        return pd.DataFrame(rows).set_index("trial") if rows else pd.DataFrame()

    def baselines(self) -> "pd.DataFrame":
        """Return one row for each baseline, indexed by its name; the columns of figures are those
        of `trials`.

        `beaten_by` are the members of the front that are better in one objective and worse in none.
        """
        import pandas as pd

        members = list(self._front().members.values())
        rows = [
            {
                "baseline": each.name,
                **_figures(self.spec, each.evaluation),
                "beaten_by": beaten_by(each, members, self.spec.objectives),
            }
            for each in self._baselines()
        ]
        return pd.DataFrame(rows).set_index("baseline") if rows else pd.DataFrame()

    def hypervolume(self) -> float | None:
        """Return the front's hypervolume in the objectives' units, None without a reference."""
        return self._front().front.hypervolume

    def plot_front(self, x: str | None = None, y: str | None = None) -> "go.Figure":
        """Draw two metrics of all complete trials and of the baselines, the front as a staircase; a
        plotly figure.

        By default `x` is the second objective and `y` the first. Raises `InvalidValueError` if the
        study has one objective only and none is named.
        """
        from nas.report.plots import front_figure

        names = [objective.key for objective in self.spec.objectives]
        x, y = x or (names[1] if len(names) > 1 else None), y or names[0]
        if x is None:
            raise InvalidValueError("a study with one objective needs a metric for x")
        with self._store() as store:
            front, trials = front_now(store.trials(self.name), self.spec)
        return front_figure(
            list(trials.values()),
            front.members,
            self.spec.objectives,
            x,
            y,
            baselines=self._baselines(),
        )

    def plot_hypervolume(self) -> "go.Figure":
        """Draw the hypervolume over finished trials; a plotly figure."""
        from nas.report.plots import hypervolume_figure

        with self._store() as store:
            return hypervolume_figure(store.hypervolumes(self.name))

    def network(self, number: int) -> "nn.Module":
        """Return the trial's network as a torch module in evaluation mode.

        It has the weights of its final training or of its last rung if they were kept, else random
        ones; its attribute `trained` says which. Weights of a training on other images have their
        classes.
        """
        from nas.model import build
        from nas.training import read_checkpoint

        record, trial = self._record(), self.trial(number)
        own = recorded_evaluators(record).network
        path = self._checkpoint(record, trial)
        kept = path and read_checkpoint(path, trial.architecture.digest)
        if own is None:
            classes = len(kept.classes) if kept and kept.classes else record.classes
            model: nn.Module = build(trial.architecture, classes)
        else:
            model = import_attribute(own)(record, trial.architecture)
        if kept:
            model.load_state_dict(dict(kept.weights))
        setattr(model, "trained", kept is not None)  # noqa: B010 - mypy sees a module
        return model.eval()

    def export(
        self,
        number: int,
        folder: str | PathLike[str],
        *,
        measure: bool = True,
        weights_license: str | None = None,
    ) -> Path:
        """Write the trial as a checked bundle into the new folder, and return its path.

        The bundle has the weights of the final training if there is one, else those of the search.
        The model card states `weights_license`, an identifier such as cc-by-4.0, or no licence.
        Raises `ExportError` if no weights were kept or a check fails.
        """
        from nas.export import export_trial
        from nas.report.drawing import draw

        record, trial = self._record(), self.trial(number)
        own = recorded_evaluators(record).export
        if own is not None:
            import_attribute(own)(record, trial, self._final(trial), Path(folder))
            return Path(folder)
        export_trial(
            record,
            trial,
            self._final(trial),
            destination=Path(folder),
            draw=draw,
            measure=measure,
            weights_license=weights_license,
        )
        return Path(folder)

    def _front(self) -> StudyFront:
        with self._store() as store:
            return study_front(store, self.spec)

    def _baselines(self) -> list[Baseline]:
        with self._store() as store:
            return store.baselines(self.name)

    def _checkpoint(self, record: StudyRecord, trial: Trial) -> Path | None:
        """The file of the network's best kept weights, None if there is none."""
        final, rungs = self._final(trial), trial.evaluation.rungs
        names = [final and final.first.reached.checkpoint, rungs[-1].checkpoint if rungs else None]
        paths = [Path(record.artifacts) / name for name in names if name]
        return next((path for path in paths if path.exists()), None)

    def _final(self, trial: Trial) -> FinalResult | None:
        with self._store() as store:
            return latest_results(store.finals(self.name), [trial]).get(trial.number)

    def _record(self) -> StudyRecord:
        with self._store() as store:
            return store.study(self.name)

    def _store(self) -> Store:
        return Store.open(self.database, read_only=True)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A network to evaluate: the trial's number, its architecture, choices and seed."""

    number: int
    architecture: Architecture
    params: Mapping[str, Any]
    seed: int

    def build(self, num_classes: int) -> "nn.Module":
        """Return the network with random weights."""
        from nas.model import build

        return build(self.architecture, num_classes)


class AskTell:
    """A study for people with their own loop: ask for networks and report their figures.

        with nas.AskTell(spec, database="nas.db", classes=10) as loop:
            while (proposal := loop.ask()) is not None:
                loop.tell(proposal.number, error=train(proposal.build(10)), latency=...)

    Several proposals may be outstanding. Counts are recorded by `ask` itself, so that networks over
    a limit on them are never proposed, and a network is proposed once. Everything is committed
    before a call returns: after `kill -9` the same code resumes, and proposals without a result are
    proposed again. One process at a time drives a study, until the `with` block or the process
    ends.
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        database: str | PathLike[str] = "nas.db",
        classes: int = 10,
    ) -> None:
        if spec.baselines:
            raise InvalidValueError("baselines are trained by nas.search, not by your own loop")
        if len(spec.rungs) > 1:
            raise InvalidValueError(
                f"your own loop tells the end of each training, so rungs must be one, not "
                f"{len(spec.rungs)}"
            )
        budget = replace(spec.budget, fresh=0.0)  # the loop trains nothing with new seeds
        self._spec, self._database = replace(spec, budget=budget), str(database)
        self._classes = classes
        self._stack = ExitStack()
        self._engine: Engine | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(self._database))
            found = stack.enter_context(
                open_search(
                    self._spec,
                    store=store,
                    workers=_Outside(self._classes),
                    folder=Path.cwd(),
                    artifacts=artifacts_folder(store, self._spec, self._database),
                )
            )
            self._engine = found.engine
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._engine = None
        self._stack.__exit__(kind, error, traceback)

    def ask(self) -> Proposal | None:
        """Return the next network, or None once the budget is spent.

        Raises `InvalidValueError` if nothing can be proposed before an outstanding proposal has a
        result.
        """
        engine = self._driven()
        while True:
            task = engine.propose()
            if isinstance(task, Finished):
                return None
            if isinstance(task, Wait):
                raise InvalidValueError("tell an outstanding proposal first, or fail it")
            trial = engine.state.trial(task.number)
            if self._count(engine, trial) is Decision.CONTINUE:
                return Proposal(
                    number=trial.number,
                    architecture=trial.architecture,
                    params=dict(trial.params),
                    seed=trial.seed,
                )

    def tell(self, number: int, **values: float) -> None:
        """Record the figures of a proposal by metric, in SI units, and end its trial.

        Measured objectives may be reported before the trained ones: a network over a limit, or one
        that the sampler skips, then ends untrained and is no longer `outstanding`. Trained figures
        are reported together, also those that are no objectives, and end the trial.

        Raises `InvalidValueError` for any other metric, for a trained figure that is missing or out
        of its bounds, for trained figures without a measured objective, or for a proposal that is
        not outstanding.
        """
        engine = self._driven()
        self._require_outstanding(number)
        units = {o.key: _unit(o.metric) for o in self._spec.measured_objectives}
        trained = {
            name: float(value)
            for name, value in values.items()
            if name in self._spec.trained_metrics
        }
        unknown = sorted(set(values) - set(units) - set(trained))
        if unknown:
            raise InvalidValueError(
                f"{', '.join(unknown)}: no objective of {self._spec.name}, which has "
                f"{', '.join([*units, *self._spec.trained_metrics])}"
            )
        if trained and (problem := self._spec.rung_problem(trained)):
            raise InvalidValueError(f"trial {number}: {problem}")
        evaluation = engine.state.trial(number).evaluation
        missing = [n for n in units if n not in values and evaluation.value(n) is None]
        if trained and missing:
            names = ", ".join(missing)
            raise InvalidValueError(
                f"trial {number} ends with its training: tell {names} before or with it"
            )
        figures = tuple(
            Measurement(metric=name, unit=unit, value=float(values[name]), method="told")
            for name, unit in units.items()
            if name in values
        )
        if figures:
            engine.report(number, Measured(measurements=figures, seconds=0.0, decides=not trained))
        if trained:
            rung = Rung(
                epochs=self._spec.rungs[-1].epochs or 1.0,
                metrics=trained,
                numerics={"method": "told"},
            )
            engine.report(number, Trained(rung=rung))

    def fail(self, number: int, reason: str) -> None:
        """Record that a proposal could not be evaluated."""
        self._require_outstanding(number)
        self._driven().fail(number, reason)

    @property
    def outstanding(self) -> tuple[int, ...]:
        """The numbers of proposals that were asked for and have not ended."""
        return tuple(trial.number for trial in self._driven().state.running)

    def _driven(self) -> Engine:
        if self._engine is None:
            raise InvalidValueError("use AskTell in a with block")
        return self._engine

    def _require_outstanding(self, number: int) -> None:
        if not self._driven().state.is_running(number):
            raise InvalidValueError(
                f"trial {number} is not outstanding; outstanding are {list(self.outstanding)}"
            )

    def _count(self, engine: Engine, trial: Trial) -> Decision:
        """Record the counts of a new proposal; it ends here if a limit on them is exceeded."""
        if trial.evaluation.measurements:
            return Decision.CONTINUE
        counts = totals(trial.architecture, self._spec.measurement.image_size, self._classes)
        figures = tuple(Measurement.counted(name, "1", value) for name, value in counts.items())
        return engine.report(trial.number, Measured(measurements=figures, seconds=0.0))


class _Outside:
    """Workers of a study whose work is done elsewhere."""

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def prepare(self, context: StudyContext) -> Preparation:
        """Nothing is needed here."""
        names = tuple(str(number) for number in range(self._classes))
        size = context.spec.measurement.image_size
        return Preparation(data=context.spec.data, classes=names, image_size=size)

    def run(self, engine: object, context: StudyContext) -> str:  # pragma: no cover - never called
        """Refuse: `ask` and `tell` are the work."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


class _Events(SearchObserver):
    """Calls `on_event` after each commit; after its first exception no new trial begins."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._engine: Engine | None = None
        self._first: Exception | None = None

    def resuming(self, note: str) -> None:
        """Warn that recorded values differ from the defaults."""
        warnings.warn(note, stacklevel=4)

    @contextmanager
    def live(self, search: Search) -> Iterator[None]:
        """Raise, after the search, the first exception of `on_event`."""
        self._engine = search.engine
        yield
        if self._first is not None:
            raise self._first

    def update(self, trial: Trial) -> None:
        """Call `on_event`."""
        if self._first is not None:
            return
        try:
            self._on_event(trial)
        except Exception as error:  # noqa: BLE001 - whatever a caller's function raises
            self._first = error
            if self._engine is not None:
                self._engine.stop("on_event raised an exception")


def _trial_row(spec: StudySpec, trial: Trial) -> dict[str, Any]:
    evaluation = trial.evaluation
    row: dict[str, Any] = {
        "trial": trial.number,
        "state": str(trial.state),
        "reason": trial.reason,
        "duplicate_of": trial.duplicate_of,
        "origin": trial.origin or None,
    }
    usage = evaluation.spent
    row |= {
        **_figures(spec, evaluation),
        "epochs": usage.epochs,
        "measuring_s": usage.measuring_s,
        "training_s": None if _unknown_training(trial) else usage.training_s,
    }
    return row | dict(trial.params)


def _figures(spec: StudySpec, evaluation: Evaluation) -> dict[str, Any]:
    """The figures of a network by column name, those of training first."""
    values = {metric: evaluation.value(metric.name) for metric in spec.trained or ()}
    row: dict[str, Any] = {
        _column(metric.name, metric.unit): value
        for metric, value in values.items()
        if value is not None
    }
    for figure in evaluation.measurements.values():
        row |= _columns(figure)
    return row


def _columns(figure: Measurement) -> dict[str, float | None]:
    """A figure and the bounds of its interval, by column name."""
    columns = {_column(figure.metric, figure.unit): figure.value}
    if figure.ci_low is not None and figure.ci_low != figure.ci_high:
        columns[_column(f"{figure.metric}_low", figure.unit)] = figure.ci_low
        columns[_column(f"{figure.metric}_high", figure.unit)] = figure.ci_high
    return columns


def _column(name: str, unit: str) -> str:
    return f"{name}{UNIT_ENDINGS.get(unit, f'_{unit}')}"


def _unknown_training(trial: Trial) -> bool:
    """Return whether the trial was trained in a time that was not reported."""
    return any(rung.train_s is None for rung in trial.evaluation.rungs)


def _figure_row(figure: Measurement) -> dict[str, Any]:
    return {
        "metric": figure.metric,
        "value": figure.value,
        "unit": figure.unit,
        "low": figure.ci_low,
        "high": figure.ci_high,
        "status": str(figure.status),
        "reason": figure.reason,
        "method": figure.method,
    }


def _unit(metric: str) -> str:
    from nas.measuring.metrics import find_metric

    return find_metric(metric).unit
