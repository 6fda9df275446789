"""Handwritten digits (UCI, 1998) from scikit-learn: 1,797 images of 8x8 pixels with 17 grey levels.

They are enlarged to 32x32 RGB, so that a CIFAR study runs on them unchanged if CIFAR-10 is not
available. 1,437 images are for training, 360 for the test.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from nas.core.errors import MissingDependencyError
from nas.core.study import DataSpec
from nas.data import Dataset, Images, Progress, split
from nas.data.statistics import channel_statistics

TEST_IMAGES = 360
"""Number of test images."""
TRAIN_IMAGES = 1797 - TEST_IMAGES
"""Number of training images."""
SPLIT_SEED = 0
"""Seed of the split into both."""
MAX_GREY = 16
"""The published pixels are integers from 0 to this."""


@dataclass(frozen=True)
class Digits:
    """The data set, which is a part of scikit-learn. Both methods raise `MissingDependencyError`
    without that package.
    """

    def prepare(self, spec: DataSpec, progress: Progress | None) -> int:
        """Return the number of training images."""
        _halves()
        return TRAIN_IMAGES

    def load(self, spec: DataSpec) -> Dataset:
        """Read the training images."""
        train, _ = _halves()
        mean, std = channel_statistics(train.images)
        return Dataset(
            name="digits",
            classes=tuple("0123456789"),
            train=train,
            mean=mean,
            std=std,
            read_test=_test,
        )


def _test() -> Images:
    return _halves()[1]


@cache
def _halves() -> tuple[Images, Images]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "digits") from error
    grey, labels = load_digits(return_X_y=True)  # (1797, 64), 0 to 16
    small = torch.from_numpy(grey.astype(np.float32)).reshape(-1, 1, 8, 8) * (255 / MAX_GREY)
    large = F.interpolate(small, size=(32, 32), mode="bilinear").round().to(torch.uint8)
    images = Images(
        large.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels.astype(np.int64))
    )
    train, test = split(images.labels, TEST_IMAGES, SPLIT_SEED)
    return images.take(train), images.take(test)


DIGITS = Digits()
