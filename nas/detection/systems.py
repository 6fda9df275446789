"""The detectors that can be trained by name, and a trained one as a folder.

The folder holds `detector.json` (system, architecture, classes, normalisation, recipe) and
`weights.safetensors`.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

from torch import nn

from nas.core.architecture import Architecture
from nas.core.errors import (
    MALFORMED,
    CorruptFileError,
    InvalidValueError,
    UnknownNameError,
    WriteError,
)
from nas.core.recipe import Recipe
from nas.core.study import AutoPrecision, TrainingSpec
from nas.detection.adapters import fcos
from nas.detection.dsod import dsod
from nas.detection.features import MEAN, STD, Features, Source, check_stride
from nas.detection.group_norm import mask_rcnn_gn
from nas.detection.refinedet import refinedet
from nas.export import Bundle
from nas.measuring.targets import FindTrial, find_architecture
from nas.training import read_checkpoint

FORMAT = "osa-nas detector 1"
DESCRIPTION, WEIGHTS = "detector.json", "weights.safetensors"
PART_FILE = "detector.part"
"""The description while it is written."""
FINAL_AVERAGE = 0.99
"""Decay of the running mean of the weights in a full training."""
MAX_ASPECT = 5 / 3
"""Longest side of an image of Mask R-CNN and FCOS, as a multiple of the shorter side."""


def _training(learning_rate: float, batch_size: int) -> TrainingSpec:
    """Return the settings of SGD, without the augmentation and the smoothing of classification."""
    return TrainingSpec(
        learning_rate=learning_rate,
        batch_size=batch_size,
        label_smoothing=0.0,
        translate=0,
        warmup=0.1,
        precision=AutoPrecision.FP32,
        channels_last=False,
    )


@dataclass(frozen=True, kw_only=True)
class System:
    """A kind of detector.

    `build` takes a network, the number of classes, the image's side and options. `options` are the
    names and defaults of its widths, and `augment` is the augmentation by default.
    """

    build: Callable[..., nn.Module]
    image_size: int
    training: TrainingSpec
    options: Mapping[str, int] = field(default_factory=dict)
    augment: str = "flip"
    needs_masks: bool = False


def _dsod(source: Source, classes: int, side: int, down: int = 0) -> nn.Module:
    return dsod(source, classes, image_size=side, downs=down or None)


def _refinedet(source: Source, classes: int, side: int, **widths: int) -> nn.Module:
    return refinedet(source, classes, image_size=side, **widths)


def _mask_rcnn(source: Source, classes: int, side: int, **options: int) -> nn.Module:
    regions = options.pop("regions")
    detector: nn.Module = mask_rcnn_gn(
        source,
        classes,
        min_size=side,
        max_size=math.ceil(side * MAX_ASPECT),
        box_batch_size_per_image=regions,
        **options,
    )
    return detector


def _fcos(source: Source, classes: int, side: int, width: int) -> nn.Module:
    """Build FCOS with an unused class 0, so that labels are those of the other systems.

    Its heads normalise 32 groups of channels, on levels of one cell too, where a group of one
    channel has no variance.
    """
    if width % 32 or width < 64:
        raise InvalidValueError(f"the width of fcos must be a multiple of 32 from 64, not {width}")
    most = math.ceil(side * MAX_ASPECT)
    detector = fcos(source, classes + 1, channels=width, min_size=side, max_size=most)
    check_stride(cast("Features", detector.get_submodule("backbone.features")))
    return detector


REFINEDET = {"width": 256, "predictor_width": 1024, "extra": 512}
SYSTEMS: Mapping[str, System] = {
    "dsod300": System(
        build=_dsod, image_size=300, training=_training(0.02, 8), options={"down": 0}, augment="ssd"
    ),
    "refinedet320": System(
        build=_refinedet,
        image_size=320,
        training=_training(0.01, 8),
        options=REFINEDET,
        augment="ssd",
    ),
    "refinedet512": System(
        build=_refinedet,
        image_size=512,
        training=_training(0.01, 8),
        options=REFINEDET,
        augment="ssd",
    ),
    "mask_rcnn": System(
        build=_mask_rcnn,
        image_size=800,
        training=_training(0.02, 2),
        options={"width": 256, "dense": 1024, "anchor_per_stride": 8, "regions": 512},
        needs_masks=True,
    ),
    "fcos": System(
        build=_fcos, image_size=480, training=_training(0.01, 4), options={"width": 256}
    ),
}
"""Detectors by name. The options are the widths of necks and heads, with the paper's defaults."""


def find_system(name: str) -> System:
    """Return the system of this name. Raises `UnknownNameError`."""
    if name not in SYSTEMS:
        raise UnknownNameError("detection systems", name, list(SYSTEMS))
    return SYSTEMS[name]


def check_options(system: str, options: Mapping[str, int]) -> None:
    """Raise `InvalidValueError` for an option that the system does not have, or one too small."""
    known = find_system(system).options
    for name, value in options.items():
        if name not in known:
            raise InvalidValueError(f"{system} has no option {name!r}; it has {', '.join(known)}")
        if value < min(known[name], 1):  # a default of 0 leaves the choice to the system
            raise InvalidValueError(f"{name} must be at least {min(known[name], 1)}, not {value}")


