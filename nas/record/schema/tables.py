"""The present tables of the record. `docs/database.md` explains them to users of SQL.

Keys are natural if possible: a trial is (study, number). Uniqueness prevents bugs. An architecture
is evaluated once in a study, a rung is reached once, and a figure is recorded once. A repeated
measurement is a new row of `measurement`, and the row with the largest id is the current one. Rows
are deleted only with their whole study.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import SchemaItem

from nas.core.measurement import Kind, Status
from nas.core.study import Direction
from nas.core.trial import TrialState
from nas.record.schema.types import Real, UtcDateTime, one_of

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

STUDY = Table(
    "study",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", JSON, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("classes", Integer, nullable=False),
    # folder to which the paths in `artifact` are relative
    Column("artifacts", Text, nullable=False),
    Column("numerics", JSON, nullable=False),
    # the parts that the names in `spec` stood for; NULL in older rows
    Column("identity", JSON(none_as_null=True)),
    Column("version", Text, nullable=False),  # of the osa-nas that began the study
    Column("created_at", UtcDateTime, nullable=False),
    Column("archived_at", UtcDateTime),  # NULL unless the study is hidden from lists
)

OBJECTIVE = Table(
    "objective",
    METADATA,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("metric", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("limit_value", Real),
    Column("reference_value", Real),
    Column("unit", Text),  # of a trained metric; NULL for the others, whose figures have units
    Column("device", Text),  # that the objective names; NULL for the study's own
    UniqueConstraint("study_id", "metric", "device"),
    one_of("direction", Direction),
)

ARCHITECTURE = Table(
    "architecture",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("spec", JSON, nullable=False),  # canonical form: settings without effect are merged
)

EVALUATION = Table(
    "evaluation",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("digest", ForeignKey("architecture.digest"), nullable=False),
    Column("measure_s", Real, nullable=False),
    Column("waiting_s", Real),  # waiting of workers for the device; NULL in older rows
    Column("energy_j", Real),  # of measuring, training and validating; NULL without a counter
    # `epochs`, `train_s` and `validation_s` are the sums over the rungs
    Column("epochs", Real, nullable=False, server_default="0"),
    Column("train_s", Real, nullable=False, server_default="0"),
    Column("validation_s", Real, nullable=False, server_default="0"),
    # part of `energy_j` for measuring; NULL if `energy_j` is NULL, and in older rows
    Column("measuring_j", Real),
    # duration of the trial beyond the times above; NULL until it ends, and in older rows
    Column("engine_s", Real),
    # energy of the device beyond `energy_j`; NULL without a counter, and in older rows
    Column("engine_j", Real),
    UniqueConstraint("study_id", "digest"),
)

TRIAL = Table(
    "trial",
    METADATA,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("evaluation_id", ForeignKey("evaluation.id"), nullable=False, index=True),
    Column("duplicate_of", Integer),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("as_proposed", JSON(none_as_null=True)),  # the architecture, NULL if it is canonical
    Column("sampler_state", JSON, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("worker", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("origin", Text),  # of an evaluation that was made elsewhere, such as `first:12`
    ForeignKeyConstraint(["study_id", "duplicate_of"], ["trial.study_id", "trial.number"]),
    CheckConstraint("number >= 0", name="number"),
    CheckConstraint("duplicate_of < number", name="duplicate_of"),
    one_of("state", TrialState),
)

Index(
    "uq_trial_original",
    TRIAL.c.evaluation_id,
    unique=True,
    sqlite_where=text("duplicate_of IS NULL"),
    postgresql_where=text("duplicate_of IS NULL"),
)
Index(
    "ix_trial_progress",
    *(
        TRIAL.c[name]
        for name in (  # the status of a study reads only these, because the rows are long
            "study_id",
            "state",
            "duplicate_of",
            "started_at",
            "finished_at",
        )
    ),
)


def _training_columns() -> list[SchemaItem]:
    """Return the columns of a trained and validated network, except the epochs.

    NULL stands for an unknown value, such as a loss that is not a number.
    """
    return [
        Column("train_loss", Real),
        Column("images", BigInteger),
        Column("train_s", Real),
        Column("validation_s", Real),
        Column("numerics", JSON, nullable=False),
        Column("checkpoint", Text),
        Column("finished_at", UtcDateTime, nullable=False),
    ]


def _metric_columns() -> list[SchemaItem]:
    """Return the columns of a figure that training gave, beside the key of its network."""
    return [Column("metric", Text, primary_key=True), Column("value", Real, nullable=False)]


RUNG = Table(
    "rung",
    METADATA,
    Column("evaluation_id", ForeignKey("evaluation.id"), primary_key=True),
    Column("epochs", Real, primary_key=True),
    *_training_columns(),
)

RUNG_METRIC = Table(
    "rung_metric",
    METADATA,
    Column("evaluation_id", Integer, primary_key=True, autoincrement=False),
    Column("epochs", Real, primary_key=True),
    *_metric_columns(),
    ForeignKeyConstraint(
        ["evaluation_id", "epochs"],
        ["rung.evaluation_id", "rung.epochs"],
        name="fk_rung_metric_rung",
    ),
)
"""Figures of a rung on the validation images."""

REPLICATE_RUNG = Table(
    "replicate_rung",
    METADATA,
    Column("evaluation_id", ForeignKey("evaluation.id"), primary_key=True),
    Column("seed", BigInteger, primary_key=True, autoincrement=False),
    Column("epochs", Real, primary_key=True),
    *_training_columns(),
    Column("energy_j", Real),  # since the previous rung
)
"""Rungs of an evaluation's network, trained by the same recipe with another seed."""

