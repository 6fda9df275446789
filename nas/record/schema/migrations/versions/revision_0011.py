"""What the names in a study file stood for when the study began."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade from 0010."""
    op.add_column("study", sa.Column("identity", sa.JSON(), nullable=True))
