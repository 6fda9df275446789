"""Studies, trials and figures with awkward numbers, for tests of databases."""

import math
from dataclasses import replace

from nas.core.architecture import Architecture, OsaStage
from nas.core.measurement import Device, Measurement, MeasurementPlan
from nas.core.study import Direction, Objective, StudySpec
from nas.core.trial import Rung, Trial

PLAN = MeasurementPlan()
DEVICE = Device(
    kind="cpu",
    name="Two cores",
    identity="machine-1",
    device_class="two cores, 1 thread",
    details={"cores": 2, "ghz": 2.1, "flags": ["avx2", "fma"]},
)
AWKWARD_FLOATS = (
    0.1,
    1 / 3,
    math.pi,
    5e-324,
    1.7976931348623157e308,
    123456789.12345678,
    2.0**53 + 2,
    1e-7,
    3.0,
)
"""Floats that lose bits if they are rounded, and a whole number that may return as an integer."""


def spec(name: str = "first", **changes: object) -> StudySpec:
    """Make a study of two objectives."""
    objectives = (
        Objective(metric="error", reference=0.5),
        Objective(metric="latency", direction=Direction.MINIMIZE, limit=0.004),
    )
    return replace(StudySpec(name=name, space="osa_tiny", objectives=objectives), **changes)  # type: ignore[arg-type]


def architecture(width: int = 16) -> Architecture:
    """Make a small network; another width makes another network."""
    stage = OsaStage(mid_channels=8, out_channels=width, num_layers=2)
    return Architecture(stem_channels=(8, 8, 16), stages=(stage, stage, stage))


def trial(number: int, width: int | None = None, **changes: object) -> Trial:
    """Make a running trial; without a width each number has its own architecture."""
    network = architecture(16 + number if width is None else width)
    return replace(
        Trial(
            number=number,
            params={"stage2.out_channels": 16, "stem": "cifar", "residual": False},
            architecture=network,
            seed=2**31 - 1 - number,
        ),
        **changes,  # type: ignore[arg-type]
    )


def latency(value: float = 0.001, **changes: object) -> Measurement:
    """Make a measured latency whose interval and samples are awkward numbers."""
    return replace(
        Measurement(
            metric="latency",
            unit="s",
            value=value,
            ci_low=0.1,
            ci_high=1 / 3,
            samples=AWKWARD_FLOATS,
            method="blocks",
            device=DEVICE,
            plan=PLAN,
        ),
        **changes,  # type: ignore[arg-type]
    )


def rung(epochs: float = 1.0, **changes: object) -> Rung:
    """Make a rung whose figures are awkward numbers."""
    return replace(
        Rung(
            epochs=epochs,
            metrics={"error": 1 / 3},
            train_loss=math.pi,
            images=2**40,
            train_s=0.1,
            validation_s=0.7,
            numerics={"precision": "bf16", "channels_last": True, "seconds": [0.1, 0.2]},
            checkpoint="abc/1.safetensors",
        ),
        **changes,  # type: ignore[arg-type]
    )
