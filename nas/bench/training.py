"""Speed of the training loop, compared with its upper bound and with the loop of most tutorials.

For three networks, images per second are measured of three loops:

* ours, as a worker of a search runs it;
* bare: forward, backward and step on one resident batch with the same settings;
* plain: fp32 over torchvision's CIFAR10 with its transforms and a DataLoader, as torch comes.

Each loop runs in its own process, and the loops are interleaved in short rounds, so that a busy
moment of the machine affects all of them. Therefore the ratios are reliable. For the whole machine,
our loop runs in as many processes as there are cores, and the plain loop with torch's own number of
threads.
"""

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing import get_context
from torch.nn import functional as F  # noqa: N812 - torch's own habit
from torch.utils.data import DataLoader

from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.complexity import count
from nas.core.errors import require_package
from nas.core.study import DataSpec, TrainingSpec
from nas.data import Dataset, Images, load
from nas.model import build
from nas.training.allocator import keep_memory
from nas.training.choice import choose_numerics
from nas.training.numerics import Numerics
from nas.training.trainer import Trainer, sgd

Step = Callable[[], Tensor]
"""One step of a loop, which returns the loss."""
Setup = tuple[str, int, int]
"""A loop, the threads of each of its processes (0 for torch's own number), and its processes."""

SPEC = TrainingSpec(batch_size=128)
"""All three loops take batches of 128, the size that most plain loops take."""

LEARNING_RATE = 1e-3
ROUNDS = 10
"""Default number of rounds."""


def _architecture(
    stem: tuple[int, int, int], stages: Sequence[tuple[int, int]], layers: int
) -> Architecture:
    return Architecture(
        stem=Stem.CIFAR,
        stem_channels=stem,
        stages=tuple(
            OsaStage(mid_channels=mid, out_channels=out, num_layers=layers) for mid, out in stages
        ),
    )


NETWORKS: Mapping[str, Architecture] = {
    "small": _architecture((8, 8, 12), ((8, 16), (12, 32), (16, 48)), 2),
    "middle": _architecture((16, 16, 16), ((16, 32), (24, 64), (32, 96)), 3),
    "large": _architecture((24, 24, 32), ((32, 64), (40, 128), (48, 192)), 4),
}
"""Three sizes of the CIFAR space."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise these values, at least one."""
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def __format__(self, form: str) -> str:
        """Format each of the three: `median (low to high)`."""
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Training speed of one network in images per second. The ratios are those of single rounds.

    `machine` and `machine_plain` are speeds of the whole machine: our loop on every core, and the
    plain loop as torch comes.
    """

    network: str
    macs: int
    numerics: Numerics
    ours: Spread
    bare: Spread
    plain: Spread
    machine: Spread
    machine_plain: Spread
    ours_to_bare: Spread
    ours_to_plain: Spread
    machine_to_plain: Spread


def bench_training(
    *,
    seconds: float = 20.0,
    threads: int = 1,
    data: Dataset | None = None,
    device: torch.device | str = "cpu",
    networks: Mapping[str, Architecture] = NETWORKS,
    rounds: int = ROUNDS,
) -> Iterator[Throughput]:
    """Yield one result for each network as soon as it is measured. Each of its five figures takes
    about `seconds`.

    `threads` is the number for one worker. The default for `data` is CIFAR-10 as `nas.data.load`
    finds it. Raises `MissingDependencyError` without torchvision.
    """
    device = torch.device(device)
    data = data or load(DataSpec())
    require_package("torchvision", "bench")
    torch.set_num_threads(threads)
    workers = max(1, (os.cpu_count() or 1) // threads) if device.type == "cpu" else 1
    setups = (
        ("ours", threads, 1),
        ("bare", threads, 1),
        ("plain", threads, 1),
        ("ours", threads, workers),
        ("plain", 0, 1),
    )
    for name, architecture in networks.items():
        numerics, _ = choose_numerics(SPEC, device, partial(build, architecture, len(data.classes)))
        task = LoopTask(
            architecture=architecture,
            data=data,
            numerics=numerics,
            device=device,
        )
        ours, bare, plain, machine, machine_plain = _interleaved(
            setups, task, seconds / rounds, rounds
        )
        yield Throughput(
            network=name,
            macs=count(architecture, image_size=32, num_classes=len(data.classes)).macs,
            numerics=numerics,
            ours=Spread.of(ours),
            bare=Spread.of(bare),
            plain=Spread.of(plain),
            machine=Spread.of(machine),
            machine_plain=Spread.of(machine_plain),
            ours_to_bare=_ratio(ours, bare),
            ours_to_plain=_ratio(ours, plain),
            machine_to_plain=_ratio(machine, machine_plain),
        )


def _ratio(first: Sequence[float], second: Sequence[float]) -> Spread:
    return Spread.of([a / b for a, b in zip(first, second, strict=True)])


@dataclass(frozen=True, kw_only=True)
class LoopTask:
    """Network, data and settings of all loops."""

    architecture: Architecture
    data: Dataset
    numerics: Numerics
    device: torch.device

    def model(self) -> nn.Module:
        """Return a new network."""
        return build(self.architecture, len(self.data.classes))

    def step(self, loop: str) -> Step:
        """Return a step of the loop of this name."""
        if loop == "plain":
            return _plain(self.model(), _plain_batches(self.data), self.device)
        keep_memory()
        train = self.data.train.to(self.device)
        trainer = Trainer(
            model=self.model().train(),
            train=train,
            validation=train,
            mean=self.data.mean,
            std=self.data.std,
            spec=SPEC,
            numerics=self.numerics,
            device=self.device,
        )
        return _ours(trainer) if loop == "ours" else _bare(self.model(), trainer)


def _interleaved(
    setups: Sequence[Setup], task: LoopTask, turn_s: float, rounds: int
) -> list[list[float]]:
    """Return the images per second of each setup in each round.

    In a round, each setup runs for `turn_s`, at least one step.
    """
    speeds: list[list[float]] = [[] for _ in setups]
    with ExitStack() as stack:
        pipes = [
            [stack.enter_context(_started(loop, threads, task)) for _ in range(processes)]
            for loop, threads, processes in setups
        ]
        for _ in range(rounds):
            for setup_pipes, setup_speeds in zip(pipes, speeds, strict=True):
                for pipe in setup_pipes:
                    pipe.send(turn_s)
                setup_speeds.append(sum(pipe.recv() for pipe in setup_pipes))
    return speeds


@contextmanager
def _started(loop: str, threads: int, task: LoopTask) -> Iterator[Connection]:
    """Start a process with this loop.

    It receives a number of seconds, makes steps for that time, and returns images per second.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, loop, threads, task), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()  # the process has made its first step
        yield ours
    finally:
        ours.close()
        process.join()


