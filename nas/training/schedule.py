"""The learning-rate cycle of one rung: up in a straight line, then down in a straight line to exactly zero."""


def one_cycle(progress: float, warmup: float) -> float:
    """Share of the highest learning rate at `progress` in [0, 1] of the rung; the peak is at `warmup` in (0, 1)."""
    return progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)


def at_step(step: int, steps: int, warmup: float) -> float:
    """Share of the highest learning rate for step `step` of `steps`, taken in the middle of the step: neither the
    first nor the last one is spent on a learning rate of zero."""
    return one_cycle((step + 0.5) / steps, warmup)
