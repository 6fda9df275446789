"""Full training of one network: one long learning-rate cycle in parts, a running mean of the
weights, a teacher.

Everything random is a function of the seed, as in brief training. Therefore a training that resumes
from a checkpoint gives the bits of one that was never interrupted.
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
from nas.training.trainer import Trainer

MEMORY_DIVISOR = 10
"""The running mean reaches back by this fraction of the training: one tenth."""


class FullTrainer(Trainer):
    """Trains by a recipe on all its images.

    `teacher`, in eval mode on the device, gives logits for the same inputs. `settings` are the
    other arguments of `Trainer` except `spec` and `validation`, as nothing is judged during the
    training. The caller adds measured joules to `energy_j`, which checkpoints hold too; it is NaN
    once a part was not measured. `rank` is the number of this process among the `world` processes
    that train the network together.
    """

    rank, world = 0, 1

    def __init__(
        self, *, recipe: Recipe, train: Images, teacher: nn.Module | None = None, **settings: Any
    ) -> None:
        super().__init__(spec=recipe.training, train=train, validation=train, **settings)
        self.recipe = recipe
        self.train_s, self.energy_j, self.last_loss = 0.0, 0.0, math.nan
        self.curve: tuple[tuple[float, float], ...] = ()
        self._teacher = teacher
        self.classes: tuple[str, ...] = ()
        self._steps = round(recipe.epochs * self.steps_per_epoch)
        if self._steps == 0:
            raise InvalidValueError(
                f"there is no whole batch of {self.batch_size} images in {recipe.epochs} epochs of "
                f"{len(train)} images"
            )
        self._average = RunningMean(self.model) if recipe.average else None

    def advance(self, end_epochs: float) -> None:
        """Train to `end_epochs` of the recipe's; `last_loss` becomes the mean loss of this part.

        Raises `TrialFailedError` if it is not finite.
        """
        first, end = (round(epochs * self.steps_per_epoch) for epochs in (self.epochs, end_epochs))
        if steps := range(first, end):
            shares = [self._share(step) for step in steps]
            with self.numerics.settings(self.threads):
                started_s = self._working_s()
                self.last_loss = self._train(steps, shares)
                self.train_s += self._working_s() - started_s
            self.curve += ((end_epochs, self.last_loss),)
        self.epochs = end_epochs

    def step(self, step: int, learning_rate: float) -> Tensor:
        """Train as in brief training, and take the weights into the running mean."""
        loss = super().step(step, learning_rate)
        if self._average:
            self._average.update(self._decay(step))
        return loss

    @property
    def next_end(self) -> float:
        """The epochs at which the next checkpoint is due: the end of this epoch."""
        return min(math.floor(self.epochs) + 1.0, self.recipe.epochs)

    @property
    def images_seen(self) -> int:
        """Training images so far, each counted as often as it was used."""
        return round(self.epochs * self.steps_per_epoch) * self.batch_size

    def finish(self, path: Path, digest: str) -> None:
        """Make the mean of the weights the network's own and write them to `path`, nothing else."""
        if self._average:
            self.model.load_state_dict(self._average.values)
        self._settle()
        write_checkpoint(
            path,
            Checkpoint(
                epochs=self.epochs,
                digest=digest,
                weights=self.model.state_dict(),
                classes=self.classes,
                curve=self.curve,
            ),
        )

    def judge(self, images: Images) -> tuple[dict[str, float], float]:
        """Return the errors on these images by name, and the seconds it took."""
        with self.numerics.settings(self.threads):
            started_s = self._working_s()
            return self._judge(images), self._working_s() - started_s

    def _settle(self) -> None:
        """Adapt the finished network to its last weights; there is nothing to do here."""

    def _share(self, step: int) -> float:
        """Return the share of the highest learning rate that this step has."""
        return at_step(step, self._steps, self.spec.warmup)

    def _decay(self, step: int) -> float:
        """Return the share of the running mean that this step leaves of it."""
        longest = max(1 - MEMORY_DIVISOR / self._steps, 0.0)
        return min(self.recipe.average, longest, (1 + step) / (MEMORY_DIVISOR + step))

    def _loss(self, logits: Tensor, labels: Tensor, inputs: Tensor) -> Tensor:
        """Return the loss towards the labels and towards the teacher's answers (Hinton et al.,
        arXiv 1503.02531).
        """
        own = self._label_loss(logits, labels)
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
            average=self._average.values if self._average else {},
            train_s=self.train_s,
            energy_j=self.energy_j,
            loss=self.last_loss,
            curve=self.curve,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        super()._restore(checkpoint)
        self.train_s, self.energy_j = checkpoint.train_s, checkpoint.energy_j
        self.last_loss, self.curve = checkpoint.loss, checkpoint.curve
        if self._average:
            self._average.load(checkpoint.average)
        elif checkpoint.average:
            raise RuntimeError(OTHER_WEIGHTS)


class RunningMean:
    """The exponential running mean of a model's state dict.

    The model must keep its tensors, which training and `load_state_dict` do. One update is two
    calls for the floating-point values, and one for the others (BatchNorm's counters).
    """

    def __init__(self, model: nn.Module) -> None:
        values = model.state_dict()
        self.values = {name: value.clone() for name, value in values.items()}
        """The mean, by the names of the state dict."""
        real = [name for name, value in values.items() if value.is_floating_point()]
        whole = [name for name in values if name not in set(real)]
        self._model_real, self._mean_real = _both(real, values, self.values)
        self._model_whole, self._mean_whole = _both(whole, values, self.values)

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Take the model's present values into the mean; numbers that are whole are copied."""
        torch._foreach_lerp_(self._mean_real, self._model_real, 1 - decay)
        if self._mean_whole:
            torch._foreach_copy_(self._mean_whole, self._model_whole)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take these values as the mean. Raises `RuntimeError` if they are of other weights."""
        if values.keys() != self.values.keys():
            raise RuntimeError(OTHER_WEIGHTS)
        for name, value in values.items():
            self.values[name].copy_(value)


OTHER_WEIGHTS = "its running mean is of other weights"


def _both(
    names: list[str], model: Mapping[str, Tensor], mean: Mapping[str, Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    return [model[name] for name in names], [mean[name] for name in names]
