"""Final training: the full recipe of a network that was found, and what one training by it gave.

The search trains briefly and judges on images held back from training; a final training is long,
uses all training images, and is judged once on the test images, when it is finished.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from nas.core.study import TrainingSpec, require
from nas.core.trial import Rung


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train fully: `epochs` in one learning-rate cycle, by `training` (stronger augmentation
    than the search's).

    `average` is the decay of the running mean of the weights, which is what is judged and kept; 0
    keeps the weights themselves. The mean never reaches back further than about a tenth of the
    training. `teacher` is a trial whose finally trained network teaches: `distillation` is the
    share of the loss that compares with its answers, softened by `temperature`.

    Defaults follow common practice for small networks on CIFAR; they were not tuned.
    """

    epochs: float = 30.0
    training: TrainingSpec = field(default_factory=lambda: TrainingSpec(translate=4, cutout=8))
    average: float = 0.999
    teacher: int | None = None
    distillation: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        require(self.epochs > 0, f"epochs must be positive, not {self.epochs}")
        require(0 <= self.average < 1, f"average must be in [0, 1), not {self.average}")
        require(
            0 < self.distillation <= 1, f"distillation must be in (0, 1], not {self.distillation}"
        )
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The recipe that `to_dict` wrote."""
        return cls(**{**values, "training": TrainingSpec(**values["training"])})

    @property
    def digest(self) -> str:
        """SHA-256 (hex): trainings by recipes of equal digests are comparable."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """One finished training. `network` is the digest of a trial's architecture, or the name of
    another network, then with its architecture's `digest` where it has one.

    `reached` are epochs, error on the `test_images`, seconds (judging as `validation_s`) and the
    weights' file; `energy_j` are the joules that both drew, None where nobody measured them.
    """

    network: str
    digest: str | None
    recipe: Recipe
    seed: int
    test_images: int
    reached: Rung
    energy_j: float | None = None
