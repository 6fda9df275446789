"""The choice of the numerics that train fastest on this device: measured once per study, then fixed
and recorded.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nas.core.study import TrainingSpec
from nas.data import Images
from nas.training.numerics import Numerics, candidates
from nas.training.trainer import Trainer

ROUNDS = 5
MAX_SLOWDOWN = 1.5
"""A candidate is timed in the first round only if it took this many times as long as the fastest.
"""
STEPS_PER_ROUND = {"cpu": 1, "cuda": 20}
"""Training steps of a candidate in a round, by type of device; 1 on any other."""


@dataclass(frozen=True, kw_only=True)
class NumericsFigure:
    """Training speed with one candidate: the median of the rounds."""

    numerics: Numerics
    images_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**self.numerics.to_dict(), "images_per_s": self.images_per_s}


def choose_numerics(
    spec: TrainingSpec,
    device: torch.device | str,
    build: Callable[[], nn.Module],
    *,
    image_size: int = 32,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Numerics, tuple[NumericsFigure, ...]]:
    """Return the fastest numerics that `spec` leaves open, and the figures of all candidates.

    `build` makes the reference network, with any number of classes. All candidates train it
    interleaved on random images, so that a busy moment of the machine hits all alike, under the
    settings that a training has. With a single candidate nothing is measured.
    """
    device = torch.device(device)
    choices = candidates(spec, device)
    if len(choices) == 1:
        return choices[0], ()
    images = _noise(spec.batch_size, image_size).to(device)
    trainers = [_trainer(build(), images, spec, numerics, device) for numerics in choices]
    seconds = _interleaved(trainers, rounds, clock)
    images_per_round = spec.batch_size * STEPS_PER_ROUND.get(device.type, 1)
    figures = tuple(
        NumericsFigure(numerics=numerics, images_per_s=images_per_round / statistics.median(times))
        for numerics, times in seconds.items()
    )
    return max(figures, key=lambda figure: figure.images_per_s).numerics, figures


def _interleaved(
    trainers: Sequence[Trainer], rounds: int, clock: Callable[[], float]
) -> Mapping[Numerics, list[float]]:
    """Return the seconds of each round, after a warm-up round."""
    seconds: Mapping[Numerics, list[float]] = {trainer.numerics: [] for trainer in trainers}
    for trainer in trainers:
        _timed(trainer, clock)
    for _ in range(rounds):
        for trainer in trainers:
            seconds[trainer.numerics].append(_timed(trainer, clock))
        limit_s = MAX_SLOWDOWN * min(times[0] for times in seconds.values())
        trainers = [each for each in trainers if seconds[each.numerics][0] <= limit_s]
    return seconds


def _noise(count: int, size: int) -> Images:
    random = torch.Generator().manual_seed(0)
    return Images(
        torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=random),
        torch.zeros(count, dtype=torch.int64),
    )


def _trainer(
    model: nn.Module, images: Images, spec: TrainingSpec, numerics: Numerics, device: torch.device
) -> Trainer:
    return Trainer(
        model=model.train(),
        train=images,
        validation=images,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        spec=spec,
        numerics=numerics,
        device=device,
    )


def _timed(trainer: Trainer, clock: Callable[[], float]) -> float:
    """Return the seconds of a round's steps."""
    with trainer.numerics.settings():
        started_s = clock()
        for step in range(STEPS_PER_ROUND.get(trainer.device.type, 1)):
            loss = trainer.step(step, learning_rate=1e-3)
        loss.item()  # waits for the device
        return clock() - started_s
