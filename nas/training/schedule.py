"""The batches of one rung and their learning-rate cycle: a straight line up, then a straight line
down to exactly zero.
"""

from nas.core.errors import InvalidValueError


def steps_between(start_epochs: float, end_epochs: float, images: int, batch_size: int) -> range:
    """Return the batches of a rung, counted from the beginning of epoch 0. An epoch is all whole
    batches of the images.

    Raises `InvalidValueError` if the rung has no whole batch.
    """
    steps_per_epoch = images // batch_size
    steps = range(round(start_epochs * steps_per_epoch), round(end_epochs * steps_per_epoch))
    if not steps:
        raise InvalidValueError(
            f"there is no whole batch of {batch_size} images between {start_epochs} and "
            f"{end_epochs} epochs of {images} images"
        )
    return steps


def one_cycle(progress: float, warmup: float) -> float:
    """Return the share of the highest learning rate at `progress` in [0, 1] of the rung. The peak
    is at `warmup` in (0, 1).
    """
    return progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)


def at_step(step: int, steps: int, warmup: float) -> float:
    """Return the share of the highest learning rate for step `step` of `steps`.

    It is taken in the middle of the step: neither the first nor the last one is spent on a learning
    rate of zero.
    """
    return one_cycle((step + 0.5) / steps, warmup)
