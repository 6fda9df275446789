"""Checks of a record: the checks of the database itself, and rules between rows.

Every write is one transaction, therefore all rules hold after any crash. A problem that is reported
here is a bug or a damaged disk.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection

from nas.core.pareto import ParetoFront, front
from nas.core.study import StudySpec
from nas.core.trial import Trial, TrialState, Usage
from nas.record.records import Artifact, StudyRecord


def database_problems(connection: Connection) -> Iterator[str]:
    """Yield the problems that SQLite finds in its file.

    A PostgreSQL server checks its keys at every write.
    """
    if connection.dialect.name != "sqlite":
        return
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if line != "ok":
            yield f"the file is damaged: {line}"
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"row {row[1]} of {row[0]} names a row of {row[2]} that is not there"


def study_problems(
    record: StudyRecord, trials: Sequence[Trial], fronts: Sequence[ParetoFront]
) -> Iterator[str]:
    """Yield a line for each rule that the rows of a study break."""
    objectives = record.spec.objectives
    originals: dict[str, Trial] = {}
    for number, trial in enumerate(trials):
        if trial.number != number:
            yield f"trial {number} is missing, the next one is {trial.number}"
            return
        original = originals.setdefault(trial.architecture.digest, trial)
        if (trial.duplicate_of is None) != (original is trial):
            yield (
                f"trial {trial.number} evaluates the architecture of trial {original.number} again"
            )
        elif (trial.state, trial.reason) != (original.state, original.reason):
            yield (
                f"trial {trial.number} is {trial.state}, but its original {original.number} is "
                f"{original.state}"
            )
        if (trial.state is TrialState.RUNNING) != (trial.finished_at is None):
            yield f"trial {trial.number} is {trial.state} and finished at {trial.finished_at}"
        if trial.state is TrialState.COMPLETE and trial.losses(objectives) is None:
            yield f"trial {trial.number} is complete without a value for each objective"
        yield from _rung_problems(record.spec, trial)
    members = front(trials, objectives).members
    recorded = fronts[-1].members if fronts else ()
    if set(members) != set(recorded):
        yield f"the last recorded front is {recorded}, but the front of the trials is {members}"


def _rung_problems(spec: StudySpec, trial: Trial) -> Iterator[str]:
    """Yield what is wrong with the rungs of a trial. An imported one may have the last one only."""
    rungs, planned = [rung.epochs for rung in trial.evaluation.rungs], spec.rungs
    if trial.origin and trial.state is TrialState.COMPLETE and len(rungs) == 1:
        planned = planned[-1:]
    expected = [rung.epochs for rung in planned[: len(rungs)]]
    if len(rungs) > len(planned) or (None not in expected and rungs != expected):
        in_study = ", ".join(map(str, spec.rungs))
        yield f"trial {trial.number} has rungs at {rungs} epochs, but the study has {in_study}"
    elif trial.state is TrialState.COMPLETE and spec.needs_training and len(rungs) < len(planned):
        yield f"trial {trial.number} is complete after {len(rungs)} of {len(planned)} rungs"


def sum_problems(trials: Sequence[Trial], recorded: Usage) -> Iterator[str]:
    """Yield a line for each recorded sum that differs from its measurements and rungs."""
    own = [trial for trial in trials if trial.duplicate_of is None and not trial.origin]
    summed = sum((trial.evaluation.spent for trial in own), Usage())
    totals = asdict(recorded)
    for name, value in asdict(summed).items():
        total, expected = totals[name] or 0.0, value or 0.0
        if not math.isclose(total, expected, rel_tol=1e-9):
            yield (
                f"the evaluations record {total:g} for {name}, but their measurements and rungs "
                f"sum to {expected:g}"
            )


def file_problems(record: StudyRecord, artifacts: Sequence[Artifact]) -> Iterator[str]:
    """Yield a line for each file that is missing or was changed since it was recorded.

    Nothing is checked if the folder is on another machine.
    """
    folder = Path(record.artifacts)
    for artifact in artifacts if folder.is_dir() else ():
        path = folder / artifact.path
        if not path.is_file():
            yield f"{path} is recorded but does not exist"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != artifact.sha256:
            yield f"{path} was changed since it was recorded"
