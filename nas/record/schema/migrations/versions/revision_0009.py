"""Add the energy of trainings with other seeds."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0008."""
    op.add_column("replicate_rung", sa.Column("energy_j", sa.Double(), nullable=True))
