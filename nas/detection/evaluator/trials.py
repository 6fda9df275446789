"""The evaluators of studies of detectors. Each is that of classification with the networks, the
data and the trainer of a detector.
"""

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from torch import nn

from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError
from nas.core.foreign import ForeignNetwork
from nas.core.measurement import AUTO_RUNTIME, MeasurementPlan
from nas.core.preparation import Preparation
from nas.core.recipe import Recipe
from nas.core.search_space import SearchSpace
from nas.core.study import AutoPrecision, AutoSize, DataSpec, RungSpec, StudySpec
from nas.core.tasks import FinalTask, Task
from nas.detection.evaluator import MASK_AP, DetectorSettings
from nas.detection.evaluator.data import (
    TEST,
    TRAIN,
    VALIDATION,
    all_training,
    read_split,
    train_and_validation,
)
from nas.detection.features import MEAN, STD
from nas.detection.measuring import measured_part
from nas.detection.scenes import Scenes
from nas.detection.systems import DetectorSpec, find_system
from nas.detection.training import DetectorTrainer
from nas.measuring.meters import Meter
from nas.measuring.metrics import Subject
from nas.record import StudyRecord
from nas.searching.evaluators import StudyContext
from nas.searching.evaluators.classification.certifier import Certifier
from nas.searching.evaluators.classification.evaluator import Evaluator, check_steps
from nas.searching.evaluators.classification.full import FullEvaluator
from nas.searching.evaluators.classification.replicator import Replicator
from nas.searching.profile import random_members
from nas.training import Numerics

NUM_PROBES = 8
"""Random networks of which one must fit the detector before a search begins."""
NUMERICS = Numerics(channels_last=False)
"""The number formats in which detectors are trained."""


def detector_spec(
    spec: StudySpec,
    classes: tuple[str, ...],
    architecture: Architecture | ForeignNetwork | None,
    **changes: Any,
) -> DetectorSpec:
    """Return the specification of a study's detector on a network. `changes` are other fields.

    Raises `InvalidValueError` for a network that is no OSA network.
    """
    if not isinstance(architecture, Architecture):
        raise InvalidValueError("a detector needs an OSA network, not one of another package")
    settings = DetectorSettings.of(spec)
    recipe = Recipe(epochs=1.0, training=spec.training, average=0.0)
    values: dict[str, Any] = {
        "system": settings.system,
        "architecture": architecture,
        "classes": classes,
        "image_size": settings.image_size,
        "mean": MEAN,
        "std": STD,
        "recipe": recipe,
        "options": settings.options,
        "augment": settings.augment,
    }
    return DetectorSpec(**{**values, **changes})


def network(study: StudyRecord, architecture: Architecture) -> nn.Module:
    """Build the detector of a recorded study on a network, with random weights."""
    return detector_spec(study.spec, study.preparation.classes, architecture).build()


def measured_network(
    spec: StudySpec, classes: tuple[str, ...], architecture: Architecture | ForeignNetwork
) -> nn.Module:
    """Return the part of the detector that the study measures, with the same random weights every
    time. Raises `InvalidValueError` for a network that does not fit the system.
    """
    return measured_part(
        detector_spec(spec, classes, architecture), DetectorSettings.of(spec).measure
    )


class DetectorEvaluator(Evaluator):
    """Counts and measures the networks of detectors, and trains the detectors."""

    @classmethod
    def with_runtime(cls, spec: StudySpec, meter: Meter) -> tuple[StudySpec, tuple[str, ...]]:
        """Return the study with a runtime in place of `auto`, and warnings.

        The post-processing runs in PyTorch. Raises `InvalidValueError` for images or a runtime that
        do not fit the detector.
        """
        settings, plan = DetectorSettings.of(spec), spec.measurement
        if settings.measure != "backbone" and plan.image_size != settings.image_size:
            raise InvalidValueError(
                f"measurement.image_size must be that of the detector, {settings.image_size}, not "
                f"{plan.image_size}"
            )
        if settings.measure != "detector":
            return super().with_runtime(spec, meter)
        if plan.runtime not in {AUTO_RUNTIME, "eager"}:
            raise InvalidValueError(
                f"measurement.runtime must be eager, not {plan.runtime}, to measure a detector "
                "with its post-processing; or measure: network"
            )
        return replace(spec, measurement=replace(plan, runtime="eager")), ()

    @classmethod
    def prepare_training(cls, spec: StudySpec, data: DataSpec) -> Preparation:
        """Read the data and check the training's settings."""
        settings = DetectorSettings.of(spec)
        train, validation = train_and_validation(data, spec.seed)
        _check_training(spec)
        _check_masks(spec, TRAIN, train)
        _check_masks(spec, VALIDATION, validation)
        _check_space(spec, train.classes)
        return Preparation(
            data=data,
            classes=train.classes,
            mean=MEAN,
            std=STD,
            image_size=settings.image_size or 0,
            warnings=tuple(check_steps(spec, len(train))),
            numerics=NUMERICS.to_dict(),
        )

    @classmethod
    def classes_of(cls, data: DataSpec) -> tuple[str, ...]:
        """Return the classes of data that is on this machine."""
        return read_split(data, TRAIN).classes

    def _subject(self, task: Task, plan: MeasurementPlan, meter: Meter) -> Subject:
        subject = super()._subject(task, plan, meter)
        return replace(subject, make=partial(measured_network, self._spec, self._prepared.classes))

    def _trainer(self, task: Task) -> DetectorTrainer:
        train, validation = self._scenes
        last = self._spec.rungs[-1].epochs_of(len(train), self._spec.training.batch_size)
        recipe = Recipe(epochs=last, training=self._spec.training, average=0.0)
        return self._trainer_by(recipe, task, train, validation)

    def _trainer_by(
        self, recipe: Recipe, task: Task | FinalTask, train: Scenes, validation: Scenes
    ) -> DetectorTrainer:
        """Return the trainer of a task. Raises `InvalidValueError` for a network that does not fit
        the system.
        """
        spec = detector_spec(
            self._spec, self._prepared.classes, task.architecture, recipe=recipe, seed=task.seed
        )
        return DetectorTrainer(
            spec=spec,
            scenes=train,
            validation=validation,
            device=self._meter.torch_device,
            threads=self._spec.workers.cpus,
        )

    def _images_of(self, rung: RungSpec) -> tuple[Scenes, Scenes]:  # type: ignore[override]
        return self._scenes

    @cached_property
    def _scenes(self) -> tuple[Scenes, Scenes]:
        """The scenes for training and for validation."""
        return train_and_validation(self._prepared.data, self._spec.seed)


