"""Add details to measurements, and a table of measurements outside any study."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0001."""
    op.add_column("measurement", sa.Column("details", sa.JSON(), nullable=True))
    op.create_table(
        "single_measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("ci_low", sa.Double(), nullable=True),
        sa.Column("ci_high", sa.Double(), nullable=True),
        sa.Column("samples", sa.JSON(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=True),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("details", sa.JSON(), nullable=True),
        sa.CheckConstraint(
            "(value IS NULL) = (status NOT IN ('ok', 'noisy'))",
            name=op.f("ck_single_measurement_value"),
        ),
        sa.CheckConstraint(
            "kind IN ('measured', 'counted', 'modelled')", name=op.f("ck_single_measurement_kind")
        ),
        sa.CheckConstraint(
            "status IN ('ok', 'noisy', 'contended', 'throttled', 'unavailable')",
            name=op.f("ck_single_measurement_status"),
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name="fk_single_measurement_device_id_device"
        ),
        sa.ForeignKeyConstraint(
            ["plan"],
            ["measurement_plan.digest"],
            name="fk_single_measurement_plan_measurement_plan",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_single_measurement"),
    )
    op.create_index("ix_single_measurement_target", "single_measurement", ["target"], unique=False)
