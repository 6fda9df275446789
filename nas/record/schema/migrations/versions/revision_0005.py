"""Add an index with all columns that the status of a study reads from its trials.

The long rows of the trials need not be read for it.
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
