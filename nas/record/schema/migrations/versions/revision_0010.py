"""Add the energy of the engine and of final trainings."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0009."""
    op.add_column("evaluation", sa.Column("engine_j", sa.Double(), nullable=True))
    op.add_column("final_training", sa.Column("energy_j", sa.Double(), nullable=True))