def _serve(pipe: Connection, loop: str, threads: int, task: LoopTask) -> None:
    if threads:
        torch.set_num_threads(threads)
    step = task.step(loop)
    pipe.send(step().item())
    with suppress(EOFError):  # the other end was closed, which ends the process
        while True:
            turn_s, started_s, steps = pipe.recv(), time.perf_counter(), 0
            while not steps or time.perf_counter() - started_s < turn_s:
                loss = step()
                steps += 1
            loss.item()  # waits for the device
            pipe.send(steps * SPEC.batch_size / (time.perf_counter() - started_s))


def _ours(trainer: Trainer) -> Step:
    """Return steps of the trainer, one after the other."""
    steps = itertools.count()
    return lambda: trainer.step(next(steps), LEARNING_RATE)


def _bare(model: nn.Module, trainer: Trainer) -> Step:
    """Return forward, backward and step on one resident batch, with the trainer's numerics and
    optimizer.
    """
    numerics, device = trainer.numerics, trainer.device
    model = numerics.prepared(model.train(), device)
    optimizer = sgd(model, SPEC)
    shape = trainer.batch_size, 3, 32, 32
    inputs = torch.rand(shape, device=device).to(
        numerics.dtype, memory_format=numerics.memory_format
    )
    labels = torch.zeros(trainer.batch_size, dtype=torch.int64, device=device)

    def step() -> Tensor:
        with numerics.autocast(device):
            logits = model(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=SPEC.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def _plain(
    model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], device: torch.device
) -> Step:
    """Return a step of the loop of most tutorials, fp32 and contiguous."""
    model = model.train().to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=LEARNING_RATE,
        momentum=SPEC.momentum,
        weight_decay=SPEC.weight_decay,
        nesterov=True,
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=SPEC.label_smoothing)

    def step() -> Tensor:
        inputs, labels = next(batches)
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        loss: Tensor = criterion(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def _plain_batches(data: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield endless batches of torchvision's CIFAR10 on these images, with the usual transforms and
    a DataLoader.
    """
    from torchvision import transforms
    from torchvision.datasets import CIFAR10, VisionDataset

    class Resident(CIFAR10):  # type: ignore[misc]
        """Torchvision's data set on arrays in memory instead of files."""

        def __init__(self, images: Images, transform: Callable[[Any], Tensor]) -> None:
            VisionDataset.__init__(self, "", transform=transform)
            self.data = images.images.permute(0, 2, 3, 1).numpy(force=True)
            self.targets = images.labels.tolist()

    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ]
    )
    loader: DataLoader[Any] = DataLoader(
        Resident(data.train, transform),
        batch_size=SPEC.batch_size,
        shuffle=True,
        drop_last=True,
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))
