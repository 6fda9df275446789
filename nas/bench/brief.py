"""Trainings of fixed networks by fixed recipes, each finished rung kept as one line of JSON.

A study's folder holds the networks (`networks.jsonl`), long trainings of them (`truth.jsonl`) and
brief ones (`proxies.jsonl`). Lines are appended whole, and a training resumes at its last rung.
Seconds are CPU seconds of the process, since a neighbour changes wall time, and wall seconds on a
GPU. Beside them stand the seconds of a reference training in the same process, which make machines
comparable.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.bench.drawn_networks import Network
from nas.bench.json_lines import Line, append_line, read_lines
from nas.core.brief import BriefRecipe
from nas.core.errors import InvalidValueError, TrialFailedError
from nas.core.seeds import derived_seed
from nas.core.study import AutoPrecision, RungSpec, StudySpec, TrainingSpec
from nas.data import Dataset, Images, load, split
from nas.measuring.meters import find_meter
from nas.model import build
from nas.searching.evaluators.classification.evaluator import REFERENCE
from nas.searching.profile import reduced_side, space_of
from nas.training import Numerics, Trainer, keep_memory
from nas.training.full import RunningMean
from nas.training.numerics import candidates

REFERENCE_STEPS = 200
"""Steps of the reference training."""
REFERENCE_EVERY_S = 1500.0
"""Seconds after which the reference training is repeated."""
MEAN_SHARE = 10
"""The running mean reaches back by a tenth of the training."""


class BriefTrainer(Trainer):
    """Trains and judges by the options of a `BriefRecipe`."""

    def __init__(self, *, recipe: BriefRecipe, **settings: Any) -> None:
        super().__init__(spec=recipe.training, **settings)
        self.recipe = recipe
        self._steps = max(
            round(
                recipe.rungs[-1].epochs_of(len(self.train_images), self.batch_size)
                * self.steps_per_epoch
            ),
            1,
        )
        self._average = RunningMean(self.model) if recipe.average else None

    def step(self, step: int, learning_rate: float) -> Tensor:
        """Train as in brief training, and take the weights into the running mean."""
        loss = super().step(step, learning_rate)
        if self._average:
            longest = max(1 - MEAN_SHARE / self._steps, 0.0)
            self._average.update(
                min(self.recipe.average, longest, (1 + step) / (MEAN_SHARE + step))
            )
        return loss

    def _train(self, steps: range, shares: Sequence[float]) -> float:
        return super()._train(steps, shares if self.recipe.one_cycle else [1.0] * len(steps))

    def _judge(self, judges: Images) -> dict[str, float]:
        forward, weights = self._forward, None
        if self.recipe.flips:
            self._forward = lambda inputs: forward(inputs) + forward(inputs.flip(-1))
        if self._average:
            weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            self.model.load_state_dict(self._average.values)
        try:
            return super()._judge(judges)
        finally:
            self._forward = forward
            if weights is not None:
                self.model.load_state_dict(weights)


class BriefTrainings:
    """Trains networks of a study by one recipe after the other, and appends a line for each rung.

    Seeds follow from the name of the file, the network and the number of the seed. `test` adds the
    test images to the judges. Number formats are fp32 if a recipe leaves them open. Without
    `reference`, no reference training is timed and the lines have no seconds of one.
    """

    def __init__(
        self,
        spec: StudySpec,
        path: Path,
        *,
        test: bool,
        checkpoints: Path | None = None,
        reference: bool = True,
    ) -> None:
        self._spec, self._path, self._checkpoints = spec, path, checkpoints
        self._times_reference = reference
        self._reference = (-math.inf, 0.0)
        self._meter = find_meter()
        self._device = torch.device(self._meter.torch_device)
        self._clock = time.process_time if self._device.type == "cpu" else time.perf_counter
        self._data, self._train, self._judges = _images(spec, self._device, test=test)
        self._sizes: dict[tuple[int | None, int | None, int], tuple[Images, Images]] = {}
        self._done: set[tuple[str, str, int, float]] = set()
        self._failed: set[tuple[str, str, int]] = set()
        self._digests: dict[str, str] = {}
        for line in read_lines(path):
            self._remember(line)
        keep_memory()

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self._train.images.shape[-1]

    def side(self, rung: RungSpec) -> int:
        """Return the side in pixels of the images at this rung."""
        return rung.with_side(self._reduced_side).side(self.image_size)

    @cached_property
    def _reduced_side(self) -> int:
        return reduced_side(space_of(self._spec), self.image_size)

    @property
    def train_images(self) -> int:
        """Number of images for training."""
        return len(self._train)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self._data.classes)

    def done(self, network: Network, name: str, recipe: BriefRecipe, seed: int, end: float) -> bool:
        """Return True if the rung that ends at `end` epochs has a line, or a rung before it failed.

        Raises `InvalidValueError` if there are lines of another recipe with this name.
        """
        if self._digests.setdefault(name, recipe.digest) != recipe.digest:
            raise InvalidValueError(
                f"{self._path} holds trainings by another recipe named {name!r}; give this one "
                "another name, or delete those lines"
            )
        training = network.name, name, seed
        return training in self._failed or (*training, end) in self._done

    def ends(self, recipe: BriefRecipe) -> list[float]:
        """Return the epochs at which the recipe's rungs end."""
        images = min(recipe.train_images or len(self._train), len(self._train))
        return [rung.epochs_of(images, recipe.training.batch_size) for rung in recipe.rungs]

    def advance(
        self, network: Network, name: str, recipe: BriefRecipe, seed: int, rungs: int | None = None
    ) -> Iterator[Line]:
        """Train to the rung number `rungs`, by default the last, and yield the line of each rung.

        If the training fails, its line has the reason and the error None.
        """
        trainer = self._trainer(network, recipe, seed)
        checkpoint = None
        if self._checkpoints is not None:
            checkpoint = self._checkpoints / f"{name}-{network.name}-{seed}.safetensors"
            if checkpoint.exists():
                trainer.load(checkpoint, network.architecture.digest)
        for rung, end in list(zip(recipe.rungs, self.ends(recipe), strict=True))[:rungs]:
            if end <= trainer.epochs:
                continue
            trainer.use_images(*self._images_of(recipe, self.side(rung)))
            line = {
                "network": network.name,
                "recipe": name,
                "recipe_digest": recipe.digest,
                "seed": seed,
                "epochs": end,
                "image_size": trainer.train_images.images.shape[-1],
                "judges": len(trainer.validation_images),
                **self._outcome(trainer, end),
                "precision": str(trainer.numerics.precision),
                "threads": self._spec.workers.cpus,
                "torch": torch.__version__,
                "machine": self._meter.device.name,
                "finished_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            }
            append_line(self._path, line)
            self._remember(line)
            if line["error"] is None:
                yield line
                return
            if checkpoint is not None:
                trainer.save(checkpoint, network.architecture.digest)
            yield line

    def _remember(self, line: Line) -> None:
        training = line["network"], line["recipe"], line["seed"]
        self._done.add((*training, line["epochs"]))
        self._digests[line["recipe"]] = line["recipe_digest"]
        if line["error"] is None:
            self._failed.add(training)

    def _outcome(self, trainer: BriefTrainer, end: float) -> Line:
        """Train to this rung and return its error and seconds."""
        reference = {}
        if self._times_reference:
            reference["reference_s"] = round(self._reference_s(), 3)
        started_s = time.perf_counter()
        try:
            rung = trainer.run(trainer.epochs, end)
        except TrialFailedError as error:
            return {"error": None, "reason": str(error)}
        return {
            "error": rung.metrics["error"],
            "train_loss": rung.train_loss,
            "images": rung.images,
            "train_s": round(rung.train_s or 0.0, 3),
            "judge_s": round(rung.validation_s or 0.0, 3),
            "wall_s": round(time.perf_counter() - started_s, 3),
            **reference,
        }

    def _trainer(self, network: Network, recipe: BriefRecipe, seed: int) -> BriefTrainer:
        recipe.training.check_side(self.image_size)
        digest = network.architecture.digest
        torch.manual_seed(derived_seed(self._spec.seed, self._path.stem, digest, seed))
        train, judges = self._images_of(recipe, self.image_size)
        return BriefTrainer(
            recipe=recipe,
            model=build(network.architecture, self.classes),
            train=train,
            validation=judges,
            mean=self._data.mean,
            std=self._data.std,
            numerics=_numerics(recipe.training, self._device),
            seed=derived_seed(
                self._spec.seed, self._path.stem, "" if recipe.common else digest, seed
            ),
            threads=self._spec.workers.cpus,
            device=self._device,
            clock=self._clock,
        )

    def _images_of(self, recipe: BriefRecipe, side: int) -> tuple[Images, Images]:
        """Return the images for training and judging, reduced to `side` pixels."""
        key = recipe.train_images, recipe.judges, side
        if key not in self._sizes:
            images = (
                _first(self._train, recipe.train_images, self._spec.seed),
                _first(self._judges, recipe.judges, self._spec.seed),
            )
            if side < self.image_size:
                images = images[0].reduced(side), images[1].reduced(side)
            self._sizes[key] = images
        return self._sizes[key]

    def _reference_s(self) -> float:
        """Return the seconds of the reference training, which is repeated from time to time."""
        measured_at_s, seconds = self._reference
        if self._clock() - measured_at_s < REFERENCE_EVERY_S:
            return seconds
        torch.manual_seed(0)
        numerics = _numerics(self._spec.training, self._device)
        trainer = Trainer(
            model=build(REFERENCE, self.classes).train(),
            train=self._train,
            validation=self._judges,
            mean=self._data.mean,
            std=self._data.std,
            spec=self._spec.training,
            numerics=numerics,
            device=self._device,
        )
        with numerics.settings(self._spec.workers.cpus):
            started_s = self._clock()
            for step in range(REFERENCE_STEPS):
                trainer.step(step, learning_rate=0.1)
            self._meter.synchronize()
            seconds = self._clock() - started_s
        self._reference = self._clock(), seconds
        return seconds


def _numerics(training: TrainingSpec, device: torch.device) -> Numerics:
    """Return the first number format that the training leaves open, fp32 for `auto`."""
    if training.precision is AutoPrecision.AUTO:
        training = replace(training, precision=AutoPrecision.FP32)
    return candidates(training, device)[0]


def _images(spec: StudySpec, device: torch.device, *, test: bool) -> tuple[Dataset, Images, Images]:
    """Return the data set, its images for training, and the judges: the validation images, and if
    asked for the test images.

    No fallback takes the place of a missing data set.
    """
    dataset = load(replace(spec.data, fallback=None))
    train, validation = split(
        dataset.train.labels, spec.data.validation_images, spec.seed, spec.data.train_images
    )
    judges = dataset.train.take(validation)
    if test:
        more = dataset.test()
        judges = Images(
            torch.cat([judges.images, more.images]), torch.cat([judges.labels, more.labels])
        )
    return dataset, dataset.train.take(train).to(device), judges.to(device)


def _first(images: Images, count: int | None, seed: int) -> Images:
    """Draw `count` images with each class's share; None takes all."""
    if count is None or count >= len(images):
        return images
    return images.take(split(images.labels, count, seed)[1])


def outcome(line: Line) -> str:
    """Return the error of a line in words, or why the training failed."""
    if line["error"] is None:
        return f"training failed: {line['reason']}"
    return f"{100 * line['error']:.2f} % error, {line['train_s']:.1f} CPU seconds"