class DetectorReplicator(Replicator, DetectorEvaluator):
    """Trains with new seeds as the search does; measures nothing."""


class DetectorFinal(FullEvaluator, DetectorReplicator):
    """Trains on the images for training and for validation, and judges on the test images."""

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Find the study's data. Raises `DataNotFoundError` if there are no test images, and
        `InvalidValueError` if an object of theirs has no mask though `mask_ap` is an objective.
        """
        preparation = super().prepare(context)
        test = read_split(preparation.data, TEST, preparation.classes)
        if any(objective.metric == MASK_AP.name for objective in context.spec.objectives):
            _check_masks(context.spec, TEST, test)
        return preparation

    def _full_trainer(self, task: FinalTask) -> DetectorTrainer:
        if task.teacher is not None:
            raise InvalidValueError("detectors are trained without a teacher; leave it out")
        scenes = all_training(self._prepared.data)
        return self._trainer_by(task.recipe, task, scenes, scenes)

    @cached_property
    def _test_images(self) -> Scenes:  # type: ignore[override]
        return read_split(self._prepared.data, TEST, self._prepared.classes)


class DetectorCertifier(Certifier):
    """Measures the members of a front together."""

    def _network(self, architecture: Architecture) -> nn.Module:
        classes = self.prepare(self._context).classes
        return measured_network(self._spec, classes, architecture)


def _check_masks(spec: StudySpec, split: str, scenes: Scenes) -> None:
    """Raise `InvalidValueError` if the study's system needs masks and an object has none."""
    system = DetectorSettings.of(spec).system
    if find_system(system).needs_masks and not scenes.has_masks:
        raise InvalidValueError(
            f"evaluator_settings.system: {system} needs masks of all objects of the split {split}; "
            "give COCO polygons or label maps, or another system"
        )


def _check_training(spec: StudySpec) -> None:
    """Raise `InvalidValueError` for settings that no detector of the study can follow."""
    system = find_system(DetectorSettings.of(spec).system)
    names = [objective.metric for objective in spec.objectives]
    if MASK_AP.name in names and not system.needs_masks:
        raise InvalidValueError(
            f"objectives[{names.index(MASK_AP.name)}].metric: {MASK_AP.name} needs mask_rcnn"
        )
    own = {None, AutoSize.AUTO, DetectorSettings.of(spec).image_size}
    if any(rung.image_size not in own for rung in spec.rungs):
        raise InvalidValueError(
            "rungs[].image_size: a detector has one size; set evaluator_settings.image_size"
        )
    training = spec.training
    if training.precision not in {AutoPrecision.AUTO, AutoPrecision.FP32} or training.compile:
        raise InvalidValueError("training.precision: detectors are trained in fp32, not compiled")
    for name in ("label_smoothing", "translate", "cutout"):
        if getattr(training, name):
            raise InvalidValueError(
                f"training.{name} is not for detectors: set it to 0 or leave it out; "
                "evaluator_settings.augment says how images are changed"
            )


def _check_space(spec: StudySpec, classes: tuple[str, ...]) -> None:
    """Raise `InvalidValueError` if none of a few random networks of the space fits the detector."""
    space: SearchSpace = plugins.load("nas.spaces", spec.space)
    problem = ""
    for member in random_members(space, NUM_PROBES, spec.seed):
        try:
            detector_spec(spec, classes, member.architecture).build()
        except InvalidValueError as error:
            problem = str(error)
        else:
            return
    raise InvalidValueError(
        f"space: none of {NUM_PROBES} random networks of the space fits "
        f"{DetectorSettings.of(spec).system}: {problem}"
    )
