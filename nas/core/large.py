"""Settings of training on images that are read from files while it runs, with timm's parts."""

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Self

from nas.core.checks import make_floats, require, require_finite, require_whole

HUGGING_FACE = "hfds/"
"""Prefix of a data set of Hugging Face, as timm names it."""
LOCAL_FOLDER = "local-dir:"
"""Prefix of a network in a folder, as timm names it."""
UNSUPPORTED_PREFIXES = ("hfids/", "tfds/", "torch/", "wds/")
"""timm's prefixes of streams, which have no order to resume in, and of torchvision's data sets."""
NAMES = {
    "loss": ("bce", "cross_entropy"),
    "optimizer": ("adamw", "lamb", "momentum", "sgd"),
    "schedule": ("cosine", "one_cycle", "step"),
}
"""Values of keys that are names. timm's `sgd` has Nesterov momentum, `momentum` the plain one."""
RANGES = {
    "image_size": (8, 1024),
    "min_crop": (0.01, 1),
    "test_crop": (0.01, 1),
    "erase": (0, 1),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "decay_epochs": (0.01, 100_000),
    "warmup_epochs": (0, 100_000),
    "base_batch": (1, 1_000_000),
    "micro_batches": (1, 10_000),
}
"""Smallest and largest values of keys that are numbers."""
SQUARE_ROOT_SCALED = frozenset({"adamw", "lamb"})
"""Optimizers whose learning rate grows with the square root of the batch, by timm's rule."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class LargeSpec:
    """Training on the images of `data`, which need not fit in memory.

    `data` is a folder with the parts `train` and `validation`, `val` or `test`, each a folder of
    class folders or a `.tar` file of them, or `hfds/NAME`. The network sees squares of `image_size`
    pixels. `mean` and `std` are those of each channel, with pixels scaled to [0, 1].

    A training image is a random crop of at least the share `min_crop` of the area. It is changed by
    timm's `auto_augment` (such as `rand-m7-mstd0.5-inc1`), and a rectangle of it is erased with the
    probability `erase`. `mixup` and `cutmix` are the parameters of their beta distributions, 0
    turns them off; with both, each batch draws one. A test image is the middle square whose side is
    the share `test_crop` of the shorter side.

    `schedule` is `one_cycle` (that of `training.warmup`), `cosine`, or `step` (a tenth after every
    `decay_epochs`). The last two rise for `warmup_epochs` first. The learning rate is stated for
    batches of `base_batch` images. For others it is scaled linearly, and by the square root of the
    ratio for adamw and lamb.

    A batch is computed in `micro_batches` equal parts, whose gradients are averaged: one after the
    other, or on as many devices as divide their number. BatchNorm sees one part, and its running
    statistics are those of the first part of each batch. With `sync_batch_norm` it sees all parts
    that several GPUs compute at the same time.

    `teacher` is a pretrained network of timm with the classes of the data, by its name or as
    `local-dir:FOLDER`. The recipe's `distillation` and `temperature` say how it teaches.
    """

    data: str = ""
    image_size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    min_crop: float = 0.08
    test_crop: float = 0.875
    auto_augment: str = ""
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    loss: str = "cross_entropy"
    optimizer: str = "momentum"
    schedule: str = "step"
    decay_epochs: float = 30.0
    warmup_epochs: float = 0.0
    base_batch: int = 256
    micro_batches: int = 1
    sync_batch_norm: bool = False
    teacher: str = ""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = tuple(getattr(self, name))
            require(len(values) == 3, f"{name} must be three numbers, not {values}")
            for value in values:
                require_finite(**{name: value})
            object.__setattr__(self, name, tuple(map(float, values)))
        whole = ("image_size", "base_batch", "micro_batches")
        require_whole(**{name: getattr(self, name) for name in whole})
        make_floats(self, *(RANGES.keys() - {*whole}))
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            require(low <= value <= high, f"{name} must be from {low} to {high}, not {value}")
        for name, names in NAMES.items():
            value = getattr(self, name)
            require(value in names, f"{name} must be {', '.join(names)}, not {value!r}")
        require(min(self.std) > 0, f"std must be positive, not {self.std}")
        require(
            not self.data.startswith(UNSUPPORTED_PREFIXES),
            f"data must be a folder or {HUGGING_FACE}NAME, not {self.data!r}: a stream cannot "
            "resume where it stopped",
        )

    @property
    def mixes(self) -> bool:
        """True if images of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    def without_paths(self) -> Self:
        """Return the same with the names of folders in place of their paths on this machine."""
        data, teacher = self.data.removeprefix(HUGGING_FACE), self.teacher
        if data == self.data:
            data = PurePath(data).name
        if teacher.startswith(LOCAL_FOLDER):
            teacher = LOCAL_FOLDER + PurePath(teacher).name
        return replace(self, data=data, teacher=teacher)

    def scale(self, batch_size: int) -> float:
        """Return the factor of the learning rate for batches of this size."""
        ratio = batch_size / self.base_batch
        return ratio**0.5 if self.optimizer in SQUARE_ROOT_SCALED else ratio
