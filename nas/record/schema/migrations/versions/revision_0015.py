"""Name the origin of trials whose evaluation was made elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade from 0014."""
    op.add_column("trial", sa.Column("origin", sa.Text(), nullable=True))
