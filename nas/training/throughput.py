"""How fast the training loop is, against what bounds it and against what people usually write.

For three networks, images per second of our loop, of the bare forward, backward and step on one resident batch with
the same numerics, and of a plain fp32 loop over torchvision's CIFAR10 with its transforms and a DataLoader. The three
take turns in short rounds within one process, so that a busy moment of the machine hits all alike: trust the ratios.

One thread of a Xeon with AVX-512 but no bf16 instructions, busy with other work, torch 2.14, 10 rounds: 1.02, 0.98
and 0.98 of bare, and 1.62, 1.69 and 1.59 times plain (small, middle, large). Bare itself is no more than that ahead of
plain there: channels_last gains 1.6, bf16 loses without its instructions, and torch.compile gained nothing (it took
100 s a network).
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit
from torch.utils.data import DataLoader

from nas.architecture import Architecture, OsaStage, Stem
from nas.complexity import count
from nas.data import Dataset, Images, load
from nas.errors import MissingDependencyError
from nas.model import build
from nas.study import DataSpec, TrainingSpec
from nas.training.choice import choose_numerics
from nas.training.numerics import Numerics
from nas.training.trainer import Trainer, sgd

Step = Callable[[], Tensor]
"""One step of a loop; gives the loss."""

SPEC = TrainingSpec(batch_size=128)
"""All three loops take batches of 128, the size that most plain loops take."""

LEARNING_RATE = 1e-3
ROUNDS = 10


def _architecture(stem: tuple[int, int, int], stages: Sequence[tuple[int, int]], layers: int) -> Architecture:
    return Architecture(stem=Stem.CIFAR, stem_channels=stem, stages=tuple(
        OsaStage(mid_channels=mid, out_channels=out, num_layers=layers) for mid, out in stages))


NETWORKS: Mapping[str, Architecture] = {
    "small": _architecture((8, 8, 12), ((8, 16), (12, 32), (16, 48)), 2),
    "middle": _architecture((16, 16, 16), ((16, 32), (24, 64), (32, 96)), 3),
    "large": _architecture((24, 24, 32), ((32, 64), (40, 128), (48, 192)), 4),
}
"""Three sizes of the CIFAR space."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """The figure of these values, at least one."""
        return cls(median=statistics.median(values), low=min(values), high=max(values))


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Training speed of one network in images per second, and ratios; the ratios are taken round by round."""

    network: str
    macs: int
    numerics: Numerics
    ours: Figure
    bare: Figure
    plain: Figure
    ours_to_bare: Figure
    ours_to_plain: Figure

    def cells(self) -> tuple[str, ...]:
        """Network, MMACs, the three speeds and the two ratios as text."""
        speeds = (f"{f.median:,.0f} ({f.low:,.0f} to {f.high:,.0f})" for f in (self.ours, self.bare, self.plain))
        ratios = (f"{f.median:.2f} ({f.low:.2f} to {f.high:.2f})" for f in (self.ours_to_bare, self.ours_to_plain))
        return self.network, f"{self.macs / 1e6:.1f}", *speeds, *ratios


def bench_training(*, seconds: float = 20.0, threads: int = 1, data: Dataset | None = None,
                   device: torch.device | str = "cpu", networks: Mapping[str, Architecture] = NETWORKS,
                   plain_workers: int = 0, rounds: int = ROUNDS,
                   clock: Callable[[], float] = time.perf_counter) -> Iterator[Throughput]:
    """One result for each network, each as soon as it is there; each of its three figures takes about `seconds`.

    `data` is CIFAR-10 where it is not given, as `nas.data.load` finds it. `plain_workers` are the processes of the
    plain loop's DataLoader; 0 is what a worker with one CPU of its own can use. Sets torch's number of threads.
    Raises `MissingDependencyError` without torchvision.
    """
    device = torch.device(device)
    torch.set_num_threads(threads)
    data = data or load(DataSpec())
    batches = _plain_batches(data, plain_workers)
    for name, architecture in networks.items():
        yield _throughput(name, architecture, data=data, batches=batches, device=device, turn_s=seconds / rounds,
                          rounds=rounds, clock=clock)


