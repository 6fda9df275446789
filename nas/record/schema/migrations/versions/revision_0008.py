"""Add the energy of measuring, which was part of the energy of all work."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0007."""
    op.add_column("evaluation", sa.Column("measuring_j", sa.Double(), nullable=True))
