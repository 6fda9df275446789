"""Add the time of the engine.

These are the seconds of a trial without work on its device and without waiting for it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0006."""
    op.add_column("evaluation", sa.Column("engine_s", sa.Double(), nullable=True))
