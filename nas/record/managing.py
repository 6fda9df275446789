"""Statements on all rows of a study, each in the caller's transaction: they rename it, delete it or
count its rows.
"""

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    Update,
    cast,
    delete,
    func,
    literal,
    select,
    update,
)

from nas.record.schema.tables import (
    ARCHITECTURE,
    ARTIFACT,
    BASELINE,
    EVALUATION,
    FINAL_TRAINING,
    METADATA,
    SINGLE_MEASUREMENT,
    STUDY,
    TRIAL,
)

PATHS = ("checkpoint", ARTIFACT.c.path.name)
"""Names of the columns with paths that begin with the study's name."""
PARENTS = {
    "evaluation_id": EVALUATION,
    "final_training_id": FINAL_TRAINING,
    "baseline_id": BASELINE,
}
"""Tables of a study by the columns that name their rows in tables without `study_id`."""


def rename_study(connection: Connection, study_id: int, old: str, new: str) -> None:
    """Give a study another name: in its settings, its paths, the targets measured of it, and the
    origins of trials that were copied from it.
    """
    spec = connection.execute(select(STUDY.c.spec).where(STUDY.c.id == study_id)).scalar_one()
    connection.execute(
        update(STUDY)
        .where(STUDY.c.id == study_id)
        .values(name=new, spec={**spec, STUDY.c.name.name: new})
    )
    for table in METADATA.sorted_tables:
        rows = _rows_of(table, study_id)
        for column in (table.c[name] for name in PATHS if name in table.c):
            if rows is not None:
                connection.execute(_with_prefix(table, column, f"{old}/", f"{new}/").where(rows))
    for target in _measured_targets(connection, old):
        connection.execute(
            update(SINGLE_MEASUREMENT)
            .where(SINGLE_MEASUREMENT.c.target == target)
            .values(target=f"{new}{target[len(old) :]}")
        )
    for copy in connection.execute(_copies_of(study_id, old)).all():
        its = (TRIAL.c.study_id == copy.study_id) & (TRIAL.c.number == copy.number)
        origin = f"{new}{copy.origin[len(old) :]}"
        connection.execute(update(TRIAL).where(its).values(origin=origin))


def delete_study(connection: Connection, study_id: int, name: str) -> None:
    """Delete all rows of a study, its networks that no other study has, and what was measured of
    it as a target.
    """
    for table in reversed(METADATA.sorted_tables):
        rows = _rows_of(table, study_id)
        if rows is not None:
            connection.execute(delete(table).where(rows))
    connection.execute(delete(STUDY).where(STUDY.c.id == study_id))
    used = select(EVALUATION.c.digest).union(
        select(FINAL_TRAINING.c.digest).where(FINAL_TRAINING.c.digest.is_not(None))
    )
    connection.execute(delete(ARCHITECTURE).where(ARCHITECTURE.c.digest.not_in(used)))
    for target in _measured_targets(connection, name):
        connection.execute(delete(SINGLE_MEASUREMENT).where(SINGLE_MEASUREMENT.c.target == target))


def count_rows(connection: Connection, study_id: int) -> dict[str, int]:
    """Return the number of rows of a study in each table, by the table's name."""
    rows = {table: _rows_of(table, study_id) for table in METADATA.sorted_tables}
    counts = (
        select(func.count()).select_from(table).where(of_study).scalar_subquery().label(table.name)
        for table, of_study in rows.items()
        if of_study is not None
    )
    return dict(connection.execute(select(*counts)).mappings().one())


def _rows_of(table: Table, study_id: int) -> ColumnElement[bool] | None:
    """Return the condition for the rows of a study, None for a table that studies share."""
    if "study_id" in table.c:
        return table.c.study_id == study_id
    for name, parent in PARENTS.items():
        if name in table.c:
            return table.c[name].in_(select(parent.c.id).where(parent.c.study_id == study_id))
    return None


def _with_prefix(table: Table, column: Column[str], old: str, new: str) -> Update:
    """Return the update that replaces the beginning of a text column."""
    rest = func.substr(column, len(old) + 1)
    return (
        update(table)
        .where(func.substr(column, 1, len(old)) == old)
        .values({column: literal(new).concat(rest)})
    )


def _measured_targets(connection: Connection, study: str) -> list[str]:
    """Return the targets `STUDY:NUMBER` that were measured outside the study."""
    targets = connection.execute(select(SINGLE_MEASUREMENT.c.target).distinct()).scalars()
    return [each for each in targets if each.rpartition(":")[0] == study and _is_number(each)]


def _copies_of(study_id: int, study: str) -> Select[tuple[int, int, str]]:
    """Return the query for study, number and origin of the trials that were copied from a study.

    The trial that the origin names must have the same network. If it has another one, the origin is
    of a deleted study of the same name.
    """
    own, evaluated = TRIAL.alias(), EVALUATION.alias()
    origin = literal(f"{study}:").concat(cast(own.c.number, Text))
    return (
        select(TRIAL.c.study_id, TRIAL.c.number, TRIAL.c.origin)
        .join(EVALUATION, TRIAL.c.evaluation_id == EVALUATION.c.id)
        .join(evaluated, evaluated.c.digest == EVALUATION.c.digest)
        .join(own, own.c.evaluation_id == evaluated.c.id)
        .where(own.c.study_id == study_id, TRIAL.c.origin == origin)
    )


def _is_number(target: str) -> bool:
    return target.rpartition(":")[2].isdecimal()
