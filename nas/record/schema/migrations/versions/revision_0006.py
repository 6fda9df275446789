"""Add sums of an architecture's rungs, and the method of a study's energy.

Without them, all rows of a study would have to be read.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0005."""
    for name in ("epochs", "train_s", "validation_s"):
        op.add_column(
            "evaluation", sa.Column(name, sa.Double(), server_default="0", nullable=False)
        )
    op.execute("""UPDATE evaluation SET epochs = reached.epochs, train_s = reached.train_s,
                         validation_s = reached.validation_s
                  FROM (SELECT evaluation_id, max(epochs) AS epochs, sum(train_s) AS train_s,
                               sum(validation_s) AS validation_s FROM rung GROUP BY evaluation_id) AS reached
                  WHERE reached.evaluation_id = evaluation.id""")
    op.add_column("metric_context", sa.Column("method", sa.Text(), nullable=True))
    op.execute("""UPDATE metric_context SET method = (
                      SELECT m.method FROM measurement m JOIN evaluation e ON e.id = m.evaluation_id
                      WHERE e.study_id = metric_context.study_id AND m.metric = metric_context.metric
                        AND m.value IS NOT NULL LIMIT 1)
                  WHERE unit = 'J'""")
