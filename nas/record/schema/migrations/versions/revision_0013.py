"""Let an objective name the device on which it is measured.

The name is a column of `objective` and of the views `objective_value` and `pareto`. The figures of
such an objective have the name METRIC@DEVICE in the column `metric` of `measurement`.
"""

import sqlalchemy as sa
from alembic import op

from nas.record.schema.migrations.versions.revision_0001 import TRIAL_OVERVIEW

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

OBJECTIVE_VALUE = """
CREATE VIEW objective_value AS
SELECT t.study_id, t.number AS trial, o.position, o.metric, o.direction, o.limit_value,
       coalesce(q.value, m.value) AS value, m.ci_low, m.ci_high, coalesce(o.unit, m.unit) AS unit,
       o.device
FROM trial t
JOIN objective o ON o.study_id = t.study_id
LEFT JOIN last_rung r ON r.evaluation_id = t.evaluation_id AND o.unit IS NOT NULL
LEFT JOIN rung_metric q
       ON q.evaluation_id = r.evaluation_id AND q.epochs = r.epochs AND q.metric = o.metric
LEFT JOIN current_measurement m
       ON m.evaluation_id = t.evaluation_id AND m.metric = o.metric || coalesce('@' || o.device, '')
"""

PARETO = """
CREATE VIEW pareto AS
SELECT s.name AS study, p.position, p.trial, e.digest, v.metric, v.value, v.ci_low, v.ci_high,
       v.unit, v.direction, v.limit_value, f.feasible, v.device
FROM study s
JOIN front f ON f.study_id = s.id
JOIN front_member p ON p.study_id = f.study_id AND p.sequence = f.sequence
JOIN trial t ON t.study_id = p.study_id AND t.number = p.trial
JOIN evaluation e ON e.id = t.evaluation_id
JOIN objective_value v ON v.study_id = p.study_id AND v.trial = p.trial
WHERE f.sequence = (SELECT max(g.sequence) FROM front g WHERE g.study_id = f.study_id)
"""


def upgrade() -> None:
    """Upgrade from 0012."""
    for view in ("trial_overview", "pareto", "objective_value"):
        op.execute(f"DROP VIEW {view}")
    with op.batch_alter_table("objective") as batch:
        batch.add_column(sa.Column("device", sa.Text(), nullable=True))
        batch.drop_constraint("uq_objective_study_id_metric", type_="unique")
        batch.create_unique_constraint(
            "uq_objective_study_id_metric_device", ["study_id", "metric", "device"]
        )
    for view in (OBJECTIVE_VALUE, PARETO, TRIAL_OVERVIEW):
        op.execute(view)
