"""Whether a record is sound: what the database itself can say, and what must be true between its
rows.

After any crash all of it holds, because every write is one transaction; a problem found here is a
bug or a damaged disk.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection

from nas.core.pareto import ParetoFront, front
from nas.core.trial import Trial, TrialState, Usage
from nas.record.records import Artifact, StudyRecord


def database_problems(connection: Connection) -> Iterator[str]:
    """What SQLite finds in its file; a PostgreSQL server checks its keys whenever it writes."""
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
    """One line for each rule that the rows of a study break."""
    objectives, planned = record.spec.objectives, len(record.spec.rungs)
    known: dict[str, Trial] = {}
    for place, trial in enumerate(trials):
        if trial.number != place:
            yield f"trial {place} is missing, the next one is {trial.number}"
            return
        original = known.setdefault(trial.architecture.digest, trial)
        if (trial.duplicate_of is None) != (original is trial):
            yield f"trial {trial.number} evaluates the architecture of trial {original.number} again"
        elif (trial.state, trial.reason) != (original.state, original.reason):
            yield f"trial {trial.number} is {trial.state}, and its original {original.number} is {original.state}"
        if (trial.state is TrialState.RUNNING) != (trial.finished_at is None):
            yield f"trial {trial.number} is {trial.state} and finished at {trial.finished_at}"
        if trial.state is TrialState.COMPLETE and trial.losses(objectives) is None:
            yield f"trial {trial.number} is complete without a value for each objective"
        rungs = [rung.epochs for rung in trial.evaluation.rungs]
        asked = [rung.epochs for rung in record.spec.rungs[: len(rungs)]]
        if len(rungs) > planned or (None not in asked and rungs != asked):
            wanted = ", ".join(str(rung) for rung in record.spec.rungs)
            yield f"trial {trial.number} has rungs at {rungs} epochs, the study has {wanted}"
        elif (
            trial.state is TrialState.COMPLETE
            and record.spec.needs_training
            and len(rungs) < planned
        ):
            yield f"trial {trial.number} is complete after {len(rungs)} of {planned} rungs"
    now, last = front(trials, objectives), fronts[-1] if fronts else None
    if set(now.members) != set(last.members if last else ()):
        yield f"the last front kept is {last.members if last else ()}, the trials' is {now.members}"


def sum_problems(trials: Sequence[Trial], spent: Usage) -> Iterator[str]:
    """One line for each sum that evaluations keep, `spent`, and that their figures and rungs do not
    come to.
    """
    counted = sum(
        (trial.evaluation.spent for trial in trials if trial.duplicate_of is None), Usage()
    )
    kept = asdict(spent)
    for name, total in asdict(counted).items():
        there, here = kept[name] or 0.0, total or 0.0
        if not math.isclose(there, here, rel_tol=1e-9):
            yield f"the evaluations sum up {there:g} for {name}, their figures and rungs {here:g}"


def file_problems(record: StudyRecord, artifacts: Sequence[Artifact]) -> Iterator[str]:
    """One line for each recorded file that is not what was recorded; none where its folder is on
    another machine.
    """
    folder = Path(record.artifacts)
    for artifact in artifacts if folder.is_dir() else ():
        path = folder / artifact.path
        if not path.is_file():
            yield f"{path} is recorded and not there"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != artifact.sha256:
            yield f"{path} is not the file that was recorded"
