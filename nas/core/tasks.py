"""Messages between the search and its workers: tasks, and events that report on them."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Protocol

from nas.core.architecture import Architecture
from nas.core.foreign import ForeignNetwork
from nas.core.measurement import Measurement
from nas.core.recipe import Recipe
from nas.core.trial import Evaluation, Rung


@dataclass(frozen=True, kw_only=True)
class ResourceUse:
    """Resources that an event took besides its own seconds.

    `waiting_s` is the time until the worker got the device. `energy_j` is the energy that the
    device drew for the event. `engine_j` is the energy that it drew for anything else since the
    previous event. Energies are None if they were not measured.
    """

    waiting_s: float = 0.0
    energy_j: float | None = None
    engine_j: float | None = None


class AnyTask(Protocol):
    """A task of any kind."""

    @property
    def number(self) -> int:
        """The number by which its worker reports on it."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trial to work on.

    `evaluation` holds the results so far, from which an interrupted trial continues. Only a
    baseline is a network of another package. `folder` is the folder of the checkpoints among the
    artifacts; without one the evaluator names it by the architecture. After `remaining_s` seconds
    the evaluator waits no longer for a quiet device, and ends a training with `OutOfTime`.
    """

    number: int
    architecture: Architecture | ForeignNetwork
    seed: int
    evaluation: Evaluation = field(default_factory=Evaluation)
    folder: str = ""
    remaining_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class CertifyTask:
    """Networks to measure in one session.

    One `Measured` event answers it. It has the same number of figures for each network, in their
    order.
    """

    number: int
    architectures: tuple[Architecture, ...]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A trained OSA network: its architecture, and the path of its weights among the artifacts."""

    architecture: Architecture
    path: str

    @property
    def name(self) -> str:
        """The name of the file's folder, which a study keeps when it gets another name."""
        return PurePath(self.path).parent.name


@dataclass(frozen=True, kw_only=True)
class FinalTask:
    """A network to train fully.

    If `architecture` is None, the callable `network` (`module:callable`) makes the network.
    `folder` is the folder among the artifacts for its weights and for the state from which it
    resumes after an interruption. `start` is the file of weights that it starts from. `loaders`
    processes read image files; None stands for the cores of a worker.
    """

    number: int
    network: str
    architecture: Architecture | None
    recipe: Recipe
    seed: int
    folder: str
    teacher: Weights | None = None
    start: str | None = None
    loaders: int | None = None

    @property
    def resume_file(self) -> str:
        """The file, among the artifacts, from which the training resumes."""
        return f"{self.folder}/going.safetensors"


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """A report that `epochs` epochs of a final training are done and stored.

    `loss` is the mean over the last of them. Nothing is recorded. Of a training on image files the
    last epoch may be a part of one.
    """

    epochs: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Measured(ResourceUse):
    """Figures that need no training; measuring them took `seconds`.

    `decides` is False if the network is trained already, so that neither a limit nor the sampler
    ends its trial.
    """

    measurements: tuple[Measurement, ...]
    seconds: float
    decides: bool = True


@dataclass(frozen=True, kw_only=True)
class Trained(ResourceUse):
    """A report that one more rung was reached."""

    rung: Rung


@dataclass(frozen=True, kw_only=True)
class OutOfTime(ResourceUse):
    """A report that the search's time ended before the next rung, whose part is dropped.

    The task continues from its last recorded result when it is given again.
    """


@dataclass(frozen=True, kw_only=True)
class Tested(Trained):
    """A report that a final training is finished. Its figures are on `test_images` images."""

    test_images: int


Result = Measured | Trained
Event = Result | OutOfTime


class Decision(StrEnum):
    """The answer to an event."""

    CONTINUE = "continue"
    END = "end"
    """The worker is done with the trial. It has ended and is recorded: complete, over a limit,
    skipped, or stopped at a rung. Or it stays running, to be resumed later: a budget is spent, or
    others use the device.
    """
