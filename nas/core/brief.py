"""Recipes of brief training, to be compared by how well they rank networks for their price."""

import hashlib
import json
from dataclasses import asdict, dataclass, field

from nas.core.checks import make_floats, require
from nas.core.study import RungSpec, TrainingSpec, check_rungs


@dataclass(frozen=True, kw_only=True)
class BriefRecipe:
    """A brief training and how it is judged.

    The last of the `rungs` judges the network; earlier ones let the resolution grow. `train_images`
    and `judges` limit the images for training and for judging, None takes all. `average` is the
    decay of a running mean of the weights, which is judged in place of the weights; 0 takes the
    weights. With `flips`, an image is judged together with its mirror image. Without `one_cycle`,
    the learning rate stays at its highest. With `common`, all networks have the same order, shifts
    and flips of the training images.
    """

    rungs: tuple[RungSpec, ...]
    training: TrainingSpec = field(default_factory=TrainingSpec)
    train_images: int | None = None
    judges: int | None = None
    average: float = 0.0
    flips: bool = False
    one_cycle: bool = True
    common: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rungs", tuple(self.rungs))
        check_rungs(self.rungs)
        for name in ("train_images", "judges"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} must be at least 1, not {value}")
        make_floats(self, "average")
        require(0 <= self.average < 1, f"average must be in [0, 1), not {self.average}")

    @property
    def digest(self) -> str:
        """The first twelve hexadecimal digits of a SHA-256, equal for equal recipes."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
