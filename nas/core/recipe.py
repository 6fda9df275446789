"""Final training: the full recipe for a network of the search, and the result of one training.

The search trains briefly and validates on images held out of training. A final training is long,
uses all training images, and is tested once on the test images, when it is finished.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from nas.core.architecture import Architecture
from nas.core.checks import make_floats, require, require_whole
from nas.core.large import LargeSpec
from nas.core.study import TrainingSpec
from nas.core.trial import Rung, Trial

OPTIONAL_KEYS = frozenset({"large", "start"})
"""Keys that a recipe without them does not have, so that older recipes keep their digests."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of full training: `epochs` in one learning-rate cycle, by `training`.

    `training` has stronger augmentation than the search. `average` is the decay of the running mean
    of the weights, which is tested and stored; 0 keeps the weights themselves. The mean never
    reaches back further than about a tenth of the training. `teacher` is the number of a trial
    whose finally trained network teaches. `distillation` is the share of the loss that compares
    with the teacher's answers, which are softened by `temperature`.

    `large` trains on other data than the study's, which is read from files. `start` is the SHA-256
    (hex) of the file of weights that the training starts from, None for random weights.

    Defaults follow common practice for small networks on CIFAR; they were not tuned.
    """

    epochs: float = 30.0
    training: TrainingSpec = field(default_factory=lambda: TrainingSpec(translate=4, cutout=8))
    average: float = 0.999
    teacher: int | None = None
    distillation: float = 0.5
    temperature: float = 4.0
    large: LargeSpec | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        require_whole(optional=True, teacher=self.teacher)
        make_floats(self, "epochs", "average", "distillation", "temperature")
        require(self.epochs > 0, f"epochs must be positive, not {self.epochs}")
        require(0 <= self.average < 1, f"average must be in [0, 1), not {self.average}")
        require(
            0 < self.distillation <= 1, f"distillation must be in (0, 1], not {self.distillation}"
        )
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")
        if self.large is not None:
            require(self.teacher is None, "a recipe with `large` takes large.teacher, not teacher")
            batch, parts = self.training.batch_size, self.large.micro_batches
            require(
                batch % parts == 0,
                f"training.batch_size must be a multiple of large.micro_batches, which is {parts}, "
                f"not {batch}",
            )
            require(
                not self.large.mixes or batch // parts % 2 == 0,
                f"mixup and cutmix need an even number of images in a micro-batch, not "
                f"{batch // parts}",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {k: v for k, v in values.items() if v is not None or k not in OPTIONAL_KEYS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the recipe that `to_dict` wrote."""
        parts: dict[str, Any] = {"training": TrainingSpec(**values["training"])}
        if "large" in values:
            parts["large"] = LargeSpec(**values["large"])
        return cls(**{**values, **parts})

    @property
    def digest(self) -> str:
        """SHA-256 (hex), equal for trainings that can be compared."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """One finished training.

    `network` is the digest of a trial's architecture, or the name of another network. A named
    network has the `digest` of its architecture if it is an OSA network.

    `reached` holds epochs, figures on the `test_images`, seconds (testing as `validation_s`) and
    the file of the weights. `energy_j` is the energy of training and testing, None if it was not
    measured.
    """

    network: str
    digest: str | None
    recipe: Recipe
    seed: int
    test_images: int
    reached: Rung
    energy_j: float | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network to train: that of a trial, or another one by its name.

    `architecture` is None for networks that are not OSA networks.
    """

    name: str
    architecture: Architecture | None
    trial: Trial | None = None

    @property
    def network(self) -> str:
        """The name under which its trainings are recorded."""
        return self.trial.architecture.digest if self.trial else self.name