def _throughput(name: str, architecture: Architecture, *, data: Dataset, batches: Iterator[tuple[Tensor, Tensor]],
                device: torch.device, turn_s: float, rounds: int, clock: Callable[[], float]) -> Throughput:
    classes, train = len(data.classes), data.train.to(device)
    numerics, _ = choose_numerics(SPEC, device, lambda: build(architecture, classes), clock=clock)
    trainer = Trainer(model=build(architecture, classes).train(), train=train, validation=train, mean=data.mean,
                      std=data.std, spec=SPEC, numerics=numerics, device=device)
    loops = (_ours(trainer), _bare(build(architecture, classes), trainer),
             _plain(build(architecture, classes), batches, device))
    ours, bare, plain = _in_turns(loops, turn_s, rounds, clock)
    return Throughput(network=name, macs=count(architecture, image_size=32, num_classes=classes).macs,
                      numerics=numerics, ours=Figure.of(ours), bare=Figure.of(bare), plain=Figure.of(plain),
                      ours_to_bare=Figure.of([a / b for a, b in zip(ours, bare, strict=True)]),
                      ours_to_plain=Figure.of([a / b for a, b in zip(ours, plain, strict=True)]))


def _ours(trainer: Trainer) -> Step:
    """Steps of the trainer, one after the other."""
    steps = itertools.count()
    return lambda: trainer.step(next(steps), LEARNING_RATE)


def _bare(model: nn.Module, trainer: Trainer) -> Step:
    """Forward, backward and step on one resident batch, in the trainer's numerics; the same optimizer."""
    numerics, device = trainer.numerics, trainer.device
    model = numerics.prepared(model.train(), device)
    optimizer = sgd(model, SPEC)
    shape = trainer.batch_size, 3, 32, 32
    inputs = torch.rand(shape, device=device).to(numerics.dtype, memory_format=numerics.memory_format)
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


def _plain(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> Step:
    """The loop of most tutorials, fp32 and contiguous."""
    model = model.train().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=SPEC.momentum,
                                weight_decay=SPEC.weight_decay, nesterov=True)
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


def _plain_batches(data: Dataset, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end of torchvision's CIFAR10 on these images, with the usual transforms and a DataLoader."""
    try:
        from torchvision import transforms  # noqa: PLC0415 - optional
        from torchvision.datasets import CIFAR10, VisionDataset  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingDependencyError("torchvision", "bench") from error

    class Resident(CIFAR10):  # type: ignore[misc]
        """Torchvision's data set, its arrays handed over instead of read from files."""

        def __init__(self, images: Images, transform: Callable[[Any], Tensor]) -> None:
            VisionDataset.__init__(self, "", transform=transform)
            self.data = images.images.permute(0, 2, 3, 1).numpy(force=True)
            self.targets = images.labels.tolist()

    transform = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
                                    transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])
    loader: DataLoader[Any] = DataLoader(Resident(data.train, transform), batch_size=SPEC.batch_size, shuffle=True,
                        num_workers=workers, drop_last=True)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def _in_turns(loops: Sequence[Step], turn_s: float, rounds: int, clock: Callable[[], float]) -> list[list[float]]:
    """Images per second of each loop in each round; every turn goes on for `turn_s`, at least one step."""
    speeds: list[list[float]] = [[] for _ in loops]
    for loop in loops:
        loop().item()
    for _ in range(rounds):
        for loop, figures in zip(loops, speeds, strict=True):
            started_s, steps = clock(), 0
            while not steps or clock() - started_s < turn_s:
                loss = loop()
                steps += 1
            loss.item()  # waits for the device
            figures.append(steps * SPEC.batch_size / (clock() - started_s))
    return speeds