REPLICATE_RUNG_METRIC = Table(
    "replicate_rung_metric",
    METADATA,
    Column("evaluation_id", Integer, primary_key=True, autoincrement=False),
    Column("seed", BigInteger, primary_key=True, autoincrement=False),
    Column("epochs", Real, primary_key=True),
    *_metric_columns(),
    ForeignKeyConstraint(
        ["evaluation_id", "seed", "epochs"],
        ["replicate_rung.evaluation_id", "replicate_rung.seed", "replicate_rung.epochs"],
        name="fk_replicate_rung_metric_replicate_rung",
    ),
)
"""Figures of such a rung on the validation images."""

FINAL_TRAINING = Table(
    "final_training",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("network", Text, nullable=False),  # digest of a trial's architecture, or another name
    Column("digest", ForeignKey("architecture.digest")),  # NULL for networks of other families
    Column("recipe_digest", Text, nullable=False),  # SHA-256 of the recipe
    Column("recipe", JSON, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("test_images", BigInteger, nullable=False),
    Column("epochs", Real, nullable=False),
    *_training_columns(),
    # of training and testing; NULL without a counter, and in older rows
    Column("energy_j", Real),
    UniqueConstraint("study_id", "network", "recipe_digest", "seed"),
)
"""Networks trained by a full recipe on all training images."""

FINAL_TRAINING_METRIC = Table(
    "final_training_metric",
    METADATA,
    Column(
        "final_training_id",
        ForeignKey("final_training.id", name="fk_final_training_metric_final_training"),
        primary_key=True,
    ),
    *_metric_columns(),
)
"""Figures of a final training on the test images."""

DEVICE = Table(
    "device",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),  # SHA-256 of the next columns
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("device_class", Text, nullable=False),
    Column("details", JSON, nullable=False),
)

MEASUREMENT_PLAN = Table(
    "measurement_plan",
    METADATA,
    Column("digest", Text, primary_key=True),  # SHA-256 of the spec
    Column("spec", JSON, nullable=False),
)


