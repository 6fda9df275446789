"""Full training of one network: one long learning-rate cycle in parts, a running mean of the
weights, a teacher.

Everything random is a function of the seed, as in brief training, so a training that goes on from a
checkpoint gives the bits of one that was never interrupted.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from nas.core.errors import InvalidValueError
from nas.core.recipe import Recipe
from nas.data import Images
from nas.training.checkpoint import Checkpoint, write_checkpoint
from nas.training.schedule import at_step
from nas.training.trainer import Trainer, global_settings

MEMORY = 10
"""The running mean forgets what is further back than this fraction of the training: one tenth."""


class FullTrainer(Trainer):
    """Trains by a recipe on all its images; `teacher`, in eval mode on the device, gives logits for
    the same inputs.

    `settings` are the other arguments of `Trainer`, but for `spec` and `validation`: nothing is
    judged on the way. `energy_j` is for whoever measures joules to add to: it is kept with the
    rest, NaN once somebody could not.
    """

    def __init__(
        self, *, recipe: Recipe, train: Images, teacher: nn.Module | None = None, **settings: Any
    ) -> None:
        super().__init__(spec=recipe.training, train=train, validation=train, **settings)
        self.recipe = recipe
        self.train_s, self.energy_j, self.last_loss = 0.0, 0.0, math.nan
        self._teacher = teacher
        self._steps = round(recipe.epochs * self.steps_per_epoch)
        if self._steps == 0:
            raise InvalidValueError(
                f"there is no whole batch of {self.batch_size} images in {recipe.epochs} epochs of "
                f"{len(train)} images"
            )
        self._average = (
            {name: value.clone() for name, value in self.model.state_dict().items()}
            if recipe.average
            else {}
        )

    def advance(self, end_epochs: float) -> None:
        """Train on to `end_epochs` of the recipe's; `last_loss` is the mean loss of this part.
        Raises `TrialFailedError` where it is not finite.
        """
        steps = range(
            round(self.epochs * self.steps_per_epoch), round(end_epochs * self.steps_per_epoch)
        )
        if steps:
            with global_settings(self.threads):
                started_s = self._working_s()
                self.last_loss = self._train(
                    steps, [at_step(step, self._steps, self.spec.warmup) for step in steps]
                )
                self.train_s += self._working_s() - started_s
        self.epochs = end_epochs

    def step(self, step: int, learning_rate: float) -> Tensor:
        """As in brief training, and take the weights into the mean."""
        loss = super().step(step, learning_rate)
        if self._average:
            self._take_in(step)
        return loss

    @property
    def images_seen(self) -> int:
        """Training images so far, each time they were used."""
        return round(self.epochs * self.steps_per_epoch) * self.batch_size

    def finish(self, path: Path, digest: str) -> None:
        """Make the mean of the weights the network's own and write them to `path`, nothing else."""
        if self._average:
            self.model.load_state_dict(self._average)
        write_checkpoint(
            path, Checkpoint(epochs=self.epochs, digest=digest, weights=self.model.state_dict())
        )

    def judge(self, images: Images) -> tuple[float, float]:
        """The share of these images that are classified wrongly, and the seconds it took."""
        with global_settings(self.threads):
            started_s = self._working_s()
            return self._judge(images), self._working_s() - started_s

    @torch.no_grad()
    def _take_in(self, step: int) -> None:
        decay = min(
            self.recipe.average, max(1 - MEMORY / self._steps, 0.0), (1 + step) / (MEMORY + step)
        )
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def _loss(self, logits: Tensor, labels: Tensor, inputs: Tensor) -> Tensor:
        """Towards the labels, and towards the teacher's answers (Hinton et al., arXiv
        1503.02531).
        """
        own = super()._loss(logits, labels, inputs)
        if self._teacher is None:
            return own
        share, heat = self.recipe.distillation, self.recipe.temperature
        with torch.no_grad(), self.numerics.autocast(self.device):
            answers = self._teacher(inputs).float()
        apart = F.kl_div(
            F.log_softmax(logits / heat, 1),
            F.log_softmax(answers / heat, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - share) * own + share * heat**2 * apart

    def _checkpoint(self, digest: str) -> Checkpoint:
        return replace(
            super()._checkpoint(digest),
            average=self._average,
            train_s=self.train_s,
            energy_j=self.energy_j,
            loss=self.last_loss,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        super()._restore(checkpoint)
        self.train_s, self.energy_j, self.last_loss = (
            checkpoint.train_s,
            checkpoint.energy_j,
            checkpoint.loss,
        )
        self._average = _like(self._average, checkpoint.average)


def _like(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """These values on the devices and in the layouts of those they take the place of."""
    if here.keys() != there.keys():
        raise RuntimeError("its running mean is of other weights")
    return {name: torch.empty_like(value).copy_(there[name]) for name, value in here.items()}
