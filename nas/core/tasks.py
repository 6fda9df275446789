"""What a worker is given and what it reports back: the messages between the search and whoever does
the work.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from nas.core.architecture import Architecture
from nas.core.measurement import Measurement
from nas.core.recipe import Recipe
from nas.core.trial import Evaluation, Rung


@dataclass(frozen=True, kw_only=True)
class ResourceUse:
    """What an event took besides its own seconds: `waiting_s` until the worker got the device, the
    joules that the device drew for it, and `engine_j` that it drew since the event before for
    anything else; None where nobody can tell.
    """

    waiting_s: float = 0.0
    energy_j: float | None = None
    engine_j: float | None = None


class AnyTask(Protocol):
    """Any task, whatever has to be done for it."""

    @property
    def number(self) -> int:
        """What its worker calls it by."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trial to work on. `evaluation` is what is known already, so that an interrupted trial goes
    on from there.
    """

    number: int
    architecture: Architecture
    seed: int
    evaluation: Evaluation = field(default_factory=Evaluation)


@dataclass(frozen=True, kw_only=True)
class CertifyTask:
    """Networks to measure in one session; one `Measured` event answers it, as many figures for
    each, in their order.
    """

    number: int
    architectures: tuple[Architecture, ...]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A trained network of ours: its architecture, and the path of its weights among the
    artifacts.
    """

    architecture: Architecture
    path: str


@dataclass(frozen=True, kw_only=True)
class FinalTask:
    """A network to train fully: `architecture`, or where it is None the one that `network`
    (`module:callable`) makes.

    `place` is the folder among the artifacts for its weights, and for what it goes on from after an
    interruption.
    """

    number: int
    network: str
    architecture: Architecture | None
    recipe: Recipe
    seed: int
    folder: str
    teacher: Weights | None = None

    @property
    def resume_file(self) -> str:
        """The file, among the artifacts, that it goes on from."""
        return f"{self.folder}/going.safetensors"


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """So many epochs of a final training are done; nothing to record, `loss` is the mean of the
    last of them.
    """

    epochs: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Measured(ResourceUse):
    """Figures that need no training; `seconds` is the time it took to get them."""

    measurements: tuple[Measurement, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Trained(ResourceUse):
    """One more rung reached."""

    rung: Rung


@dataclass(frozen=True, kw_only=True)
class Tested(Trained):
    """A final training is finished: the rung's error is on so many test images."""

    test_images: int


Event = Measured | Trained


class Decision(StrEnum):
    """The answer to an event."""

    CONTINUE = "continue"
    END = "end"
    """The trial is over and recorded: complete, beyond a limit, passed over, or behind the
    others.
    """
