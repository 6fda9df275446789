"""Brief training of one network on images that lie on the device.

The method is that of airbench (Jordan, arXiv 2404.00498) as far as it carries over to any network:
one uint8 tensor, augmentation as a pure function of a batch, one learning-rate cycle that ends at
zero within the rung, label smoothing.
"""

from nas.training.allocator import keep_memory
from nas.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from nas.training.choice import NumericsFigure, choose_numerics
from nas.training.full import FullTrainer
from nas.training.numerics import Numerics
from nas.training.trainer import Trainer

__all__ = [
    "Checkpoint",
    "FullTrainer",
    "Numerics",
    "NumericsFigure",
    "Trainer",
    "choose_numerics",
    "keep_memory",
    "read_checkpoint",
    "write_checkpoint",
]
