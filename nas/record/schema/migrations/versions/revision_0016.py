"""Let studies be hidden from lists."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade from 0015."""
    op.add_column("study", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