@dataclass(frozen=True, kw_only=True)
class DetectorSpec:
    """All that a training depends on but the pixels.

    `bundle` is the folder whose weights start the body, None for random ones. `options` are those
    of the system. `augment` is one of none, flip and ssd. With `freeze_norm` the BatchNorms of the
    body keep what the bundle has. `data` is the digest of the scenes.
    """

    system: str
    architecture: Architecture
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: Recipe
    options: Mapping[str, int] = field(default_factory=dict)
    augment: str = "ssd"
    freeze_norm: bool = False
    seed: int = 0
    bundle: str | None = None
    network: str = ""
    data: str = ""

    def __post_init__(self) -> None:
        check_options(self.system, self.options)
        if self.freeze_norm and self.bundle is None:
            raise InvalidValueError("--freeze-norm needs a bundle, whose BatchNorms are trained")

    def build(self) -> nn.Module:
        """Build the detector, with the bundle's weights in its body or random ones."""
        source: Source = self.architecture if self.bundle is None else Path(self.bundle)
        detector = self._built(source)
        if self.freeze_norm:
            next(each for each in detector.modules() if isinstance(each, Features)).freeze_norm()
        return detector

    def _built(self, source: Source) -> nn.Module:
        kind = find_system(self.system)
        options = {**kind.options, **self.options}
        detector = kind.build(source, len(self.classes), self.image_size, **options)
        transform = detector.get_submodule("transform")
        transform.image_mean, transform.image_std = list(self.mean), list(self.std)  # type: ignore[assignment]
        return detector

    def trained(self, weights: Path, digest: str) -> nn.Module:
        """Return the detector with the weights of a file of this digest, in eval mode."""
        detector = self._built(self.architecture)
        checkpoint = read_checkpoint(weights, digest)
        try:
            detector.load_state_dict(dict(checkpoint.weights))
        except RuntimeError as error:
            raise CorruptFileError(f"{weights} does not fit {DESCRIPTION} beside it") from error
        return detector.eval()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {**asdict(self), "architecture": self.architecture.to_dict(), "format": FORMAT}
        values["recipe"] = self.recipe.to_dict()
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the specification that `to_dict` wrote. Raises `InvalidValueError`."""
        if values.get("format") != FORMAT:
            raise InvalidValueError(f"the format is {values.get('format')!r}, not {FORMAT!r}")
        fields = {name: value for name, value in values.items() if name != "format"}
        for name in ("classes", "mean", "std"):
            fields[name] = tuple(fields[name])
        return cls(
            **{
                **fields,
                "architecture": Architecture.from_dict(fields["architecture"]),
                "recipe": Recipe.from_dict(fields["recipe"]),
            }
        )


@dataclass(frozen=True)
class TrainedDetector:
    """A folder of `nas detect train`."""

    folder: Path

    @cached_property
    def spec(self) -> DetectorSpec:
        """The specification. Raises `CorruptFileError` if the folder holds none."""
        path = self.folder / DESCRIPTION
        try:
            return DetectorSpec.from_dict(json.loads(path.read_bytes()))
        except (OSError, *MALFORMED) as error:
            raise CorruptFileError(
                f"{path} cannot be read: {error}; name a folder of nas detect train"
            ) from error

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the values in `detector.json` as they were written, which the files of
        weights hold.
        """
        values = json.loads((self.folder / DESCRIPTION).read_bytes())
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def is_finished(self) -> bool:
        """Return whether the training has ended."""
        return (self.folder / WEIGHTS).is_file()

    def model(self) -> nn.Module:
        """Return the detector in eval mode. Raises `CorruptFileError` before it is finished."""
        spec = self.spec
        if not self.is_finished:
            raise CorruptFileError(
                f"{self.folder} holds a training that has not ended; resume it with the command "
                "that began it"
            )
        return spec.trained(self.folder / WEIGHTS, self.digest)

    def check_same(self, spec: DetectorSpec) -> None:
        """Raise `InvalidValueError` if the folder holds another training, whose differences are
        named, or other files.
        """
        if not (self.folder / DESCRIPTION).exists():
            if self.folder.exists() and {path.name for path in self.folder.iterdir()} - {PART_FILE}:
                raise InvalidValueError(
                    f"{self.folder} holds other files than a training of nas detect train; name a "
                    "new folder with -o"
                )
            return
        mine, theirs = spec.to_dict(), self.spec.to_dict()
        other = [name for name in mine if mine[name] != theirs[name]]
        if other:
            raise InvalidValueError(
                f"{self.folder} holds a training with another {', '.join(other)}; name a new "
                "folder with -o, or repeat the command that began it"
            )

    def begin(self, spec: DetectorSpec) -> None:
        """Write the description if there is none. Raises `WriteError`."""
        path = self.folder / DESCRIPTION
        if path.exists():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / PART_FILE
            part.write_text(json.dumps(spec.to_dict(), indent=2) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise WriteError(path, error) from error


def specification(
    target: str,
    find_trial: FindTrial,
    *,
    system: str,
    image_size: int | None = None,
    augment: str | None = None,
    **settings: Any,
) -> DetectorSpec:
    """Return the specification of a detector on the network that a user names.

    `target` is a published name, the folder of a bundle, an architecture.json or STUDY:TRIAL.
    `settings` are other fields of `DetectorSpec`. Raises `UnknownNameError` for another target.
    """
    mean, std, bundle = MEAN, STD, None
    if Path(target).is_dir():
        facts = Bundle(Path(target)).facts
        architecture, mean, std, bundle = facts.architecture, facts.mean, facts.std, target
    else:
        architecture = find_architecture(target, find_trial)
    return DetectorSpec(
        system=system,
        architecture=architecture,
        network=target,
        image_size=image_size or find_system(system).image_size,
        augment=augment or find_system(system).augment,
        mean=mean,
        std=std,
        bundle=bundle,
        **settings,
    )


def recipe_for(
    name: str,
    *,
    epochs: float,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> Recipe:
    """Return the recipe of a system with these changes."""
    training = find_system(name).training
    training = replace(
        training,
        batch_size=batch_size or training.batch_size,
        learning_rate=learning_rate or training.learning_rate,
    )
    return Recipe(epochs=epochs, training=training, average=FINAL_AVERAGE)
