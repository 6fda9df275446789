"""Add baselines: networks beside a search, measured and trained as its trials are."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade from 0013."""
    op.create_table(
        "baseline",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("measure_s", sa.Double(), nullable=False),
        sa.Column("waiting_s", sa.Double(), nullable=False),
        sa.Column("energy_j", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_baseline_study_id_study"),
        sa.PrimaryKeyConstraint("id", name="pk_baseline"),
        sa.UniqueConstraint("study_id", "name", name="uq_baseline_study_id_name"),
    )
    _create_measurements()
    op.create_table(
        "baseline_rung",
        sa.Column("baseline_id", sa.Integer(), nullable=False),
        sa.Column("epochs", sa.Double(), nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=True),
        sa.Column("images", sa.BigInteger(), nullable=True),
        sa.Column("train_s", sa.Double(), nullable=True),
        sa.Column("validation_s", sa.Double(), nullable=True),
        sa.Column("numerics", sa.JSON(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["baseline_id"], ["baseline.id"], name="fk_baseline_rung_baseline_id_baseline"
        ),
        sa.PrimaryKeyConstraint("baseline_id", "epochs", name="pk_baseline_rung"),
    )
    op.create_table(
        "baseline_rung_metric",
        sa.Column("baseline_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epochs", sa.Double(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["baseline_id", "epochs"],
            ["baseline_rung.baseline_id", "baseline_rung.epochs"],
            name="fk_baseline_rung_metric_baseline_rung",
        ),
        sa.PrimaryKeyConstraint("baseline_id", "epochs", "metric", name="pk_baseline_rung_metric"),
    )


def _create_measurements() -> None:
    op.create_table(
        "baseline_measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("baseline_id", sa.Integer(), nullable=False),
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
            name=op.f("ck_baseline_measurement_value"),
        ),
        sa.CheckConstraint(
            "kind IN ('measured', 'counted', 'modelled')",
            name=op.f("ck_baseline_measurement_kind"),
        ),
        sa.CheckConstraint(
            "status IN ('ok', 'noisy', 'contended', 'throttled', 'unavailable')",
            name=op.f("ck_baseline_measurement_status"),
        ),
        sa.ForeignKeyConstraint(
            ["baseline_id"], ["baseline.id"], name="fk_baseline_measurement_baseline_id_baseline"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name="fk_baseline_measurement_device_id_device"
        ),
        sa.ForeignKeyConstraint(
            ["plan"],
            ["measurement_plan.digest"],
            name="fk_baseline_measurement_plan_measurement_plan",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_baseline_measurement"),
        sa.UniqueConstraint(
            "baseline_id",
            "metric",
            "started_at",
            name="uq_baseline_measurement_baseline_id_metric_started_at",
        ),
    )
