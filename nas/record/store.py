"""The record of all studies. Loaded values equal the saved ones bit by bit.

Every call is one short transaction. `transaction()` makes one transaction of several calls.

SQLite and PostgreSQL run the same code and pass the same contract (`tests/contract/test_store.py`).
Nothing that was measured is ever changed, and nothing is removed but whole studies. All methods
raise `DatabaseError` if the database fails, and `UnknownNameError` for a study that does not exist.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, Select, func, insert, select, update

from nas.core.architecture import Architecture
from nas.core.errors import DatabaseError, InvalidValueError, StudyConflictError, UnknownNameError
from nas.core.measurement import Measurement
from nas.core.moved import equivalent_names
from nas.core.pareto import ParetoFront
from nas.core.recipe import FinalTraining
from nas.core.search_space import Params
from nas.core.study import REMOVED_KEYS, StudySpec, removed_keys
from nas.core.tasks import Result
from nas.core.trial import MAX_TRIALS, MOVES, Baseline, Rung, Trial, TrialState
from nas.record import managing, writing
from nas.record.address import Address
from nas.record.check import database_problems, file_problems, study_problems, sum_problems
from nas.record.claims import claim_file, claim_server, holder_of_file, holder_on_server
from nas.record.columns import Columns, load_columns, load_rungs
from nas.record.copying import copy_rows
from nas.record.differences import differences
from nas.record.engines import connect, reader, shrink, writer
from nas.record.faults import translate_contents, translate_errors
from nas.record.loading import (
    load_baselines,
    load_finals,
    load_last_measured,
    load_rung_values,
    load_singles,
    load_trials,
)
from nas.record.records import Artifact, ArtifactKind, StudyRecord, Summary
from nas.record.rows import of_artifact, of_objectives, of_progress, to_artifact, to_study
from nas.record.schema import HEAD, revision, upgrade
from nas.record.schema.tables import (
    ARTIFACT,
    FRONT,
    FRONT_MEMBER,
    OBJECTIVE,
    REPLICATE_RUNG,
    REPLICATE_RUNG_METRIC,
    SINGLE_MEASUREMENT,
    STUDY,
    TRIAL,
)
from nas.record.summary import summarize

TRIALS_AT_ONCE = 1000
"""Number of trials that `each_trial` reads at once."""


class Store:
    """An open record, which `Store.open` returns. Several threads may use it.

    Close it, or use it in a `with` statement.
    """

    def __init__(self, address: Address, engine: Engine, *, read_only: bool) -> None:
        self._address = address
        self._engine = engine
        self._read_only = read_only
        self._current = threading.local()
        self._claims: dict[str, Callable[[], None]] = {}

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        read_only: bool = False,
        create: bool = True,
        busy_timeout_s: float = 30.0,
    ) -> Self:
        """Open the record in an SQLite file or on a PostgreSQL server (see `nas.record.address`).

        A new database gets its tables, and an older one is upgraded. With `read_only` both are
        errors, and no file is made. Without `create` a new database is an error. If another program
        is writing an SQLite file, calls wait for up to `busy_timeout_s` seconds.
        """
        address = Address.parse(url)
        if address.path is not None and address.path.is_dir():
            raise DatabaseError(f"{address} is a folder; name a file in it")
        create = create and not read_only
        if not create and address.path is not None and not address.path.is_file():
            raise DatabaseError(f"there is no record at {address}; a search makes one")
        if address.path is not None and not address.path.parent.is_dir():
            raise DatabaseError(f"{address}: there is no folder {address.path.parent}")
        store = cls(
            address,
            connect(address, read_only=read_only, busy_timeout_s=busy_timeout_s),
            read_only=read_only,
        )
        try:
            store._prepare(create=create)
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return str(self._address)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make one transaction of all calls of this thread in the `with` block.

        Either all of them are stored or none. An error of one call must leave the block.
        """
        with self._writing():
            yield

    # Studies

    def create_study(
        self,
        spec: StudySpec,
        *,
        dataset: str,
        classes: int,
        artifacts: str | Path = "",
        identity: Mapping[str, Any] | None = None,
    ) -> StudyRecord:
        """Begin a study on a data set with this number of classes.

        `identity` describes the parts that the names in `spec` stand for. Raises
        `StudyConflictError` if there is a study of this name.
        """
        with self._writing() as connection:
            self._require_free(connection, spec.name)
            study_id = connection.execute(
                insert(STUDY)
                .values(
                    name=spec.name,
                    spec=spec.to_dict(),
                    dataset=dataset,
                    classes=classes,
                    artifacts=str(artifacts),
                    numerics={},
                    identity=None if identity is None else dict(identity),
                    version=version("osa-nas"),
                    created_at=datetime.now(UTC),
                )
                .returning(STUDY.c.id)
            ).scalar_one()
            connection.execute(insert(OBJECTIVE), of_objectives(study_id, spec))
        return self.study(spec.name)

    def study(self, name: str) -> StudyRecord:
        """Return the study of this name."""
        with self._reading() as connection:
            study_id = self._study_id(connection, name)
            return self._studies(connection, select(STUDY).where(STUDY.c.id == study_id))[0]

    def find_study(self, name: str) -> StudyRecord | None:
        """Return the study of this name, None if there is none."""
        return next((record for record in self.studies() if record.name == name), None)

    def studies(self) -> list[StudyRecord]:
        """Return all studies, the oldest first."""
        with self._reading() as connection:
            return self._studies(connection, select(STUDY).order_by(STUDY.c.id))

    def listed_studies(self) -> list[StudyRecord]:
        """Return the studies that are not archived, the oldest first."""
        return [record for record in self.studies() if record.archived_at is None]

    def set_archived(self, study: str, at: datetime | None) -> None:
        """Hide a study from lists from this time on, or show it there again (None)."""
        self._update_study(study, archived_at=at)

    def require_same(self, spec: StudySpec) -> None:
        """Raise `StudyConflictError` if a key of the study's identity differs from the record.

        The error names every such key. It is also raised if the recorded study has a key
        that was removed since then.
        """
        self._require_no_removed_key(spec.name)
        recorded = self.study(spec.name).spec
        problems = [
            f"{path}: {old} in the database, {new} in the file"
            for path, old, new in differences(recorded.identity(), spec.identity())
        ]
        if problems:
            raise StudyConflictError(
                f"study {spec.name!r} was made from other settings: {'; '.join(problems)}; "
                "change them back or give the study another name"
            )

    def _require_no_removed_key(self, name: str) -> None:
        with self._reading() as connection:
            study = STUDY.c.id == self._study_id(connection, name)
            recorded = connection.execute(select(STUDY.c.spec).where(study)).scalar_one()
        for key in removed_keys(recorded):
            raise StudyConflictError(
                f"study {name!r} was searched with the key {key!r}, which {REMOVED_KEYS[key]}; "
                "its record stays readable, but its search cannot be resumed: "
                "delete the key and give the study another name"
            )

    def update_study(self, spec: StudySpec) -> None:
        """Record other values of the keys in `nas.core.study.CHANGEABLE`.

        Raises as `require_same`.
        """
        self.require_same(spec)
        self._update_study(spec.name, spec=spec.to_dict())

    def set_numerics(self, study: str, numerics: Mapping[str, Any]) -> None:
        """Record the decisions for the whole study that depend on the device, such as formats."""
        self._update_study(study, numerics=dict(numerics))

    def set_identity(self, study: str, identity: Mapping[str, Any]) -> None:
        """Record the parts that the names in the study file stand for."""
        self._update_study(study, identity=dict(identity))

    def set_artifacts(self, study: str, artifacts: str | Path) -> None:
        """Record the folder of the study's files."""
        self._update_study(study, artifacts=str(artifacts))

    def require_new(self, name: str) -> None:
        """Raise `StudyConflictError` if there is a study of this name."""
        with self._reading() as connection:
            self._require_free(connection, name)

    def rename_study(self, study: str, name: str) -> None:
        """Give a study another name, also in its paths and in the targets measured of it.

        Raises `StudyConflictError` if there is a study of this name.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            self._require_free(connection, name)
            managing.rename_study(connection, study_id, study, name)

    def delete_study(self, study: str) -> None:
        """Delete a study with everything that only it needs. Its files stay."""
        with self._writing() as connection:
            managing.delete_study(connection, self._study_id(connection, study), study)

    def give_space_back(self) -> bool:
        """Shrink an SQLite file to what it holds. A PostgreSQL server does this by itself.

        Returns false if the file keeps its size, because other processes use it.
        """
        if self._address.path is None:
            return True
        with translate_errors(self._address):
            return shrink(self._engine)

    def claim(self, study: str) -> AbstractContextManager[None]:
        """Make this process the only driver of the study in the `with` block.

        The end of the process also ends the claim, even after `kill -9`. The study need not exist
        yet. Raises `StudyConflictError` with the name of another process that drives the study. If
        the server ends the claim by a restart, the next write raises `DatabaseError`.
        """
        if self._address.path is not None:
            return claim_file(self._address.path, study)
        return self._claim_server(study)

    def driver(self, study: str) -> str | None:
        """Return the process that drives the study, None if there is none.

        For an SQLite file only drivers on this machine are visible.
        """
        if self._address.path is not None:
            return holder_of_file(self._address.path, study)
        with self._reading() as connection:
            return holder_on_server(connection, study)

    # Trials

    def trials(self, study: str, numbers: Collection[int] | None = None) -> list[Trial]:
        """Return all trials, or those with these numbers, in order of their numbers.

        A duplicate has the evaluation of its original.
        """
        with self._reading() as connection:
            study_id = self._study_id(connection, study)
            if numbers is None or isinstance(numbers, range):
                return load_trials(connection, study_id, numbers)
            chosen = sorted(numbers)  # in parts, since databases limit the values in a statement
            parts = range(0, len(chosen), TRIALS_AT_ONCE)
            return [
                trial
                for start in parts
                for trial in load_trials(
                    connection, study_id, chosen[start : start + TRIALS_AT_ONCE]
                )
            ]

    def columns(self, study: str, metrics: Collection[str]) -> Columns:
        """Return the figures of these metrics of all trials as columns, without duplicates."""
        with self._reading() as connection:
            return load_columns(connection, self._study_id(connection, study), metrics)

    def params(self, study: str) -> dict[int, Params]:
        """Return the params of all trials by number, in their order and without duplicates."""
        with self._reading() as connection:
            rows = connection.execute(
                select(TRIAL.c.number, TRIAL.c.params).where(
                    TRIAL.c.study_id == self._study_id(connection, study),
                    TRIAL.c.duplicate_of.is_(None),
                )
            )
            return dict(sorted((row.number, row.params) for row in rows))

    def first_finished(self, study: str, number: int) -> list[int]:
        """Return the numbers of the trials that ended first, without duplicates, in their order."""
        with self._reading() as connection:
            ended = connection.execute(
                select(TRIAL.c.number)
                .where(
                    TRIAL.c.study_id == self._study_id(connection, study),
                    TRIAL.c.state != TrialState.RUNNING.value,
                    TRIAL.c.duplicate_of.is_(None),
                    TRIAL.c.finished_at.is_not(None),
                )
                .order_by(TRIAL.c.finished_at, TRIAL.c.number)
                .limit(number)
            )
            return list(ended.scalars())

    def last_measured(self, study: str) -> tuple[int, Measurement] | None:
        """Return the newest figure of a device with the number of its trial, None without one."""
        with self._reading() as connection:
            return load_last_measured(connection, self._study_id(connection, study))

    def each_trial(self, study: str) -> Iterator[Trial]:
        """Yield all trials in order of their numbers, with bounded memory.

        The trials are read in parts, therefore no other process may write the study meanwhile.
        """
        start = 0
        while trials := self.trials(study, range(start, start + TRIALS_AT_ONCE)):
            yield from trials
            start += TRIALS_AT_ONCE

    def trial(self, study: str, number: int) -> Trial:
        """Return one trial. Raises `UnknownNameError` if there is none of this number."""
        with self._reading() as connection:
            study_id = self._study_id(connection, study)
            numbers = [number] if abs(number) <= MAX_TRIALS else []
            trials = load_trials(connection, study_id, numbers)
            if not trials:
                count = connection.execute(
                    select(func.count()).where(TRIAL.c.study_id == study_id)
                ).scalar_one()
                recorded = [f"0 to {count - 1}"] if count else []
                raise UnknownNameError(f"the trials of study {study!r}", str(number), recorded)
        return trials[0]

    def add_trial(self, study: str, trial: Trial) -> None:
        """Record a new trial with its evaluation so far. A duplicate shares its original's.

        Raises `InvalidValueError` unless `duplicate_of` is the trial that evaluated this
        architecture first, or None for a new architecture.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            evaluation_id = writing.write_trial(connection, study_id, trial)
            if trial.duplicate_of is not None:
                return
            evaluation = trial.evaluation
            writing.write_measurements(
                connection,
                study_id,
                evaluation_id,
                tuple(evaluation.measurements.values()),
                evaluation.measure_s,
            )
            if evaluation.waiting_s or evaluation.energy_j is not None:
                writing.write_effort(
                    connection,
                    evaluation_id,
                    evaluation.waiting_s,
                    energy_j=evaluation.energy_j,
                    measuring_j=evaluation.measuring_j,
                )
            for rung in evaluation.rungs:
                writing.write_rung(connection, evaluation_id, rung)

    def add_measurements(
        self, study: str, number: int, measurements: Iterable[Measurement], seconds: float
    ) -> None:
        """Add figures to a trial's evaluation, and the seconds that they took.

        Figures without a value are recorded as well. Raises `StudyConflictError` if a figure has
        another unit, kind, device class or plan than the other figures of its metric in the study,
        because they could not be compared. Then nothing is recorded.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            evaluation = writing.evaluation_id(connection, study_id, number)
            writing.write_measurements(
                connection, study_id, evaluation, tuple(measurements), seconds
            )

    def add_effort(
        self,
        study: str,
        number: int,
        waiting_s: float,
        energy_j: float | None,
        *,
        measuring: bool,
        engine_j: float | None = None,
    ) -> None:
        """Add waiting time and energy to a trial's evaluation.

        `energy_j` is the energy of measuring if `measuring`, otherwise of training and validating.
        `engine_j` is that of all other work. Both are None if they were not measured.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            writing.write_effort(
                connection,
                writing.evaluation_id(connection, study_id, number),
                waiting_s,
                energy_j=energy_j,
                measuring_j=energy_j if measuring else None,
                engine_j=engine_j,
            )

    def rung_values(self, study: str, metric: str) -> list[dict[float, float]]:
        """Return a trained metric by epochs, of the newest 5,000 architectures with a rung."""
        with self._reading() as connection:
            return load_rung_values(connection, self._study_id(connection, study), metric)

    def rungs(self, study: str, metric: str) -> dict[int, tuple[float, ...]]:
        """Return a trained metric at the rungs of each trial by number, without duplicates."""
        with self._reading() as connection:
            return load_rungs(connection, self._study_id(connection, study), metric)

    def add_single(
        self, target: str, measurements: Iterable[Measurement], *, digest: str | None = None
    ) -> None:
        """Record figures outside any study.

        `target` names the measured network, and `digest` its architecture if it is an OSA network.
        The figures are never on a front, therefore they need not be comparable.
        """
        with self._writing() as connection:
            writing.insert_figures(
                connection,
                SINGLE_MEASUREMENT,
                {"target": target, "digest": digest},
                tuple(measurements),
            )

    def singles(self, target: str | None = None) -> list[tuple[str, Measurement]]:
        """Return the figures outside any study with their targets, the oldest first.

        With `target` only those of this target are returned, which is also found by the former name
        of its module.
        """
        names = None if target is None else equivalent_names(target)
        with self._reading() as connection:
            return [(name, figure) for name, _, figure in load_singles(connection, names)]

    def singles_of(self, study: str, trials: Iterable[Trial]) -> dict[int, list[Measurement]]:
        """Return the figures of these trials outside the study by number, the oldest first."""
        targets = {f"{study}:{trial.number}": trial for trial in trials}
        figures: dict[int, list[Measurement]] = {each.number: [] for each in targets.values()}
        with self._reading() as connection:
            for target, digest, figure in load_singles(connection, list(targets)):
                if digest == targets[target].architecture.digest:
                    figures[targets[target].number].append(figure)
        return figures

    def add_rung(self, study: str, number: int, rung: Rung) -> None:
        """Add a rung to a trial's evaluation.

        Raises `InvalidValueError` unless it has more epochs than the last one.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            writing.write_rung(
                connection, writing.evaluation_id(connection, study_id, number), rung
            )

    def add_replicate(
        self, study: str, number: int, seed: int, rung: Rung, energy_j: float | None = None
    ) -> None:
        """Add a rung to a replicate of a trial's network, and its energy in joules.

        Raises `InvalidValueError` unless it has more epochs than the replicate's last one.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            evaluation = writing.evaluation_id(connection, study_id, number)
            writing.add_rung(
                connection,
                (REPLICATE_RUNG, REPLICATE_RUNG_METRIC),
                {"evaluation_id": evaluation, "seed": seed},
                rung,
                energy_j=energy_j,
            )

    def add_final(
        self, study: str, final: FinalTraining, architecture: Architecture | None = None
    ) -> None:
        """Record a finished final training.

        `architecture` is needed for an OSA network that is not of a trial. Raises `DatabaseError`
        if the record holds a training of this network by this recipe with this seed.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            if architecture is not None:
                writing.write_architecture(connection, architecture)
            writing.write_final(connection, study_id, final)

    def finals(self, study: str) -> list[FinalTraining]:
        """Return the final trainings of the study in the order in which they ended."""
        with self._reading() as connection:
            return load_finals(connection, self._study_id(connection, study))

    def add_baseline(self, study: str, name: str, digest: str) -> None:
        """Record the network of a baseline, unless it is recorded.

        Raises `StudyConflictError` if the study has another network of this name.
        """
        with self._writing() as connection:
            writing.write_baseline(connection, self._study_id(connection, study), name, digest)

    def add_baseline_event(self, study: str, name: str, event: Result) -> None:
        """Add figures or a rung to a baseline, with the resources that they took.

        Raises the errors of `add_measurements` and `add_rung`.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            baseline = writing.baseline_id(connection, study_id, name)
            writing.write_baseline_event(connection, study_id, baseline, event)

    def baselines(self, study: str, names: Sequence[str] | None = None) -> list[Baseline]:
        """Return the baselines that were begun among these, by default those of the study's
        settings, in their order.
        """
        names = self.study(study).spec.baselines if names is None else names
        with self._reading() as connection:
            return load_baselines(connection, self._study_id(connection, study), names)

    def finish_trial(self, study: str, trial: Trial) -> None:
        """Record the new state, reason, worker, sampler state and times of a trial.

        Its evaluation is not written. A failed trial may run again, and a running one may get
        another worker. Raises `InvalidValueError` if `nas.core.trial.MOVES` has no move from the
        recorded state.
        """
        before = [state for state, after in MOVES.items() if trial.state in after]
        if trial.state is TrialState.RUNNING:
            before.append(TrialState.RUNNING)
        with self._writing() as connection:
            here = (TRIAL.c.study_id == self._study_id(connection, study)) & (
                TRIAL.c.number == trial.number
            )
            evaluation = connection.execute(
                update(TRIAL)
                .where(here, TRIAL.c.state.in_(before))
                .values(of_progress(trial))
                .returning(TRIAL.c.evaluation_id)
            ).scalar_one_or_none()
            if evaluation is None:
                recorded = (
                    connection.execute(select(TRIAL.c.state).where(here)).scalar_one_or_none()
                    or "not recorded"
                )
                raise InvalidValueError(
                    f"trial {trial.number} cannot go from {recorded} to {trial.state}"
                )
            if trial.finished_at is not None and trial.duplicate_of is None:
                writing.write_engine(
                    connection, evaluation, (trial.finished_at - trial.started_at).total_seconds()
                )

    # Fronts and files

    def add_front(self, study: str, front: ParetoFront) -> None:
        """Record a snapshot of the front, unless it equals the newest one."""
        with self._writing() as connection:
            study_id = self._study_id(connection, study)
            newest = self._newest(connection, study_id)
            if newest is not None and self._fronts(connection, study_id, newest) == [front]:
                return
            key = {"study_id": study_id, "sequence": 0 if newest is None else newest + 1}
            connection.execute(
                insert(FRONT),
                {
                    **key,
                    "finished_trials": front.after,
                    "hypervolume": front.hypervolume,
                    "feasible": front.feasible,
                    "created_at": datetime.now(UTC),
                },
            )
            if front.members:
                connection.execute(
                    insert(FRONT_MEMBER),
                    [
                        {**key, "position": position, "trial": trial}
                        for position, trial in enumerate(front.members)
                    ],
                )

    def fronts(self, study: str) -> list[ParetoFront]:
        """Return all snapshots of the front, the oldest first."""
        with self._reading() as connection:
            return self._fronts(connection, self._study_id(connection, study))

    def newest_front(self, study: str) -> ParetoFront | None:
        """Return the last snapshot of the front, None without one."""
        with self._reading() as connection:
            study_id = self._study_id(connection, study)
            newest = self._newest(connection, study_id)
            return None if newest is None else self._fronts(connection, study_id, newest)[0]

    def hypervolumes(self, study: str) -> list[tuple[int, float]]:
        """Return the hypervolume of each snapshot after its number of finished trials.

        The oldest snapshot comes first. Snapshots without a hypervolume are left out.
        """
        with self._reading() as connection:
            rows = connection.execute(
                select(FRONT.c.finished_trials, FRONT.c.hypervolume)
                .where(
                    FRONT.c.study_id == self._study_id(connection, study),
                    FRONT.c.hypervolume.is_not(None),
                )
                .order_by(FRONT.c.sequence)
            )
            return [(row.finished_trials, row.hypervolume) for row in rows]

    def summary(self, study: str) -> Summary:
        """Return counts and times of a study, without reading its trials one by one."""
        with self._reading() as connection:
            return summarize(connection, self._study_id(connection, study))

    def row_counts(self, study: str) -> dict[str, int]:
        """Return the number of rows of a study in each table.

        One of them grows with every figure, rung, front and file that is recorded.
        """
        with self._reading() as connection:
            return managing.count_rows(connection, self._study_id(connection, study))

    def add_artifact(self, study: str, artifact: Artifact) -> None:
        """Record a file that was written. It replaces an older file of the same path."""
        with self._writing() as connection:
            values = of_artifact(self._study_id(connection, study), artifact)
            here = (ARTIFACT.c.study_id == values["study_id"]) & (ARTIFACT.c.path == artifact.path)
            if connection.execute(update(ARTIFACT).where(here).values(values)).rowcount == 0:
                connection.execute(insert(ARTIFACT).values(values))

    def artifacts(
        self, study: str, *, trial: int | None = None, kind: ArtifactKind | None = None
    ) -> list[Artifact]:
        """Return the files of a study, of a trial or of a kind, in the order of their recording."""
        with self._reading() as connection:
            wanted = select(ARTIFACT).where(
                ARTIFACT.c.study_id == self._study_id(connection, study)
            )
            if trial is not None:
                wanted = wanted.where(ARTIFACT.c.trial == trial)
            if kind is not None:
                wanted = wanted.where(ARTIFACT.c.kind == kind)
            return [to_artifact(row) for row in connection.execute(wanted.order_by(ARTIFACT.c.id))]

    # The record as a whole

    def problems(self) -> list[str]:
        """Return a line for each problem of the record (see `nas.record.check`)."""
        with self._reading() as connection:
            problems = list(database_problems(connection))
            for record in self._studies(connection, select(STUDY).order_by(STUDY.c.id)):
                study_id = self._study_id(connection, record.name)
                trials = load_trials(connection, study_id)
                fronts = self._fronts(connection, study_id)
                lines = [
                    *study_problems(record, trials, fronts),
                    *sum_problems(trials, summarize(connection, study_id).spent),
                ]
                problems += [f"study {record.name}: {line}" for line in lines]
        for record in self.studies():
            problems += [
                f"study {record.name}: {line}"
                for line in file_problems(record, self.artifacts(record.name))
            ]
        return problems

    def copy_to(self, target: "Store") -> dict[str, int]:
        """Copy everything into an empty record, and return the number of rows by table.

        Raises `DatabaseError` if the target is not empty. After any error the target is as it was.
        """
        if target.studies() or target.singles():
            raise DatabaseError(f"{target} is not empty; name a new database")
        with self._reading() as source, target._writing() as connection:  # noqa: SLF001
            return copy_rows(source, connection)

    # Inside

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with (
            translate_errors(self._address),
            self._joined() or reader(self._engine).begin() as connection,
            translate_contents(self._address),
        ):
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._read_only:
            raise DatabaseError(f"{self} was opened for reading only")
        with translate_errors(self._address), self._joined() or self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with writer(self._engine).begin() as connection:
                for still_held in self._claims.values():
                    still_held()
                self._current.connection = connection
                yield connection
        finally:
            self._current.connection = None

    def _joined(self) -> AbstractContextManager[Connection] | None:
        """Return the connection of this thread's `transaction()`, None outside of one."""
        connection: Connection | None = getattr(self._current, "connection", None)
        return None if connection is None else nullcontext(connection)

    @contextmanager
    def _claim_server(self, study: str) -> Iterator[None]:
        with (
            translate_errors(self._address),
            claim_server(self._engine, study, str(self)) as still_held,
        ):
            self._claims[study] = still_held
            try:
                yield
            finally:
                del self._claims[study]

    def _prepare(self, *, create: bool) -> None:
        with self._reading() as connection:
            current = revision(connection, str(self))
        if current == HEAD:
            return
        if not create and current is None:
            raise DatabaseError(f"{self} is empty; a search fills it")
        if self._read_only:
            raise DatabaseError(
                f"{self} was made by an older osa-nas (its schema has revision {current}); any "
                "search in it upgrades it"
            )
        with self._writing() as connection:
            upgrade(connection, str(self))

    def _study_id(self, connection: Connection, name: str) -> int:
        """Return the study's key, which another process may give to another study at any time."""
        study_id: int | None = connection.execute(
            select(STUDY.c.id).where(STUDY.c.name == name)
        ).scalar_one_or_none()
        if study_id is None:
            names = connection.execute(select(STUDY.c.name)).scalars().all()
            raise UnknownNameError(f"the studies of {self}", name, names)
        return study_id

    def _require_free(self, connection: Connection, name: str) -> None:
        """Raise `StudyConflictError` if there is a study of this name."""
        if connection.execute(select(STUDY.c.id).where(STUDY.c.name == name)).first():
            raise StudyConflictError(f"{self} holds a study {name!r} already")

    def _studies(self, connection: Connection, wanted: Select[Any]) -> list[StudyRecord]:
        rows = connection.execute(wanted).all()
        counts: dict[int, dict[TrialState, int]] = defaultdict(lambda: dict.fromkeys(TrialState, 0))
        for study_id, state, count in connection.execute(
            select(TRIAL.c.study_id, TRIAL.c.state, func.count())
            .where(TRIAL.c.study_id.in_([row.id for row in rows]))
            .group_by(TRIAL.c.study_id, TRIAL.c.state)
        ):
            counts[study_id][TrialState(state)] = count
        return [to_study(row, counts[row.id]) for row in rows]

    def _update_study(self, name: str, **values: Any) -> None:
        with self._writing() as connection:
            study_id = self._study_id(connection, name)
            connection.execute(update(STUDY).where(STUDY.c.id == study_id).values(**values))

    @staticmethod
    def _newest(connection: Connection, study_id: int) -> int | None:
        """Return the sequence number of the last front, None without one."""
        sequence: int | None = connection.execute(
            select(func.max(FRONT.c.sequence)).where(FRONT.c.study_id == study_id)
        ).scalar_one()
        return sequence

    def _fronts(
        self, connection: Connection, study_id: int, sequence: int | None = None
    ) -> list[ParetoFront]:
        fronts, members = FRONT.c.study_id == study_id, FRONT_MEMBER.c.study_id == study_id
        if sequence is not None:
            fronts, members = (
                fronts & (FRONT.c.sequence == sequence),
                members & (FRONT_MEMBER.c.sequence == sequence),
            )
        numbers: dict[int, list[int]] = defaultdict(list)
        for row in connection.execute(
            select(FRONT_MEMBER).where(members).order_by(FRONT_MEMBER.c.position)
        ):
            numbers[row.sequence].append(row.trial)
        return [
            ParetoFront(
                members=tuple(numbers[row.sequence]),
                hypervolume=row.hypervolume,
                after=row.finished_trials,
                feasible=row.feasible,
            )
            for row in connection.execute(select(FRONT).where(fronts).order_by(FRONT.c.sequence))
        ]
