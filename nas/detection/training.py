"""Training of a detector by the loop of full training: one cycle, running mean, whole checkpoints.

Everything random is a function of the seed and the step. Therefore a training that resumes from a
checkpoint gives the bits of one that was never interrupted.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from nas.core.errors import InvalidValueError, TrialFailedError
from nas.data import Images
from nas.detection.evaluation import detect_all, evaluate_scenes
from nas.detection.scenes import Scenes
from nas.detection.systems import DESCRIPTION, WEIGHTS, DetectorSpec, TrainedDetector, find_system
from nas.searching.artifacts import check_writable
from nas.training import FullTrainer, Numerics

CHECKPOINT = "training.safetensors"
AUGMENTATION = 2
"""The purpose of the random stream of augmented images."""
SINGLE_VALUE = "Expected more than 1 value per channel"
"""The beginning of torch's error for a batch of one image on a map of one pixel."""
MAX_SETTLING_IMAGES = 400
"""BatchNorm's statistics are estimated again from at most this many training images."""
MAX_ZOOM_OUT = 4.0
AUGMENTATIONS = ("none", "flip", "ssd")
"""Kinds of augmentation: ssd distorts colours, zooms out, crops and mirrors."""


class DetectorTrainer(FullTrainer):
    """Trains a detector by its specification on the scenes of a split.

    `run`, as in brief training, judges it on the scenes `validation`.
    """

    max_gradient_norm = 35.0

    def __init__(
        self,
        *,
        spec: DetectorSpec,
        scenes: Scenes,
        validation: Scenes | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            recipe=spec.recipe,
            train=cast("Images", scenes),
            model=spec.build(),
            mean=cast("tuple[float, float, float]", spec.mean),
            std=cast("tuple[float, float, float]", spec.std),
            numerics=Numerics(channels_last=False),
            seed=spec.seed,
            **settings,
        )
        self.scenes = scenes
        self.validation_images = cast("Images", validation or scenes)
        self._side = spec.image_size
        self._augment = augmentation(spec.augment, spec.mean)

    @property
    def image_size(self) -> int:
        """The side in pixels to which images are resized."""
        return self._side

    def _judge(self, judges: Images) -> dict[str, float]:
        """Return COCO's figures of the detections on these scenes: `box_ap`, `box_ap50`, and with
        masks `mask_ap`.

        Raises `TrialFailedError` if the weights are not finite.
        """
        if not all(value.isfinite().all() for value in self.model.state_dict().values()):
            raise TrialFailedError("the weights of the detector are not finite")
        self._settle()
        scenes = cast("Scenes", judges)
        found = detect_all(self.model, scenes, self.device, lambda _: self._step_aside())
        evaluation = evaluate_scenes(found, scenes)
        figures = {
            "box_ap": evaluation.coco["ap"],
            "box_ap50": evaluation.coco["ap50"],
            "mask_ap": evaluation.coco_masks.get("ap"),
        }
        return {name: value for name, value in figures.items() if value is not None}

    def _batch_loss(self, batch: Tensor, step: int) -> Tensor:
        """Return the sum of the detector's losses. Raises `TrialFailedError` for one image alone on
        a map of one pixel, which has no variance for BatchNorm.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._stream(AUGMENTATION, step).initial_seed())
            pairs = [self._scene(int(index)) for index in batch]
            images, targets = zip(*pairs, strict=True)
            try:
                losses: dict[str, Tensor] = self.model(list(images), list(targets))
            except ValueError as error:
                if len(batch) > 1 or SINGLE_VALUE not in str(error):
                    raise
                raise TrialFailedError(
                    f"the detector cannot be trained with one image in a batch: {error}; use "
                    "batches of two or more, and at least two images"
                ) from error
        return torch.stack(list(losses.values())).sum()

    def _scene(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return one augmented image from 0 to 1 and its target, on the device."""
        image, target = self.scenes.image(index), self.scenes[index].target()
        if self._augment is not None:
            size = (image.shape[1], image.shape[2])
            wrapped: dict[str, Tensor] = {
                **target,
                "boxes": tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size),
            }
            if "masks" in target:
                wrapped["masks"] = tv_tensors.Mask(target["masks"])
            image, target = self._augment(tv_tensors.Image(image), wrapped)
        plain = {name: value.as_subclass(Tensor).to(self.device) for name, value in target.items()}
        return image.as_subclass(Tensor).to(self.device).float() / 255, plain

    @torch.no_grad()
    def _settle(self) -> None:
        """Estimate BatchNorm's statistics again, as the mean over training images as they are.

        No part is smaller than a training batch: one image has no variance on a map of one pixel.
        """
        self.model.train()
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
        count = min(len(self.scenes), MAX_SETTLING_IMAGES)
        network: Callable[[Tensor], object] = network_of(self.model)
        for part in torch.arange(count).tensor_split(count // self.batch_size or 1):
            for norm in norms:
                norm.momentum = len(part) / (int(part[-1]) + 1)  # each image weighs the same
            images = [self.scenes.image(int(i)).to(self.device).float() / 255 for i in part]
            batch, _ = self.model.get_submodule("transform")(images)
            network(batch.tensors)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def network_of(detector: nn.Module) -> nn.Module:
    """Return the part of a detector that maps a batch of images to maps or predictions."""
    name = "network" if hasattr(detector, "network") else "backbone"
    return detector.get_submodule(name)


def check_augmentation(kind: str) -> None:
    """Raise `InvalidValueError` for an unknown kind."""
    if kind not in AUGMENTATIONS:
        raise InvalidValueError(f"augment must be {', '.join(AUGMENTATIONS)}, not {kind!r}")


def augmentation(kind: str, mean: tuple[float, ...]) -> Callable[..., Any] | None:
    """Return torchvision's transforms of an image and its target; None for no augmentation.

    They differ from those of the papers: colours are changed in another order, and the sides of
    crops are drawn independently. Raises `InvalidValueError` for an unknown kind.
    """
    check_augmentation(kind)
    if kind == "none":
        return None
    transforms: list[nn.Module] = [v2.RandomHorizontalFlip()]
    if kind == "ssd":
        colours = v2.ColorJitter(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
        fill = {tv_tensors.Image: [round(255 * value) for value in mean], tv_tensors.Mask: 0}
        transforms += [
            v2.RandomApply([colours], p=0.5),
            v2.RandomZoomOut(fill=fill, side_range=(1.0, MAX_ZOOM_OUT)),
            v2.RandomIoUCrop(),
        ]
    composed: Callable[..., Any] = v2.Compose([*transforms, v2.SanitizeBoundingBoxes()])
    return composed


def train_detector(
    spec: DetectorSpec,
    scenes: Scenes,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    progress: Callable[[float, float], object] | None = None,
) -> nn.Module:
    """Train a detector into a folder, or resume it there, and return it in eval mode.

    `progress` receives the epochs and the last mean loss before each epoch.
    Raises `InvalidValueError` if the folder holds another training or other files, or if masks are
    missing, and `TrialFailedError` if the loss is not finite.
    """
    if find_system(spec.system).needs_masks and not scenes.has_masks:
        raise InvalidValueError(
            f"{spec.system} needs masks of all objects; give COCO polygons or label maps, or "
            "another system"
        )
    place = TrainedDetector(folder)
    place.check_same(spec)
    if place.is_finished:
        return place.model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        trainer = DetectorTrainer(spec=spec, scenes=scenes, device=device, threads=threads)
    checkpoint = folder / CHECKPOINT
    check_writable(folder / DESCRIPTION)
    if checkpoint.exists():
        trainer.load(checkpoint, place.digest)
    total = spec.recipe.epochs
    while trainer.epochs < total:
        if progress is not None:
            progress(trainer.epochs, trainer.last_loss)
        trainer.advance(min(trainer.epochs + 1, total))
        place.begin(spec)  # only now: a first epoch that fails leaves the folder to other settings
        trainer.save(checkpoint, place.digest)
    trainer.finish(folder / WEIGHTS, place.digest)
    checkpoint.unlink(missing_ok=True)
    return trainer.model.eval()
