"""Add the waiting time and the energy of the work on an architecture."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0003."""
    op.add_column("evaluation", sa.Column("waiting_s", sa.Double(), nullable=True))
    op.add_column("evaluation", sa.Column("energy_j", sa.Double(), nullable=True))
