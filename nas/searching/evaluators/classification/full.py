"""The evaluator of final trainings: a full recipe on all training images, then one test.

After any interruption, a training resumes from its last checkpoint: that of its last whole epoch,
and on image files also one within an epoch.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.moved import import_attribute
from nas.core.preparation import Preparation
from nas.core.tasks import EpochDone, Event, FinalTask, Tested, Weights
from nas.core.trial import Rung
from nas.data import Dataset, Images, load
from nas.model import build
from nas.searching.evaluators.classification.evaluator import (
    EnergyCounter,
    fails_trial,
    oom_fails_trial,
)
from nas.searching.evaluators.classification.replicator import (
    Replicator,
    recorded_preparation,
)
from nas.searching.evaluators.contract import StudyContext
from nas.training import FullTrainer, read_checkpoint
from nas.training.start import start_from

WEIGHTS = "weights.safetensors"
"""File of the trained weights in the folder of a training."""


class FullEvaluator(Replicator):
    """Trains one network after the other in one process, with the data loaded once.

    Energy is counted over the same work as seconds: whole epochs and the test.
    """

    def steps(self, task: FinalTask) -> Iterator[Event | EpochDone]:  # type: ignore[override]
        """Train epoch by epoch, then test. The test images are read only then.

        Of several processes that train the network together, the first one writes and tests.
        """
        torch.manual_seed(task.seed)
        identity, resume_file = identity_of(task), self._artifacts / task.resume_file
        with self._sharing(), fails_trial():
            trainer = self._full_trainer(task)
            if resume_file.exists():
                trainer.load(resume_file, identity)
        while trainer.epochs < task.recipe.epochs:
            with self._shared(trainer):
                trainer.advance(trainer.next_end)
            if trainer.rank == 0:
                with self._sharing():
                    trainer.save(resume_file, identity)
            yield EpochDone(epochs=trainer.epochs, loss=trainer.last_loss)
        if trainer.rank > 0:
            return
        weights = f"{task.folder}/{WEIGHTS}"
        with self._sharing():
            trainer.finish(self._artifacts / weights, identity)
        with self._shared(trainer):
            images = self._images_to_test(task)
            metrics, seconds = trainer.judge(images)
        taught_by = {"teacher": task.teacher.name} if task.teacher else {}
        yield Tested(
            test_images=len(images),
            rung=Rung(
                epochs=trainer.epochs,
                metrics=metrics,
                train_loss=trainer.last_loss,
                images=trainer.images_seen,
                train_s=trainer.train_s,
                validation_s=seconds,
                checkpoint=weights,
                numerics={**trainer.conditions, **taught_by},
            ),
            energy_j=None if math.isnan(trainer.energy_j) else trainer.energy_j,
        )

    @contextmanager
    def _shared(self, trainer: FullTrainer) -> Iterator[None]:
        """Share the device in the `with` block: pause while another process measures, and add the
        energy to the trainer's.
        """
        counter = EnergyCounter(self._meter, self._spec)
        with self._sharing() as share, oom_fails_trial():
            trainer.step_aside = partial(self._between_steps, share)
            yield
        drawn_j = None if trainer.world > 1 else counter.drawn_j()  # of one device of several
        trainer.energy_j += math.nan if drawn_j is None else drawn_j

    def _full_trainer(self, task: FinalTask) -> FullTrainer:
        settings: dict[str, Any] = {
            "recipe": task.recipe,
            "numerics": self._numerics,
            "device": self._meter.torch_device,
            "seed": task.seed,
            "threads": self._spec.workers.cpus,
        }
        if task.recipe.large is not None:
            from nas.training.large import LargeTrainer, open_images, timm_teacher

            large = task.recipe.large
            files, _ = open_images(task.recipe, task.seed)
            classes = len(files.classes)
            return LargeTrainer(
                model=network_of(task, classes),
                train=files,
                loaders=self._spec.workers.cpus if task.loaders is None else task.loaders,
                teacher=self._teaching(timm_teacher(large, classes)) if large.teacher else None,
                **settings,
            )
        dataset, train = self._all_images
        teacher = self._teacher(task.teacher, len(dataset.classes)) if task.teacher else None
        return FullTrainer(
            model=network_of(task, len(dataset.classes)),
            train=train,
            mean=dataset.mean,
            std=dataset.std,
            teacher=teacher,
            **settings,
        )

    def _images_to_test(self, task: FinalTask) -> Images:
        if task.recipe.large is None:
            return self._test_images
        from nas.training.large import open_images

        return cast("Images", open_images(task.recipe)[1])

    def _teacher(self, weights: Weights, classes: int) -> nn.Module:
        model = build(weights.architecture, classes)
        with fails_trial():
            path = self._artifacts / weights.path
            checkpoint = read_checkpoint(path, weights.architecture.digest)
            model.load_state_dict(dict(checkpoint.weights))
        return self._teaching(model)

    def _teaching(self, model: nn.Module) -> nn.Module:
        return self._numerics.prepared(model, torch.device(self._meter.torch_device)).eval()

    @cached_property
    def _all_images(self) -> tuple[Dataset, Images]:
        """The data set and all its training images, on the device."""
        dataset = load(self._prepared.data)
        return dataset, dataset.train.to(self._meter.torch_device)

    @cached_property
    def _test_images(self) -> Images:
        return self._all_images[0].test().to(self._meter.torch_device)


class FilesEvaluator(FullEvaluator):
    """Trains by recipes for image files, without the study's own data, which need not be there."""

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Return the recorded preparation. The command has opened the image files."""
        return recorded_preparation(context)


def network_of(task: FinalTask, classes: int) -> nn.Module:
    """Build the network with random weights, or those that the task starts from.

    A `module:callable` is called with `num_classes`, which runs the module's code. Raises
    `NasError` if the callable cannot be loaded or makes no network, and `CorruptFileError` if the
    weights are of another one.
    """
    model = _new_network(task, classes)
    if task.start is not None:
        start_from(model, Path(task.start))
    return model


def _new_network(task: FinalTask, classes: int) -> nn.Module:
    if task.architecture is not None:
        return build(task.architecture, classes)
    try:
        made = import_attribute(task.network)(num_classes=classes)
    except (ImportError, AttributeError, TypeError) as error:
        raise NasError(f"{task.network} makes no network of {classes} classes: {error}") from error
    if not isinstance(made, nn.Module):
        raise NasError(f"{task.network} made a {type(made).__name__}, not a torch module")
    return made


def identity_of(task: FinalTask) -> str:
    """Return the identity in the task's files: the digest of the architecture, or of the name."""
    if task.architecture:
        return task.architecture.digest
    return hashlib.sha256(task.network.encode()).hexdigest()
