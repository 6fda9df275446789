"""Create the first tables and the views for people."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CURRENT_MEASUREMENT = """
CREATE VIEW current_measurement AS
SELECT m.id, m.evaluation_id, m.metric, m.unit, m.value, m.ci_low, m.ci_high, m.kind, m.method, m.status, m.reason,
       m.device_id, m.plan, m.started_at
FROM measurement m
WHERE m.id = (SELECT max(n.id) FROM measurement n WHERE n.evaluation_id = m.evaluation_id AND n.metric = m.metric)
"""

LAST_RUNG = """
CREATE VIEW last_rung AS
SELECT r.evaluation_id, r.epochs, r.error, r.train_loss, r.checkpoint, r.finished_at
FROM rung r
WHERE r.epochs = (SELECT max(q.epochs) FROM rung q WHERE q.evaluation_id = r.evaluation_id)
"""

OBJECTIVE_VALUE = """
CREATE VIEW objective_value AS
SELECT t.study_id, t.number AS trial, o.position, o.metric, o.direction, o.limit_value,
       CASE WHEN o.metric = 'error' THEN r.error ELSE m.value END AS value,
       CASE WHEN o.metric = 'error' THEN NULL ELSE m.ci_low END AS ci_low,
       CASE WHEN o.metric = 'error' THEN NULL ELSE m.ci_high END AS ci_high,
       CASE WHEN o.metric = 'error' THEN '1' ELSE m.unit END AS unit
FROM trial t
JOIN objective o ON o.study_id = t.study_id
LEFT JOIN last_rung r ON r.evaluation_id = t.evaluation_id AND o.metric = 'error'
LEFT JOIN current_measurement m ON m.evaluation_id = t.evaluation_id AND m.metric = o.metric
"""

PARETO = """
CREATE VIEW pareto AS
SELECT s.name AS study, p.position, p.trial, e.digest, v.metric, v.value, v.ci_low, v.ci_high, v.unit, v.direction,
       v.limit_value, f.feasible
FROM study s
JOIN front f ON f.study_id = s.id
JOIN front_member p ON p.study_id = f.study_id AND p.sequence = f.sequence
JOIN trial t ON t.study_id = p.study_id AND t.number = p.trial
JOIN evaluation e ON e.id = t.evaluation_id
JOIN objective_value v ON v.study_id = p.study_id AND v.trial = p.trial
WHERE f.sequence = (SELECT max(g.sequence) FROM front g WHERE g.study_id = f.study_id)
"""

HYPERVOLUME_HISTORY = """
CREATE VIEW hypervolume_history AS
SELECT s.name AS study, f.finished_trials, f.hypervolume, f.feasible,
       (SELECT count(*) FROM front_member p WHERE p.study_id = f.study_id AND p.sequence = f.sequence) AS members,
       f.created_at
FROM study s
JOIN front f ON f.study_id = s.id
WHERE f.sequence = (SELECT max(g.sequence) FROM front g
                    WHERE g.study_id = f.study_id AND g.finished_trials = f.finished_trials)
"""

TRIAL_OVERVIEW = """
CREATE VIEW trial_overview AS
SELECT s.name AS study, t.number AS trial, t.state, t.duplicate_of, t.reason, e.digest, r.epochs, r.error,
       (SELECT count(*) FROM objective_value v
        WHERE v.study_id = t.study_id AND v.trial = t.number
          AND ((v.direction = 'minimize' AND v.value > v.limit_value)
               OR (v.direction = 'maximize' AND v.value < v.limit_value))) AS limits_violated,
       e.measure_s,
       (SELECT coalesce(sum(q.train_s), 0) FROM rung q WHERE q.evaluation_id = e.id) AS train_s,
       t.worker, t.started_at, t.finished_at