def _measurement_columns() -> list[SchemaItem]:
    """Return the columns of a measurement and their constraints."""
    return [
        Column("metric", Text, nullable=False),
        Column("unit", Text, nullable=False),
        Column("value", Real),
        Column("ci_low", Real),
        Column("ci_high", Real),
        Column("samples", JSON, nullable=False),
        Column("kind", Text, nullable=False),
        Column("method", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("device_id", ForeignKey("device.id")),
        Column("plan", ForeignKey("measurement_plan.digest")),
        Column("started_at", UtcDateTime, nullable=False),
        Column("details", JSON(none_as_null=True)),  # NULL in older rows
        one_of("kind", Kind),
        one_of("status", Status),
        CheckConstraint("(value IS NULL) = (status NOT IN ('ok', 'noisy'))", name="value"),
    ]


MEASUREMENT = Table(
    "measurement",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("evaluation_id", ForeignKey("evaluation.id"), nullable=False),
    *_measurement_columns(),
    UniqueConstraint("evaluation_id", "metric", "started_at"),
)

BASELINE = Table(
    "baseline",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("name", Text, nullable=False),  # as the study file has it
    Column("digest", Text, nullable=False),  # of the architecture, or of a foreign network's name
    Column("measure_s", Real, nullable=False),
    Column("waiting_s", Real, nullable=False),
    Column("energy_j", Real),  # of measuring, training and validating; NULL without a counter
    UniqueConstraint("study_id", "name"),
)
"""Networks beside a search, measured and trained as its trials are."""

BASELINE_MEASUREMENT = Table(
    "baseline_measurement",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("baseline_id", ForeignKey("baseline.id"), nullable=False),
    *_measurement_columns(),
    UniqueConstraint("baseline_id", "metric", "started_at"),
)

BASELINE_RUNG = Table(
    "baseline_rung",
    METADATA,
    Column("baseline_id", ForeignKey("baseline.id"), primary_key=True),
    Column("epochs", Real, primary_key=True),
    *_training_columns(),
)

BASELINE_RUNG_METRIC = Table(
    "baseline_rung_metric",
    METADATA,
    Column("baseline_id", Integer, primary_key=True, autoincrement=False),
    Column("epochs", Real, primary_key=True),
    *_metric_columns(),
    ForeignKeyConstraint(
        ["baseline_id", "epochs"],
        ["baseline_rung.baseline_id", "baseline_rung.epochs"],
        name="fk_baseline_rung_metric_baseline_rung",
    ),
)

SINGLE_MEASUREMENT = Table(
    "single_measurement",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("target", Text, nullable=False),  # name of the measured network, as the user gave it
    Column("digest", Text),  # of the architecture, NULL for networks of other families
    *_measurement_columns(),
    Index(None, "target"),
)
"""Measurements outside any study, such as those of `nas measure`."""

METRIC_CONTEXT = Table(
    "metric_context",
    METADATA,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("unit", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("device_class", Text),
    Column("plan", ForeignKey("measurement_plan.digest")),
    Column("method", Text),  # only of energy, where methods differ more than networks
    one_of("kind", Kind),
)
"""Properties that all figures of a metric in a study share. The first figure sets them."""

FRONT = Table(
    "front",
    METADATA,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("finished_trials", Integer, nullable=False),
    Column("hypervolume", Real),
    Column("feasible", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

FRONT_MEMBER = Table(
    "front_member",
    METADATA,
    Column("study_id", Integer, primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("trial", Integer, nullable=False),
    ForeignKeyConstraint(["study_id", "sequence"], ["front.study_id", "front.sequence"]),
    ForeignKeyConstraint(["study_id", "trial"], ["trial.study_id", "trial.number"]),
    UniqueConstraint("study_id", "sequence", "trial"),
)

ARTIFACT = Table(
    "artifact",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("path", Text, nullable=False),  # relative to the study's artifact folder
    Column("trial", Integer),
    Column("kind", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["study_id", "trial"], ["trial.study_id", "trial.number"]),
    UniqueConstraint("study_id", "path"),
)
