"""Evaluators without data and training, to test engines and workers and to time them.

Their figures are arithmetic on the architecture and are marked as modelled: they predict nothing
about a real network.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from nas.core.architecture import Architecture
from nas.core.complexity import count
from nas.core.errors import TrialFailedError, UnavailableError
from nas.core.measurement import Device, Kind, Measurement
from nas.core.preparation import Preparation
from nas.core.tasks import Event, Measured, Task, Trained
from nas.core.trial import Rung
from nas.searching.evaluators.contract import EvaluatorPlugin, StudyContext

MODELLED_IMAGES = 45_000
"""Training images in an epoch of a training that is only arithmetic."""


class ArithmeticEvaluator:
    """Finishes every trial at once.

    Its figures are counts, a latency from the memory access cost, one from the MACs for each
    objective that names a device, and an error that falls with parameters and epochs.
    """

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Return a preparation at once, since no data are needed."""
        return Preparation(data=context.spec.data, classes=tuple("0123456789"))

    def __init__(self, context: StudyContext) -> None:
        self.context = context

    def steps(self, task: Task) -> Iterator[Event]:
        """Yield counts and a latency, then every rung that is not done yet."""
        if not isinstance(task.architecture, Architecture):
            raise TrialFailedError("this arithmetic is on OSA networks only")
        counts = count(task.architecture, 32, 10)
        if not task.evaluation.measurements:
            yield Measured(
                measurements=(
                    Measurement.counted("parameters", "1", counts.parameters),
                    Measurement.counted("macs", "1", counts.macs),
                    _modelled("latency", counts.memory_access_cost * 1e-9, None),
                    *(
                        _modelled(objective.key, counts.macs * 1e-9, objective.device)
                        for objective in self.context.spec.objectives
                        if objective.device is not None
                    ),
                ),
                seconds=0.0,
            )
        for rung in self.context.spec.rungs:
            epochs = rung.epochs_of(MODELLED_IMAGES, self.context.spec.training.batch_size)
            if not task.evaluation.rungs or epochs > task.evaluation.rungs[-1].epochs:
                yield self.train(task, epochs, counts.parameters)

    def train(self, task: Task, epochs: float, parameters: int) -> Trained:
        """Return one rung."""
        error = 0.9 / (1 + epochs * parameters**0.25)
        return Trained(
            rung=Rung(
                epochs=epochs,
                metrics={"error": error},
                train_loss=error,
                images=1,
                train_s=0.0,
                validation_s=0.0,
            )
        )


ARITHMETIC = EvaluatorPlugin(
    search=f"{__name__}:ArithmeticEvaluator", certify="", replicate="", final=""
)
"""The plugin of studies whose trials all are arithmetic."""


def _modelled(name: str, seconds: float, device: str | None) -> Measurement:
    return Measurement(
        metric=name,
        unit="s",
        value=seconds,
        ci_low=seconds,
        ci_high=seconds,
        kind=Kind.MODELLED,
        method="arithmetic",
        device=None
        if device is None
        else Device(kind="cpu", name=device, identity=device, device_class=f"class of {device}"),
    )


class FailingEvaluator(ArithmeticEvaluator):
    """Fails every trial whose number is a multiple of three, while it trains."""

    def train(self, task: Task, epochs: float, parameters: int) -> Trained:
        """Return one rung, or fail the trial."""
        if task.number % 3 == 0:
            raise TrialFailedError("the loss is not finite after 7 steps")
        return super().train(task, epochs, parameters)


class MistakenEvaluator(ArithmeticEvaluator):
    """Has a programming error that trial 1 meets after its first rung, and logs every attempt."""

    def train(self, task: Task, epochs: float, parameters: int) -> Trained:
        """Return one rung, or raise an error that is no `NasError`."""
        if task.number == 1:
            with (Path(self.context.artifacts) / "attempts.log").open(
                "a", encoding="utf-8"
            ) as file:
                file.write(f"{epochs:g}\n")
            if epochs > (self.context.spec.rungs[0].epochs or 0.0):
                raise KeyError("no such layer")
        return super().train(task, epochs, parameters)


class ClosedEvaluator(ArithmeticEvaluator):
    """Logs in which processes it is built and closed."""

    def __init__(self, context: StudyContext) -> None:
        super().__init__(context)
        self._log("built")

    def close(self) -> None:
        """Log the end."""
        self._log("closed")

    def _log(self, what: str) -> None:
        with (Path(self.context.artifacts) / f"{what}.log").open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")


class BrokenEvaluator(ArithmeticEvaluator):
    """Has a programming error that every trial meets."""

    def train(self, task: Task, epochs: float, parameters: int) -> Trained:
        """Raise an error that is no `NasError`."""
        raise KeyError("no such layer")


class PoisonedEvaluator(ArithmeticEvaluator):
    """Trains nothing more in a process in which trial 1 failed. That fails in one process only."""

    poisoned = False

    def train(self, task: Task, epochs: float, parameters: int) -> Trained:
        """Return one rung, or raise an error that is no `NasError`."""
        marker = Path(self.context.artifacts) / "poisoned"
        if task.number == 1 and not marker.exists():
            marker.touch()
            self.poisoned = True
        if self.poisoned:
            raise RuntimeError("an illegal memory access was encountered")
        return super().train(task, epochs, parameters)


class DyingEvaluator(ArithmeticEvaluator):
    """Kills its own process with SIGKILL the first time trial 1 reaches its last rung.

    It logs every rung.
    """

    def train(self, task: Task, epochs: float, parameters: int) -> Trained:
        """Return one rung, or end the process."""
        log = Path(self.context.artifacts) / "rungs.log"
        marker = Path(self.context.artifacts) / "died"
        if (
            task.number == 1
            and epochs == self.context.spec.rungs[-1].epochs
            and not marker.exists()
        ):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{task.number} {epochs:g}\n")
        return super().train(task, epochs, parameters)


class DoomedEvaluator(ArithmeticEvaluator):
    """Kills its own process whenever it trains trial 1."""

    def train(self, task: Task, epochs: float, parameters: int) -> Trained:
        """Return one rung, or end the process."""
        if task.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train(task, epochs, parameters)


class UnpreparedEvaluator(ArithmeticEvaluator):
    """Fails while it is prepared."""

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Raise an `UnavailableError`."""
        raise UnavailableError(f"this machine cannot do it, nor can it do {context.spec.name}")


class KilledEvaluator(ArithmeticEvaluator):
    """Kills its own process while it is prepared."""

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """End the process."""
        os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(context)
