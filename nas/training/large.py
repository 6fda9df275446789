"""Full training on images that are read from files while it runs, put together from timm's parts.

timm gives the readers, transforms, mixup and CutMix, random erasing, losses, optimizers and
schedules. The loop is that of full training, and torch's DistributedDataParallel connects several
devices. Everything random is a function of (seed, epoch, image) or of (seed, micro-batch).
Therefore neither the number of loader processes nor an interruption within an epoch changes a bit
of the result, and the number of devices changes no more than the rounding of sums.
"""

import random
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import torch.distributed as dist
from timm.data import Mixup, create_transform
from timm.data.random_erasing import RandomErasing
from timm.data.readers import create_reader
from timm.loss import BinaryCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, default_collate

from nas.agent.host import end_with_parent
from nas.core.errors import (
    CorruptFileError,
    DataNotFoundError,
    InvalidValueError,
    UnavailableError,
    first_line,
)
from nas.core.large import HUGGING_FACE, LargeSpec
from nas.core.recipe import Recipe
from nas.data import Images
from nas.data.image_file import decode, unreadable
from nas.model.compiling import Compiled
from nas.training.full import FullTrainer
from nas.training.trainer import validation_batch

TRAIN_PARTS, TEST_PARTS = ("train",), ("validation", "val", "test")
"""Names of the parts of a data set. Of several, the first one is taken."""
STEPS_PER_CHECKPOINT = 250
"""Steps after which a checkpoint is due within an epoch."""
ORDER, CHANGES, MIXING = 10, 11, 12
"""The purposes of random streams, besides those of `Trainer`."""

Sample = tuple[int, int]
"""The epoch and the index of an image."""


class ImageFiles:
    """Labelled images that one of timm's readers finds. The item of (epoch, index) is the changed
    image, uint8 (3, H, W), with its label, or the error of a damaged file.
    """

    def __init__(self, reader: Any, classes: Sequence[str], transform: Any, seed: int = 0) -> None:
        self.reader, self.classes = reader, tuple(classes)
        self.transform, self.seed = transform, seed

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, sample: Sample) -> tuple[Tensor, int] | CorruptFileError:
        epoch, index = sample
        try:
            file, label = self.reader[index]
            with file:
                image = decode(file)
        except Exception as error:  # noqa: BLE001 - the decoders' errors have many classes
            # returned, because a loader process would add its whole traceback to a raised one
            return unreadable(self.reader.filename(index, absolute=True) or index, error)
        with seeded(self.seed, CHANGES, epoch, index):
            return self.transform(image), int(label)


def draw(images: int, batch_size: int, numbers: range, *, seed: int) -> Iterator[list[Sample]]:
    """Yield the samples of these batches, which are counted from the beginning of epoch 0.

    The batches follow one another across the ends of epochs: every image is used once in each
    epoch, and every batch is full.
    """
    order: tuple[int, Sequence[int]] = (-1, ())
    for number in numbers:
        batch = []
        for position in range(number * batch_size, (number + 1) * batch_size):
            epoch, place = divmod(position, images)
            if order[0] != epoch:
                generator = np.random.default_rng((seed, ORDER, epoch))
                order = epoch, generator.permutation(images).tolist()
            batch.append((epoch, order[1][place]))
        yield batch