FROM study s
JOIN trial t ON t.study_id = s.id
JOIN evaluation e ON e.id = t.evaluation_id
LEFT JOIN last_rung r ON r.evaluation_id = e.id
"""


def upgrade() -> None:
    """Tables first, in the order of their references, then the views."""
    op.create_table(
        "architecture",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_architecture"),
    )
    op.create_table(
        "device",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("device_class", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_device"),
        sa.UniqueConstraint("digest", name="uq_device_digest"),
    )
    op.create_table(
        "measurement_plan",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_measurement_plan"),
    )
    op.create_table(
        "study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("classes", sa.Integer(), nullable=False),
        sa.Column("artifacts", sa.Text(), nullable=False),
        sa.Column("numerics", sa.JSON(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint("name", name="uq_study_name"),
    )
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("measure_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"], ["architecture.digest"], name="fk_evaluation_digest_architecture"
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_evaluation_study_id_study"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
        sa.UniqueConstraint("study_id", "digest", name="uq_evaluation_study_id_digest"),
    )
    op.create_table(
        "front",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("finished_trials", sa.Integer(), nullable=False),
        sa.Column("hypervolume", sa.Double(), nullable=True),
        sa.Column("feasible", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_front_study_id_study"),
        sa.PrimaryKeyConstraint("study_id", "sequence", name="pk_front"),
    )
    op.create_table(
        "metric_context",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("device_class", sa.Text(), nullable=True),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('measured', 'counted', 'modelled')", name=op.f("ck_metric_context_kind")
        ),
        sa.ForeignKeyConstraint(
            ["plan"], ["measurement_plan.digest"], name="fk_metric_context_plan_measurement_plan"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_metric_context_study_id_study"
        ),
        sa.PrimaryKeyConstraint("study_id", "metric", name="pk_metric_context"),
    )
    op.create_table(
        "objective",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("limit_value", sa.Double(), nullable=True),
        sa.Column("reference_value", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "direction IN ('minimize', 'maximize')", name=op.f("ck_objective_direction")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_objective_study_id_study"),
        sa.PrimaryKeyConstraint("study_id", "position", name="pk_objective"),
        sa.UniqueConstraint("study_id", "metric", name="uq_objective_study_id_metric"),
    )
    op.create_table(
        "measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
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
        sa.CheckConstraint(
            "(value IS NULL) = (status NOT IN ('ok', 'noisy'))", name=op.f("ck_measurement_value")
        ),
        sa.CheckConstraint(
            "kind IN ('measured', 'counted', 'modelled')", name=op.f("ck_measurement_kind")
        ),
        sa.CheckConstraint(
            "status IN ('ok', 'noisy', 'contended', 'throttled', 'unavailable')",
            name=op.f("ck_measurement_status"),
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name="fk_measurement_device_id_device"
        ),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name="fk_measurement_evaluation_id_evaluation"
        ),
        sa.ForeignKeyConstraint(
            ["plan"], ["measurement_plan.digest"], name="fk_measurement_plan_measurement_plan"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_measurement"),
        sa.UniqueConstraint(
            "evaluation_id",
            "metric",
            "started_at",
            name="uq_measurement_evaluation_id_metric_started_at",
        ),
    )
    op.create_table(
        "rung",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("epochs", sa.Double(), nullable=False),
        sa.Column("error", sa.Double(), nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=True),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("train_s", sa.Double(), nullable=False),
        sa.Column("validation_s", sa.Double(), nullable=False),
        sa.Column("numerics", sa.JSON(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("error >= 0 AND error <= 1", name=op.f("ck_rung_error")),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name="fk_rung_evaluation_id_evaluation"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "epochs", name="pk_rung"),
    )
    op.create_table(
        "trial",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("duplicate_of", sa.Integer(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("as_proposed", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sampler_state", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'complete', 'stopped', 'failed')", name=op.f("ck_trial_state")
        ),
        sa.CheckConstraint("duplicate_of < number", name=op.f("ck_trial_duplicate_of")),
        sa.CheckConstraint("number >= 0", name=op.f("ck_trial_number")),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name="fk_trial_evaluation_id_evaluation"
        ),
        sa.ForeignKeyConstraint(
            ["study_id", "duplicate_of"],
            ["trial.study_id", "trial.number"],
            name="fk_trial_study_id_duplicate_of_trial",
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_trial_study_id_study"),
        sa.PrimaryKeyConstraint("study_id", "number", name="pk_trial"),
    )
    op.create_index("ix_trial_evaluation_id", "trial", ["evaluation_id"], unique=False)
    op.create_index(
        "uq_trial_original",
        "trial",
        ["evaluation_id"],
        unique=True,
        sqlite_where=sa.text("duplicate_of IS NULL"),
        postgresql_where=sa.text("duplicate_of IS NULL"),
    )
    op.create_table(
        "artifact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id", "trial"],
            ["trial.study_id", "trial.number"],
            name="fk_artifact_study_id_trial_trial",
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_artifact_study_id_study"),
        sa.PrimaryKeyConstraint("id", name="pk_artifact"),
        sa.UniqueConstraint("study_id", "path", name="uq_artifact_study_id_path"),
    )
    op.create_table(
        "front_member",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id", "sequence"],
            ["front.study_id", "front.sequence"],
            name="fk_front_member_study_id_sequence_front",
        ),
        sa.ForeignKeyConstraint(
            ["study_id", "trial"],
            ["trial.study_id", "trial.number"],
            name="fk_front_member_study_id_trial_trial",
        ),
        sa.PrimaryKeyConstraint("study_id", "sequence", "position", name="pk_front_member"),
        sa.UniqueConstraint(
            "study_id", "sequence", "trial", name="uq_front_member_study_id_sequence_trial"
        ),
    )
    for view in (
        CURRENT_MEASUREMENT,
        LAST_RUNG,
        OBJECTIVE_VALUE,
        PARETO,
        HYPERVOLUME_HISTORY,
        TRIAL_OVERVIEW,
    ):
        op.execute(view)
