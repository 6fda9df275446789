"""The evaluator `detector`: average precision as an objective of a study.

The study's networks are the bodies of one detection system, which is trained briefly on images with
boxes and judged on others. All of it is that of `nas.detection`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nas.core.checks import require, require_whole
from nas.core.recipe import Recipe
from nas.core.study import Direction, StudySpec, TrainedMetric
from nas.detection.systems import FINAL_AVERAGE, check_options, find_system
from nas.detection.training import check_augmentation
from nas.searching.evaluators import EvaluatorPlugin

PARTS = ("detector", "network", "backbone")
"""What a study measures: all with the post-processing; body, neck and heads; or the body alone."""
FINAL_EPOCHS = 60
"""Epochs of final training by default."""


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """The detector of a study.

    `system` is a name in `nas.detection.systems`, and `image_size` the side of its images in
    pixels, by default the system's. `options` are the widths of its neck and heads. `augment` is
    one of none, flip and ssd. `measure` is the part that is measured: `detector` with its
    post-processing, `network` without, or `backbone`. In systems that are no boxes of priors, the
    network is the body with its pyramid.
    """

    system: str = "dsod300"
    image_size: int | None = None
    options: Mapping[str, int] = field(default_factory=dict)
    augment: str | None = None
    measure: str = "network"

    def __post_init__(self) -> None:
        system = find_system(self.system)
        require_whole(optional=True, image_size=self.image_size)
        object.__setattr__(self, "image_size", self.image_size or system.image_size)
        object.__setattr__(self, "augment", self.augment or system.augment)
        check_options(self.system, self.options)
        check_augmentation(str(self.augment))
        require(self.measure in PARTS, f"measure must be {', '.join(PARTS)}, not {self.measure!r}")

    def defaults(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the data set of boxes, the system's recipe, and the size of the images."""
        training = {
            **asdict(find_system(self.system).training),
            "precision": "fp32",
        }
        return {
            "data": {"dataset": "boxes"},
            "training": training,
            "measurement": {"image_size": self.image_size},
        }

    @staticmethod
    def of(spec: StudySpec) -> "DetectorSettings":
        """Return the settings of a study. Raises `InvalidValueError`."""
        return DetectorSettings(**spec.evaluator_settings)


def final_recipe(spec: StudySpec) -> Recipe:
    """Return the study's training for longer, with a running mean of the weights."""
    return Recipe(epochs=FINAL_EPOCHS, training=spec.training, average=FINAL_AVERAGE)


def _share(name: str) -> TrainedMetric:
    return TrainedMetric(name=name, direction=Direction.MAXIMIZE)


BOX_AP, BOX_AP50, MASK_AP = _share("box_ap"), _share("box_ap50"), _share("mask_ap")
"""COCO's average precision of boxes over ten overlaps, of boxes at an overlap of 0.5, and of masks
over ten overlaps. The last one is given by systems with masks.
"""

DETECTOR = EvaluatorPlugin(
    search=f"{__name__}.trials:DetectorEvaluator",
    certify=f"{__name__}.trials:DetectorCertifier",
    replicate=f"{__name__}.trials:DetectorReplicator",
    final=f"{__name__}.trials:DetectorFinal",
    trained=(BOX_AP, BOX_AP50, MASK_AP),
    settings=DetectorSettings,
    final_recipe=final_recipe,
    network=f"{__name__}.trials:network",
    measured=f"{__name__}.trials:measured_network",
    export=f"{__name__}.export:export_trial",
    holds=f"{__name__}.export:holds_trial",
)