class LargeTrainer(FullTrainer):
    """Trains by a recipe with `large` on image files, which `loaders` processes read and change. 0
    stands for this process.

    If torch's process group is there, its processes train one network together: each computes
    every `world`-th micro-batch. The weights of all are the same. The statistics of BatchNorm are
    those of the process with `rank` 0.
    """

    def __init__(
        self, *, recipe: Recipe, train: ImageFiles, loaders: int = 0, **settings: Any
    ) -> None:
        self._large = large = _large_of(recipe)
        if dist.is_available() and dist.is_initialized():
            self.rank, self.world = dist.get_rank(), dist.get_world_size()
        if large.sync_batch_norm and self.world > 1:
            if torch.device(settings.get("device", "cpu")).type == "cpu":
                raise InvalidValueError("large.sync_batch_norm needs a GPU for each process")
            convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
            settings["model"] = convert(settings["model"])
        super().__init__(
            recipe=recipe,
            train=cast("Images", train),
            mean=large.mean,
            std=large.std,
            **settings,
        )
        self.classes = train.classes
        self._files, self._loaders = train, loaders
        self._micro_batch = self.batch_size // large.micro_batches
        self._batches: tuple[int, Iterator[Any]] = (-1, iter(()))
        spec = self.spec
        self._optimizer = create_optimizer_v2(
            self.model,
            opt=large.optimizer,
            lr=spec.learning_rate,
            weight_decay=spec.weight_decay,
            momentum=spec.momentum,
        )
        self._statistics = [each for each in self.model.buffers() if each.is_floating_point()]
        self._parallel: DistributedDataParallel | None = None
        if self.world > 1:
            self._parallel = DistributedDataParallel(
                self.model,
                device_ids=None if self.device.type == "cpu" else [self.device],
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )
            compiles = self.numerics.compile
            self._forward = Compiled(self._parallel) if compiles else self._parallel
        self._schedule = schedule_of(large, recipe.epochs, self.steps_per_epoch)
        self._erasing = RandomErasing(large.erase, mode="pixel", device="cpu")
        is_binary = large.loss == "bce"
        self._bce = BinaryCrossEntropy(smoothing=spec.label_smoothing) if is_binary else None
        self._mixup = Mixup(
            mixup_alpha=large.mixup,
            cutmix_alpha=large.cutmix,
            label_smoothing=spec.label_smoothing if is_binary else 0.0,  # else the loss smooths
            num_classes=len(train.classes),
        )

    @property
    def steps_per_epoch(self) -> float:
        """The number of batches in an epoch, which need not be whole."""
        return len(self.train_images) / self.batch_size

    @property
    def image_size(self) -> int:
        """The side in pixels of the images that the network is trained with."""
        return self._large.image_size

    @property
    def next_end(self) -> float:
        """The epochs at which the next checkpoint is due."""
        parts = round(self.epochs * self.steps_per_epoch) // STEPS_PER_CHECKPOINT
        end = (parts + 1) * STEPS_PER_CHECKPOINT / self.steps_per_epoch
        return min(end, super().next_end)

    @property
    def conditions(self) -> dict[str, Any]:
        """What results depend on to the bit, as in `Trainer`."""
        return {**super().conditions, "devices": self.world}

    def _backward(self, step: int) -> Tensor:
        """Compute the gradients of the micro-batches of this process, and average those of all."""
        parts = self._large.micro_batches
        own = range(step * parts + self.rank, (step + 1) * parts, self.world)
        first: list[Tensor] = []
        total = torch.zeros((), device=self.device)
        for number in own:
            is_last = number == own[-1]
            parallel = None if is_last else self._parallel
            with parallel.no_sync() if parallel else nullcontext():
                loss = self._batch_loss(torch.empty(0), number) / len(own)
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            if not is_last and not first:
                first = [each.clone() for each in self._statistics]
        if first:
            torch._foreach_copy_(self._statistics, first)
        if self._parallel is not None:
            dist.all_reduce(total)
        return total / self.world

    def _inputs(self, batch: Tensor, step: int) -> tuple[Tensor, Tensor]:
        images, labels = self._read(step)
        inputs = self._augmented(images, step)
        with seeded(self.seed, MIXING, step):
            if self._large.erase:
                inputs = self._erasing(inputs)
            if self._large.mixes:
                inputs, labels = self._mixup(inputs, labels)
        return inputs, labels

    def _label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self._bce is None:
            return super()._label_loss(logits, labels)
        loss: Tensor = self._bce(logits, labels)
        return loss

    def _share(self, step: int) -> float:
        """Return the factor of the recipe's learning rate, in the middle of this step."""
        share = super()._share(step)
        if self._schedule is not None:
            self._schedule.step_update(step + 0.5)
            share = self._schedule.optimizer.param_groups[0]["lr"]
        return share * self._large.scale(self.batch_size)

    def _read(self, number: int) -> tuple[Tensor, Tensor]:
        """Return images and labels of this micro-batch. The loader begins at the first one and
        after a jump, and ends with the training.
        """
        due, batches = self._batches
        end = self._steps * self._large.micro_batches
        if number != due:
            numbers = range(number, end, self.world)
            samples = draw(len(self._files), self._micro_batch, numbers, seed=self.seed)
            batches = self._loaded(self._files, samples)
        batch: tuple[Tensor, Tensor] = next(batches)
        following = number + self.world
        self._batches = (following, batches) if following < end else (-1, iter(()))
        return batch

    def _judged(self, judges: Images) -> Iterator[tuple[Tensor, Tensor]]:
        size = min(validation_batch(self.device.type, self.image_size), self._micro_batch)
        samples = [(0, index) for index in range(len(judges))]
        batches = (samples[first : first + size] for first in range(0, len(samples), size))
        yield from self._loaded(cast("ImageFiles", judges), batches)

    def _loaded(
        self, files: ImageFiles, samples: Iterable[list[Sample]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield these batches on the device. Raises the error of the first damaged image."""
        loader = DataLoader(
            cast("Any", files),
            batch_sampler=cast("Any", samples),
            num_workers=self._loaders,
            collate_fn=_collated,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
            worker_init_fn=_begin_loader,
        )
        for batch in loader:
            if isinstance(batch, CorruptFileError):
                raise batch
            images, labels = (each.to(self.device, non_blocking=True) for each in batch)
            yield images, labels


def open_images(recipe: Recipe, seed: int = 0) -> tuple[ImageFiles, ImageFiles]:
    """Return the training and the test images of a recipe with `large`, without reading pixels.
    `seed` is that of the changes of training images.

    Raises `DataNotFoundError` if there are none, and `InvalidValueError` if the parts differ in
    their classes, if a batch has more images than there are, or if timm does not understand
    `auto_augment`.
    """
    large = _large_of(recipe)
    classes, train, test = _parts(large.data)
    if len(train) < recipe.training.batch_size:
        raise InvalidValueError(
            f"training.batch_size must be at most the {len(train)} training images of "
            f"{large.data}, not {recipe.training.batch_size}"
        )
    common = {
        "input_size": large.image_size,
        "interpolation": "bilinear",
        "use_prefetcher": True,  # which asks for uint8
    }
    try:
        changes = create_transform(
            is_training=True,
            scale=(large.min_crop, 1.0),
            hflip=0.0,  # `training.flip` mirrors whole batches on the device
            color_jitter=None,
            auto_augment=large.auto_augment or None,
            mean=large.mean,
            **common,
        )
    except Exception as error:  # timm asserts, and looks names up
        raise InvalidValueError(
            f"large.auto_augment must be such as rand-m7-mstd0.5-inc1, not {large.auto_augment!r}: "
            f"{first_line(error)}"
        ) from error
    crop = create_transform(crop_pct=large.test_crop, **common)
    return ImageFiles(train, classes, changes, seed), ImageFiles(test, classes, crop)


def timm_teacher(large: LargeSpec, classes: int) -> nn.Module:
    """Return the pretrained teacher of a recipe, for the inputs of the network that it teaches.

    Raises `InvalidValueError` if timm cannot build it or if its classes are of another number.
    """
    try:
        network = timm.create_model(large.teacher, pretrained=True)
    except Exception as error:  # timm, the hub and safetensors raise errors of many classes
        raise InvalidValueError(
            f"large.teacher must be a network of timm with weights, or local-dir:FOLDER, not "
            f"{large.teacher}: {first_line(error)}"
        ) from error
    cfg = network.pretrained_cfg
    if network.num_classes != classes:
        raise InvalidValueError(
            f"the teacher {large.teacher} has {network.num_classes} classes, and the training "
            f"images have {classes}"
        )
    return Renormalised(network, large, cfg["mean"], cfg["std"])


class Renormalised(nn.Module):
    """A network whose inputs are normalised by the mean and the std of a recipe."""

    def __init__(
        self, network: nn.Module, large: LargeSpec, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.factor: Tensor
        self.shift: Tensor
        own_mean, own_std, to_mean, to_std = (
            torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)
            for values in (large.mean, large.std, mean, std)
        )
        self.register_buffer("factor", own_std / to_std)
        self.register_buffer("shift", (own_mean - to_mean) / to_std)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the network's logits."""
        logits: Tensor = self.network(inputs * self.factor + self.shift)
        return logits


def schedule_of(large: LargeSpec, epochs: float, steps_per_epoch: float) -> Any:
    """Return timm's schedule of a rate that is 1 at its highest; None for one cycle."""
    if large.schedule == "one_cycle":
        return None
    make: Any = create_scheduler_v2  # whose annotations ask for whole numbers
    schedule, _ = make(
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0),
        sched=large.schedule,
        num_epochs=epochs,
        decay_epochs=large.decay_epochs,
        warmup_epochs=large.warmup_epochs,
        warmup_lr=0.0,
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    return schedule


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Let Python, NumPy and torch's CPU generator draw by `key`, and restore their states."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - timm draws from it
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@lru_cache(maxsize=2)
def _parts(data: str) -> tuple[list[str], Any, Any]:
    """Return the classes in the order of their numbers, and timm's readers of both parts."""
    readers = _reader(data, TRAIN_PARTS), _reader(data, TEST_PARTS)
    numbers = [
        getattr(r, "class_to_idx", None) or getattr(r, "class_name_to_idx", {}) for r in readers
    ]
    classes, others = (sorted(each, key=each.__getitem__) for each in numbers)
    if len(classes) < 2 or "" in classes:
        raise InvalidValueError(
            f"the training images of {data} must lie in a folder for each of two or more classes"
        )
    if classes != others:
        differing = sorted({*classes} ^ {*others})
        raise InvalidValueError(
            f"the training and the test images of {data} differ in {len(differing)} classes, such "
            f"as {differing[0]}"
        )
    return classes, *readers


def _reader(data: str, parts: Sequence[str]) -> Any:
    """Return timm's reader of the first of these parts that there is."""
    if data.startswith(HUGGING_FACE):
        if find_spec("datasets") is None:
            raise UnavailableError(f"{data} needs the package 'datasets': pip install datasets")
        places: list[tuple[str, str | None, str]] = [(data, None, part) for part in parts]
    else:
        paths = [Path(data) / f"{part}{suffix}" for part in parts for suffix in ("", ".tar")]
        places = [("", str(path), "") for path in paths if path.exists()]
    problem = f"no part {' or '.join(parts)}, a folder of class folders or a .tar file"
    for name, root, split in places:
        try:
            return create_reader(name, root=root, split=split)
        except (AssertionError, OSError, RuntimeError, ValueError, tarfile.TarError) as error:
            problem = f"no images in {root or split}: {first_line(error)}"
    raise DataNotFoundError(f"{data} has {problem}")


def _begin_loader(_: int) -> None:
    """Let a loader process end with the training, whose claim on the study it has inherited."""
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        end_with_parent(parent.pid)


def _collated(items: Sequence[Any]) -> Any:
    """Return images and labels as two tensors, or the first error."""
    errors = (item for item in items if isinstance(item, CorruptFileError))
    return next(errors, None) or default_collate(list(items))


def _large_of(recipe: Recipe) -> LargeSpec:
    if recipe.large is None or not recipe.large.data:
        raise InvalidValueError("a recipe for image files must name them by large.data or --data")
    return recipe.large
