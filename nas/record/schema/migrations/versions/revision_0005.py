"""An index that holds what a study's status asks of its trials, so that their long rows are not
read for it.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0004."""
    op.create_index(
        "ix_trial_progress",
        "trial",
        ["study_id", "state", "duplicate_of", "started_at", "finished_at"],
    )
