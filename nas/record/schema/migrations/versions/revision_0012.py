"""Give every rung any number of figures that training gave, in place of the one error.

The figures have tables of their own, and what was not reported of a training may be NULL. The views
keep their columns.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from nas.record.schema.migrations.versions.revision_0001 import PARETO, TRIAL_OVERVIEW

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

KEYS = {
    "rung": ("evaluation_id", "epochs"),
    "replicate_rung": ("evaluation_id", "seed", "epochs"),
    "final_training": ("id",),
}
"""Tables of trained networks, and their primary keys."""
NAMES = {"id": "final_training_id"}
"""Names of key columns in the tables of figures, if they differ."""
TYPES: dict[str, sa.types.TypeEngine[Any]] = {"seed": sa.BigInteger(), "epochs": sa.Double()}
"""Types of key columns that are no plain integers."""

LAST_RUNG = """
CREATE VIEW last_rung AS
SELECT r.evaluation_id, r.epochs, m.value AS error, r.train_loss, r.checkpoint, r.finished_at
FROM rung r
LEFT JOIN rung_metric m
       ON m.evaluation_id = r.evaluation_id AND m.epochs = r.epochs AND m.metric = 'error'
WHERE r.epochs = (SELECT max(q.epochs) FROM rung q WHERE q.evaluation_id = r.evaluation_id)
"""

OBJECTIVE_VALUE = """
CREATE VIEW objective_value AS
SELECT t.study_id, t.number AS trial, o.position, o.metric, o.direction, o.limit_value,
       coalesce(q.value, m.value) AS value, m.ci_low, m.ci_high, coalesce(o.unit, m.unit) AS unit
FROM trial t
JOIN objective o ON o.study_id = t.study_id
LEFT JOIN last_rung r ON r.evaluation_id = t.evaluation_id AND o.unit IS NOT NULL
LEFT JOIN rung_metric q
       ON q.evaluation_id = r.evaluation_id AND q.epochs = r.epochs AND q.metric = o.metric
LEFT JOIN current_measurement m ON m.evaluation_id = t.evaluation_id AND m.metric = o.metric
"""


def upgrade() -> None:
    """Upgrade from 0011."""
    for view in ("trial_overview", "pareto", "objective_value", "last_rung"):
        op.execute(f"DROP VIEW {view}")
    op.add_column("objective", sa.Column("unit", sa.Text(), nullable=True))
    op.execute("UPDATE objective SET unit = '1' WHERE metric = 'error'")
    for table, key in KEYS.items():
        _move_errors(table, key)
    for view in (LAST_RUNG, OBJECTIVE_VALUE, PARETO, TRIAL_OVERVIEW):
        op.execute(view)


def _move_errors(table: str, key: Sequence[str]) -> None:
    """Move the errors of a table to a table of figures.

    They wait in a temporary table meanwhile, because SQLite has to build the first table again.
    """
    columns = ", ".join(key)
    op.execute(f"CREATE TEMPORARY TABLE moved AS SELECT {columns}, error FROM {table}")  # noqa: S608
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(op.f(f"ck_{table}_error"), type_="check")
        batch.drop_column("error")
        batch.alter_column("images", existing_type=sa.BigInteger(), nullable=True)
        batch.alter_column("train_s", existing_type=sa.Double(), nullable=True)
        batch.alter_column("validation_s", existing_type=sa.Double(), nullable=True)
    figures, names = f"{table}_metric", [NAMES.get(column, column) for column in key]
    types = [TYPES.get(column, sa.Integer()) for column in key]
    op.create_table(
        figures,
        *(
            sa.Column(name, kind, autoincrement=False, nullable=False)
            for name, kind in zip(names, types, strict=True)
        ),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            names, [f"{table}.{column}" for column in key], name=f"fk_{figures}_{table}"
        ),
        sa.PrimaryKeyConstraint(*names, "metric", name=f"pk_{figures}"),
    )
    op.execute(
        f"INSERT INTO {figures} ({', '.join(names)}, metric, value) "  # noqa: S608
        f"SELECT {columns}, 'error', error FROM moved"
    )
    op.execute("DROP TABLE moved")
