"""Add trainings with other seeds (`replicate_rung`) and by a full recipe (`final_training`)."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0002."""
    op.create_table(
        "replicate_rung",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epochs", sa.Double(), nullable=False),
        sa.Column("error", sa.Double(), nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=True),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("train_s", sa.Double(), nullable=False),
        sa.Column("validation_s", sa.Double(), nullable=False),
        sa.Column("numerics", sa.JSON(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("error >= 0 AND error <= 1", name=op.f("ck_replicate_rung_error")),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name="fk_replicate_rung_evaluation_id_evaluation"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "seed", "epochs", name="pk_replicate_rung"),
    )
    op.create_table(
        "final_training",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("recipe_digest", sa.Text(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("test_images", sa.BigInteger(), nullable=False),
        sa.Column("epochs", sa.Double(), nullable=False),
        sa.Column("error", sa.Double(), nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=True),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("train_s", sa.Double(), nullable=False),
        sa.Column("validation_s", sa.Double(), nullable=False),
        sa.Column("numerics", sa.JSON(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("error >= 0 AND error <= 1", name=op.f("ck_final_training_error")),
        sa.ForeignKeyConstraint(
            ["digest"], ["architecture.digest"], name="fk_final_training_digest_architecture"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_final_training_study_id_study"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_final_training"),
        sa.UniqueConstraint(
            "study_id",
            "network",
            "recipe_digest",
            "seed",
            name="uq_final_training_study_id_network_recipe_digest_seed",
        ),
    )
