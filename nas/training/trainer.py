"""The training loop of one network, rung by rung.

Everything random in it is a function of (seed, epoch) or (seed, step). Therefore a training that
resumes from a rung's checkpoint gives the same bits as one that was never interrupted, on the same
device with the same number of threads.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from nas.core.errors import CorruptFileError, InvalidValueError, TrialFailedError
from nas.core.study import AutoPrecision, TrainingSpec
from nas.core.trial import Rung
from nas.data import Channels, Images
from nas.model.compiling import Compiled
from nas.training import augment
from nas.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from nas.training.numerics import Numerics
from nas.training.schedule import at_step, steps_between

MIN_VALIDATION_BATCH = 500
"""Images in a validation batch, on a CPU and for large images."""

GPU_VALIDATION_PIXELS = 5000 * 32 * 32
"""Pixels in a validation batch on a GPU, on which batches of 500 small images take longer to launch
than to compute.
"""

TOP_CLASSES = 5
"""Most likely classes among which the right one must be for `top5_error`."""

STEPS_BETWEEN_CHECKS = 16
"""Steps between two checks of the losses. On CUDA a check waits for the device."""

ORDER, AUGMENTATION, MASKS = 0, 1, 2
"""The purposes of random streams."""

MOMENTUM = "momentum_buffer"
"""The key of SGD's state, which names of buffers leave out."""

TIMED_RATE = 1e-4
"""Learning rate of steps that are only timed."""
MIN_TIMED_STEPS = 3
"""Smallest number of steps that are timed."""
MAX_TIMED_JUDGES = 512
"""Largest number of images whose judging is timed."""


class Trainer:
    """Trains one model and judges it at each rung.

    `model` maps (N, 3, H, W) to logits (N, classes) and is changed in place. `train` and
    `validation` lie on `device`. `threads` is set during each run; None leaves it. `step_aside` is
    called between steps. The time that it takes does not count; on CUDA, kernels of the last step
    may still run when it is called. `clock` gives seconds.
    """

    max_gradient_norm: float | None = None
    """Longer gradients are shortened to this length."""

    def __init__(
        self,
        *,
        model: nn.Module,
        train: Images,
        validation: Images,
        mean: Channels,
        std: Channels,
        spec: TrainingSpec,
        numerics: Numerics,
        device: torch.device | str = "cpu",
        seed: int = 0,
        threads: int | None = None,
        step_aside: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.device = torch.device(device)
        self.spec, self.numerics, self.seed, self.threads = spec, numerics, seed, threads
        self.train_images, self.validation_images = train, validation
        self._full_side: int | None = None
        self.model = numerics.prepared(model, self.device)
        self.epochs = 0.0
        self.batch_size = min(spec.batch_size, len(train))
        self._normalised = augment.Normalisation(
            mean, std, self.device, numerics.dtype, numerics.memory_format
        )
        self._forward: Callable[[Tensor], Tensor] = (
            Compiled(self.model) if numerics.compile else self.model
        )
        self._optimizer: torch.optim.Optimizer = sgd(self.model, spec)
        self._scaler = torch.amp.GradScaler(
            self.device.type, enabled=numerics.precision is AutoPrecision.FP16
        )
        self._random = torch.Generator(self.device)
        self._order = (-1, torch.empty(0))
        self.step_aside, self._clock, self._aside_s = step_aside, clock, 0.0

    def use_images(self, train: Images, validation: Images) -> None:
        """Train and judge from now on with the same images in another size.

        Shifts and erased squares of the augmentation shrink with the images.
        """
        if len(train) != len(self.train_images) or len(validation) != len(self.validation_images):
            raise InvalidValueError("the images in another size must be as many as before")
        self._full_side = self._full_side or self.image_size
        self.train_images, self.validation_images = train, validation

    @property
    def steps_per_epoch(self) -> float:
        """The number of batches in an epoch: all whole ones."""
        return len(self.train_images) // self.batch_size

    @property
    def image_size(self) -> int:
        """The side in pixels of the images that the network is trained with."""
        return self.train_images.images.shape[-1]

    @property
    def conditions(self) -> dict[str, Any]:
        """The number formats, and what else results depend on to the bit, as rungs record it."""
        return {
            **self.numerics.to_dict(),
            "device": self.device.type,
            "threads": self.threads or torch.get_num_threads(),
            "torch": torch.__version__,
            "image_size": self.image_size,
        }

    def run(self, start_epochs: float, end_epochs: float) -> Rung:
        """Train from `start_epochs`, at which the model must stand, to `end_epochs`, and validate.

        An epoch is all whole batches of the training images in a new order. Raises
        `TrialFailedError` if the loss or the validation outputs are not finite.
        """
        if start_epochs != self.epochs:
            raise InvalidValueError(
                f"the model stands at {self.epochs} epochs, not at {start_epochs}"
            )
        steps = steps_between(start_epochs, end_epochs, len(self.train_images), self.batch_size)
        with self.numerics.settings(self.threads):
            started_s = self._working_s()
            shares = [at_step(k, len(steps), self.spec.warmup) for k in range(len(steps))]
            train_loss = self._train(steps, shares)
            trained_s = self._working_s()
            metrics = self._judge(self.validation_images)
            validated_s = self._working_s()
        self.epochs = end_epochs
        return Rung(
            epochs=end_epochs,
            metrics=metrics,
            train_loss=train_loss,
            images=len(steps) * self.batch_size,
            train_s=trained_s - started_s,
            validation_s=validated_s - trained_s,
            numerics=self.conditions,
        )

    def step(self, step: int, learning_rate: float) -> Tensor:
        """Train on batch `step`, counted from the beginning of epoch 0. Return the loss, a scalar
        on the device.

        On CUDA nothing here waits for the device, so the host runs ahead of it.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._backward(step)
        if self.max_gradient_norm is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_gradient_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss

    def pace(self, min_s: float) -> tuple[float, float]:
        """Return the seconds of one training step and of judging one image.

        Steps are timed for at least `min_s`. The model is useless afterwards.
        """
        with self.numerics.settings(self.threads):
            self.model.train()
            self.step(0, TIMED_RATE)
            started_s, steps = self._working_s(), 0
            while steps < MIN_TIMED_STEPS or self._working_s() - started_s < min_s:
                steps += 1
                self.step(steps, TIMED_RATE)
                self._step_aside()
            step_s = (self._working_s() - started_s) / steps
            judges = self.validation_images
            some = judges.take(torch.arange(min(len(judges), MAX_TIMED_JUDGES)))
            self._judge(some)
            started_s = self._working_s()
            self._judge(some)
            return step_s, (self._working_s() - started_s) / len(some)

    def save(self, path: Path, digest: str) -> None:
        """Write weights, momentum and epochs to `path`, whole or not at all. `digest` names the
        architecture.
        """
        write_checkpoint(path, self._checkpoint(digest))

    def load(self, path: Path, digest: str) -> float:
        """Resume from what `save` wrote and return its epochs.

        Raises `CorruptFileError` if it does not fit this network.
        """
        try:
            self._restore(read_checkpoint(path, digest))
        except (RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise CorruptFileError(f"{path} does not fit this network: {reason}") from error
        return self.epochs

    def _checkpoint(self, digest: str) -> Checkpoint:
        """Return all that the training resumes from."""
        momentum = {
            f"{name}:{key}".removesuffix(f":{MOMENTUM}"): value
            for name, parameter in self.model.named_parameters()
            for key, value in self._optimizer.state[parameter].items()
            if value is not None
        }
        for number, group in enumerate(self._optimizer.param_groups):
            if "step" in group:
                momentum[f":{number}"] = group["step"]
        return Checkpoint(
            epochs=self.epochs,
            digest=digest,
            weights=self.model.state_dict(),
            momentum=momentum,
            scaler=self._scaler.state_dict(),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Take the state in which the checkpoint was made."""
        self.model.load_state_dict(dict(checkpoint.weights))
        for place, value in checkpoint.momentum.items():
            name, _, key = place.partition(":")
            if not name:
                self._optimizer.param_groups[int(key)]["step"] = value
                continue
            parameter = self.model.get_parameter(name)
            buffer = torch.empty_like(parameter, requires_grad=False)
            buffer = buffer.copy_(value) if value.ndim else value  # a count has no dimension
            self._optimizer.state[parameter][key or MOMENTUM] = buffer
        if checkpoint.scaler:
            self._scaler.load_state_dict(dict(checkpoint.scaler))
        self.epochs = checkpoint.epochs

    def _backward(self, step: int) -> Tensor:
        """Compute the gradients of this step, and return its loss."""
        loss = self._batch_loss(self._batch(step), step)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _batch_loss(self, batch: Tensor, step: int) -> Tensor:
        """Return the loss of the images with these indices, as they are augmented in this step.

        Layers such as dropout draw from torch's own generators, which begin anew in each step.
        """
        inputs, labels = self._inputs(batch, step)
        # torch.manual_seed takes 0.1 ms where there is no GPU
        on_cpu = self.device.type == "cpu"
        begin = torch.default_generator.manual_seed if on_cpu else torch.manual_seed
        begin(self._stream(MASKS, step).initial_seed())
        with self.numerics.autocast(self.device):
            logits = self._forward(inputs)
        return self._loss(logits.float(), labels, inputs)

    def _batch(self, step: int) -> Tensor:
        """Return the indices of the images of this step."""
        epoch, place = divmod(step, len(self.train_images) // self.batch_size)
        return self._epoch_order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]

    def _inputs(self, batch: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the images of this step as the network sees them, and their labels."""
        images, labels = self.train_images.images[batch], self.train_images.labels[batch]
        return self._augmented(images, step), labels

    def _loss(self, logits: Tensor, labels: Tensor, inputs: Tensor) -> Tensor:
        """Return the loss of one batch, a scalar. `inputs` are what the network saw."""
        return self._label_loss(logits, labels)

    def _label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss towards the labels."""
        return F.cross_entropy(logits, labels, label_smoothing=self.spec.label_smoothing)

    def _train(self, steps: range, shares: Sequence[float]) -> float:
        """Train these steps, each at its share of the highest learning rate, and return the mean
        loss.
        """
        self.model.train()
        rates = [self.spec.learning_rate * share for share in shares]
        losses = torch.zeros(len(steps), device=self.device)
        for k, step in enumerate(steps):
            losses[k] = self.step(step, rates[k])
            if (k + 1) % STEPS_BETWEEN_CHECKS == 0 or k + 1 == len(steps):
                _check(losses[: k + 1], steps, rates)
            self._step_aside()
        return losses.mean().item()

    @torch.inference_mode()
    def _judge(self, judges: Images) -> dict[str, float]:
        """Return the shares of these images that are classified wrongly: `error`, and with more
        than five classes `top5_error`, for which the five most likely classes count.
        """
        self.model.eval()
        right, in_top5 = torch.zeros(2, dtype=torch.int64, device=self.device)
        classes = 0
        finite = torch.ones((), dtype=torch.bool, device=self.device)
        for images, labels in self._judged(judges):
            with self.numerics.autocast(self.device):
                logits = self._forward(self._normalised(images))
            right += (logits.argmax(1) == labels).sum()
            if (classes := logits.shape[1]) > TOP_CLASSES:
                in_top5 += (logits.topk(TOP_CLASSES, 1).indices == labels[:, None]).sum()
            finite &= logits.isfinite().all()
            self._step_aside()
        if not finite:
            raise TrialFailedError("the outputs for the validation images are not finite")
        count = len(judges)
        metrics = {"error": (count - int(right)) / count}
        if classes > TOP_CLASSES:
            metrics["top5_error"] = (count - int(in_top5)) / count
        return metrics

    def _judged(self, judges: Images) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of these images and their labels, on the device."""
        size = validation_batch(self.device.type, judges.images.shape[-1])
        images, labels = torch.split(judges.images, size), torch.split(judges.labels, size)
        yield from zip(images, labels, strict=True)

    def _augmented(self, batch: Tensor, step: int) -> Tensor:
        """Return the batch as the network sees it in this step: augmented and normalised."""
        random = self._stream(AUGMENTATION, step)
        if self.spec.flip:
            batch = augment.flip(batch, random)
        scale = batch.shape[-1] / self._full_side if self._full_side else 1.0
        shift = min(round(self.spec.translate * scale), batch.shape[-1] - 1)
        erased = round(self.spec.cutout * scale)
        if shift:
            batch = augment.translate(batch, shift, random)
        inputs = self._normalised(batch)
        return augment.cutout(inputs, erased, random) if erased else inputs

    def _epoch_order(self, epoch: int) -> Tensor:
        """Return the indices of the training images in the order of this epoch."""
        if self._order[0] != epoch:
            stream = self._stream(ORDER, epoch)
            count = len(self.train_images)
            order = torch.randperm(count, device=self.device, generator=stream)
            self._order = (epoch, order)
        return self._order[1]

    def _stream(self, purpose: int, number: int) -> torch.Generator:
        """Return the generator at the start of its own stream. torch's CPU generator keeps only 32
        bits of a seed, therefore they are mixed first.
        """
        mixed = np.random.SeedSequence((self.seed, purpose, number)).generate_state(1)[0]
        return self._random.manual_seed(int(mixed))

    def _step_aside(self) -> None:
        if self.step_aside is not None:
            started_s = self._clock()
            self.step_aside()
            self._aside_s += self._clock() - started_s

    def _working_s(self) -> float:
        """Return elapsed seconds after synchronising the device, excluding the time spent yielding
        it to measurements.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._clock() - self._aside_s


def validation_batch(device_type: str, image_size: int) -> int:
    """Return the number of images of this size (pixels square) in a validation batch."""
    if device_type != "cuda":
        return MIN_VALIDATION_BATCH
    return max(MIN_VALIDATION_BATCH, GPU_VALIDATION_PIXELS // image_size**2)


def sgd(model: nn.Module, spec: TrainingSpec) -> torch.optim.SGD:
    """Return Nesterov SGD in one fused kernel. Weight decay acts on kernels and matrices, not on
    BatchNorm and biases.

    Momentum begins at zero, with which the first step is the same as without any. Buffers that the
    first step makes would keep arbitrary values if fp16 skips that step.
    """
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=spec.learning_rate,
        momentum=spec.momentum,
        nesterov=spec.momentum > 0,
        fused=True,
    )
    for parameter in parameters if spec.momentum else ():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _check(losses: Tensor, steps: range, rates: list[float]) -> None:
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        k = int(wrong[0])
        raise TrialFailedError(
            f"the training loss is {losses[k].item()} at step {steps[k]}, "
            f"{k + 1} of {len(steps)} in its rung, at learning rate {rates[k]:.4g}"
        )
