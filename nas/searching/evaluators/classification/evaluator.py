"""The evaluator of searches: it counts, then measures with exclusive use of the device, and then
trains rung by rung.

The cheapest figures come first, so that a limit ends a trial before it costs anything. Training
shares the device with other trainings, and pauses while another process measures.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any, TypeVar

import torch

from nas.agent.host import usable_cores
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.complexity import COUNTED_METRICS
from nas.core.errors import (
    CorruptFileError,
    DeviceLostError,
    InvalidValueError,
    NasError,
    TrialFailedError,
    UnavailableError,
)
from nas.core.measurement import (
    AUTO_RUNTIME,
    Busy,
    Device,
    Measurement,
    MeasurementPlan,
    Status,
)
from nas.core.preparation import Preparation
from nas.core.study import DataSpec, RungSpec, StudySpec
from nas.core.tasks import Event, Measured, OutOfTime, Task, Trained
from nas.core.trial import Rung
from nas.data import Dataset, Images, file_digests, load, resolve, split
from nas.data.memory import check_memory
from nas.measuring.meters import Meter, find_meter
from nas.measuring.meters.lock import DeviceLock, Training
from nas.measuring.methods.timing import as_noisy
from nas.measuring.metrics import (
    Metric,
    Phase,
    Subject,
    check_available,
    find_metric,
    measure_together,
    metric_of,
)
from nas.measuring.runtimes import deployed_runtime
from nas.model import build
from nas.model.foreign import build_any
from nas.model.torch_settings import is_out_of_memory
from nas.searching.evaluators.classification import TOP5_ERROR
from nas.searching.evaluators.contract import StudyContext
from nas.searching.profile import reduced_side, space_of
from nas.training import Numerics, Trainer, choose_numerics, keep_memory
from nas.training.schedule import steps_between
from nas.training.trainer import TOP_CLASSES

CLASSES_WITHOUT_DATA = tuple(str(number) for number in range(10))
"""Classes of the networks in a study that trains nothing."""

RETRY_PAUSES_S = (2.0, 8.0, 30.0)
"""Pauses before a contended measurement is tried again."""

T = TypeVar("T")

LOST_S = 3600.0
"""Longest time for which a search waits for a device that does not answer."""

REFERENCE = Architecture(
    stem=Stem.CIFAR,
    stem_channels=(16, 16, 32),
    stages=tuple(
        OsaStage(mid_channels=mid, out_channels=out, num_layers=3)
        for mid, out in ((16, 48), (32, 96), (48, 128))
    ),
)
"""The network with which number formats are timed, from the middle of the CIFAR space."""

LARGEST_TIMED = 32
"""Number formats are timed with images of the last rung's side in pixels, and no larger ones."""

READING_INTERVAL_S = 10.0
"""Shortest time between two readings of the energy counter while a network is trained."""


class Evaluator:
    """Evaluates one task after the other in one process, with data, meter and settings loaded once.

    It trains on this machine's device, and measures on the study's, which may be elsewhere.
    `on_wait` is called, with a figure that says why, before each pause after which it measures
    again. `waiting` is the plan that says how long such figures are waited for, by default the
    study's.
    """

    @classmethod
    def prepare(cls, context: StudyContext) -> Preparation:
        """Find or download the data, check every metric, and time the number formats; or check the
        preparation of a study that resumes.

        Raises `DataNotFoundError`, `UnavailableError` with one line for each objective that this
        machine cannot measure, or `InvalidValueError` if no network can be trained with these
        settings.
        """
        recorded = context.preparation
        with find_meter(context.spec.measurement.device) as meter:
            spec, runtime_warnings = cls.with_runtime(context.spec, meter)
            device_warnings = (*runtime_warnings, *_idle_gpus(spec, meter.device))
            problems = check_available(metrics_of(spec, None), meter, spec.measurement)
            if spec.budget.energy_j is not None:
                with find_meter() as own:
                    problem = energy_problem(own, spec)
                problems += [f"budget.energy_j: {problem}"] if problem else []
            if problems:
                raise UnavailableError("\n".join(problems))
            device: dict[str, Any] = _facts(meter.device)
        if others := [name for name in spec.devices if name is not None]:
            device["others"] = {name: _facts_of_named(spec, name) for name in others}
        if not spec.needs_training:
            return recorded or Preparation(
                data=spec.data,
                classes=CLASSES_WITHOUT_DATA,
                device=device,
                runtime=spec.measurement.runtime,
                warnings=device_warnings,
            )
        resolution = resolve(recorded.data if recorded else spec.data)
        files = file_digests(resolution.spec)
        if recorded:
            return replace(recorded, files=files)
        prepared = cls.prepare_training(spec, resolution.spec)
        return replace(
            prepared,
            device=device,
            warnings=(*device_warnings, *resolution.warnings, *prepared.warnings),
            runtime=spec.measurement.runtime,
            files=files,
        )

    @classmethod
    def with_runtime(cls, spec: StudySpec, meter: Meter) -> tuple[StudySpec, tuple[str, ...]]:
        """Replace the runtime `auto` by the one that people deploy on this device, or its only one.

        Return the study, and a warning if the runtime is eager instead. Peak memory can be measured
        in eager only.
        """
        plan = spec.measurement
        if plan.runtime != AUTO_RUNTIME:
            return spec, ()
        if meter.only_runtime:
            runtime, reason = meter.only_runtime, ""
        elif any(objective.key == "peak_memory" for objective in spec.objectives):
            runtime, reason = "eager", "peak_memory is measured in eager only"
        else:
            runtime, reason = deployed_runtime(meter.device.kind, plan.precision)
        warnings = (f"measurement.runtime auto is eager here: {reason}",) if reason else ()
        return replace(spec, measurement=replace(plan, runtime=runtime)), warnings

    @classmethod
    def prepare_training(cls, spec: StudySpec, data: DataSpec) -> Preparation:
        """Read the data, check the training's settings, and time the number formats.

        Raises `InvalidValueError` if no network can be trained with these settings.
        """
        dataset = load(data)
        _check_classes(spec, dataset.classes)
        warnings = _check_training(spec, data, dataset.train)
        size = dataset.train.images.shape[-1]
        if not spec.workers.gpus:  # else the images are on the GPU
            most = max(usable_cores() // spec.workers.cpus, 1)
            if (workers := min(spec.workers.count, most)) > 1:
                resizable = data.dataset == "folder"
                check_memory(len(dataset.train), size, workers, resizable=resizable, held=1)
        reduced = reduced_side(space_of(spec), size)
        torch.set_num_threads(spec.workers.cpus)
        with find_meter() as own, own.exclusive():
            numerics, figures = choose_numerics(
                spec.training,
                own.torch_device,
                lambda: build(REFERENCE, len(dataset.classes)),
                image_size=min(spec.rungs[-1].with_side(reduced).side(size), LARGEST_TIMED),
            )
        return Preparation(
            data=data,
            classes=dataset.classes,
            mean=dataset.mean,
            std=dataset.std,
            image_size=size,
            reduced_size=reduced,
            warnings=tuple(warnings),
            numerics={**numerics.to_dict(), "figures": [figure.to_dict() for figure in figures]},
        )

    @classmethod
    def classes_of(cls, data: DataSpec) -> tuple[str, ...]:
        """Return the classes of data that is on this machine."""
        return load(data).classes

    def __init__(self, context: StudyContext) -> None:
        if context.preparation is None:
            raise NasError("the study is not prepared")
        self._context, self._spec, self._prepared = context, context.spec, context.preparation
        formats = dict(self._prepared.numerics)
        formats.pop("figures", None)
        self._numerics = Numerics.from_dict(formats) if formats else Numerics()
        self._meter = find_meter()
        self._meters: dict[str, Meter] = {}
        self._lock = DeviceLock(self._meter.device.identity)
        self._counter = EnergyCounter(self._meter, self._spec)
        self._reduced: tuple[int, Images, Images] | None = None
        self.on_wait: Callable[[Measurement], object] = lambda _: None
        self.waiting = self._spec.measurement
        self._deadline = Deadline(math.inf)
        keep_memory()

    def steps(self, task: Task) -> Iterator[Event]:
        """Measure, then train rung by rung, without the results that `task.evaluation` has."""
        counter, before_j = EnergyCounter(self._meter, self._spec), 0.0
        self._deadline = Deadline(task.remaining_s)
        for event in self._work(task):
            total_j = counter.drawn_j()
            if total_j is None:
                yield event
            else:
                engine_j = total_j - before_j - (event.energy_j or 0.0)
                yield replace(event, engine_j=max(engine_j, 0.0))
                before_j = total_j

    def close(self) -> None:
        """Leave the devices elsewhere."""
        for meter in self._meters.values():
            meter.close()

    def training_s(self, architecture: Architecture, min_s: float) -> float:
        """Return the expected seconds of a network's whole training, from a few of its steps.

        At each rung steps are timed for at least `min_s`. Nothing is stored.
        """
        task = Task(number=0, architecture=architecture, seed=self._spec.seed)
        total_s, done = 0.0, 0.0
        with self._sharing() as share:
            trainer = self._trainer(task)
            trainer.step_aside = share.step_aside
            for rung in self._spec.rungs:
                train, judges = self._images_of(rung)
                trainer.use_images(train, judges)
                epochs = rung.epochs_of(len(train), self._spec.training.batch_size)
                steps = steps_between(done, epochs, len(train), trainer.batch_size)
                step_s, judge_s = trainer.pace(min_s)
                total_s += len(steps) * step_s + len(judges) * judge_s
                done = epochs
        return total_s

    @property
    def training_epochs(self) -> float:
        """The epochs of a network's whole training."""
        train, _ = self._images_of(self._spec.rungs[-1])
        return self._spec.rungs[-1].epochs_of(len(train), self._spec.training.batch_size)

    def _work(self, task: Task) -> Iterator[Event]:
        missing = {
            device: [
                metric
                for metric in metrics_of(self._spec, device)
                if metric.name not in task.evaluation.measurements
            ]
            for device in (None, *self._spec.devices)
        }
        for phase in (Phase.COUNTED, Phase.MEASURED):
            for device, metrics in missing.items():
                of_phase = [metric for metric in metrics if metric.phase is phase]
                if of_phase:
                    yield self._measure(task, of_phase, device)
        rungs = task.evaluation.rungs
        if self._spec.needs_training and len(rungs) < len(self._spec.rungs):
            yield from self._train(task)

    def _measure(self, task: Task, metrics: Sequence[Metric], device: str | None) -> Measured:
        """Take figures of one phase on one device, None being that of the study's plan."""
        counted = metrics[0].phase is Phase.COUNTED
        asked_s = time.perf_counter()
        find = partial(self._meter_of, device)
        meter = self._meter if counted else retry_while_lost(find, self.on_wait)
        found_s = time.perf_counter() - asked_s
        subject = self._subject(task, plan_on(device, self._spec.measurement, meter), meter)
        with fails_trial():
            if counted:
                return Measured(
                    measurements=tuple(metric.measure(subject) for metric in metrics), seconds=0.0
                )
            with self._lock.training(self._meter.vacate):  # before others have to wait
                on_runtime = any(metric.on_runtime for metric in metrics)
                _ = subject.built if on_runtime else subject.model
        seconds, energy_j, started_s = 0.0, None, time.perf_counter()

        def measure() -> tuple[Measurement, ...]:
            nonlocal seconds, energy_j
            with subject.meter.exclusive(), fails_trial():
                counter, exclusive_s = EnergyCounter(self._meter, self._spec), time.perf_counter()
                figures = measure_together(metrics, subject)
                seconds, energy_j = time.perf_counter() - exclusive_s, counter.drawn_j()
            return figures

        repeated = partial(retry_while_lost, measure, self.on_wait)
        figures = retry_while_contended(repeated, self.waiting, self.on_wait, self._deadline)
        if any(figure.status is Status.CONTENDED for figure in figures):
            seconds, energy_j = 0.0, None  # like earlier attempts, this one was only waiting
        return Measured(
            measurements=figures,
            seconds=seconds,
            energy_j=energy_j,
            waiting_s=max(found_s + time.perf_counter() - started_s - seconds, 0.0),
        )

    def _subject(self, task: Task, plan: MeasurementPlan, meter: Meter) -> Subject:
        """Return the network that is counted and measured."""
        return Subject(
            architecture=task.architecture,
            plan=plan,
            meter=meter,
            num_classes=len(self._prepared.classes),
        )

    def _train(self, task: Task) -> Iterator[Trained | OutOfTime]:
        rungs = list(task.evaluation.rungs)
        try:
            with self._sharing() as share, oom_fails_trial():
                between_steps = partial(self._between_steps, share)
                trainer, again_s = self._resumed(task, rungs, between_steps)
        except DeadlineError:
            yield OutOfTime()
            return
        train_images = len(trainer.train_images)
        for rung_spec in self._spec.rungs[len(rungs) :]:
            epochs = rung_spec.epochs_of(train_images, self._spec.training.batch_size)
            started_s = time.perf_counter()
            counter = EnergyCounter(self._meter, self._spec)
            try:
                trainer, rung = self._run_to_rung(task, trainer, rungs, rung_spec, epochs)
            except DeadlineError:
                yield OutOfTime(energy_j=counter.drawn_j())
                return
            elapsed_s = time.perf_counter() - started_s
            energy_j = counter.drawn_j()
            checkpoint = f"{self._checkpoint_folder(task)}/rung-{epochs:g}.safetensors"
            with self._sharing():
                trainer.save(self._artifacts / checkpoint, task.architecture.digest)
            trained_s = rung.train_s or 0.0
            waiting_s = max(elapsed_s - trained_s - (rung.validation_s or 0.0), 0.0)
            rungs.append(replace(rung, checkpoint=checkpoint, train_s=trained_s + again_s))
            again_s = 0.0
            yield Trained(rung=rungs[-1], waiting_s=waiting_s, energy_j=energy_j)

    @contextmanager
    def _sharing(self) -> Iterator[Training]:
        """Share the device with other trainers. Unused memory is returned to it whenever another
        process may measure, and at the end.
        """
        with self._lock.training(self._meter.vacate) as share:
            yield share

    def _resumed(
        self, task: Task, rungs: Sequence[Rung], step_aside: Callable[[], object] | None = None
    ) -> tuple[Trainer, float]:
        """Return a trainer that stands at the last of these rungs, and the seconds of training
        again.

        If its checkpoint is gone, the network is trained again up to there by the same seed. The
        recorded figures stay.
        """
        torch.manual_seed(task.seed)
        again_s = 0.0
        with fails_trial():
            trainer = self._trainer(task)
            checkpoint = rungs[-1].checkpoint if rungs else None
            if checkpoint is not None and (self._artifacts / checkpoint).exists():
                try:
                    trainer.load(self._artifacts / checkpoint, task.architecture.digest)
                except CorruptFileError as error:
                    raise CorruptFileError(
                        f"{error}; remove the file, and the network is trained again"
                    ) from error
                return trainer, again_s
            if step_aside is not None:
                trainer.step_aside = step_aside
            for rung_spec, rung in zip(self._spec.rungs, rungs, strict=False):
                trainer.use_images(*self._images_of(rung_spec))
                again = trainer.run(trainer.epochs, rung.epochs)
                again_s += (again.train_s or 0.0) + (again.validation_s or 0.0)
        return trainer, again_s

    def _run_to_rung(
        self,
        task: Task,
        trainer: Trainer,
        rungs: Sequence[Rung],
        rung_spec: RungSpec,
        epochs: float,
    ) -> tuple[Trainer, Rung]:
        """Train and validate from one rung to the next. The device is shared, and its lock is not
        held between rungs.

        If the device has too little memory and other workers share it, the way to the rung is
        tried once more from the last of `rungs`, alone on the device.
        """
        try:
            with self._sharing() as share:
                trainer.step_aside = partial(self._between_steps, share)
                trainer.use_images(*self._images_of(rung_spec))
                return trainer, trainer.run(trainer.epochs, epochs)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if not shares_device(self._spec):
                raise too_little_memory(error) from error
        del trainer
        with self._lock.exclusive(), oom_fails_trial():
            self._meter.vacate()
            trainer, _ = self._resumed(task, rungs, self._deadline.check)
            trainer.step_aside = self._deadline.check
            trainer.use_images(*self._images_of(rung_spec))
            return trainer, trainer.run(trainer.epochs, epochs)

    def _between_steps(self, share: Training) -> None:
        """Let others measure, and read the energy counter now and then. Raises `DeadlineError` if
        the task's time is over.
        """
        share.step_aside()
        self._counter.keep_up()
        self._deadline.check()

    def _trainer(self, task: Task) -> Trainer:
        dataset, validation = self._images
        return Trainer(
            model=build_any(task.architecture, len(self._prepared.classes)),
            train=dataset.train,
            validation=validation,
            mean=dataset.mean,
            std=dataset.std,
            spec=self._spec.training,
            numerics=self._numerics,
            device=self._meter.torch_device,
            seed=task.seed,
            threads=self._spec.workers.cpus,
        )

    def _images_of(self, rung: RungSpec) -> tuple[Images, Images]:
        """Return the training and the validation images, reduced for this rung. Those of the last
        size are stored.
        """
        dataset, validation = self._images
        train = dataset.train
        side = rung.side(full := train.images.shape[-1])
        if side == full:
            return train, validation
        if self._reduced is None or self._reduced[0] != side:
            self._reduced = side, train.reduced(side), validation.reduced(side)
        return self._reduced[1:]

    def _checkpoint_folder(self, task: Task) -> str:
        """Return the folder of a task's checkpoints among the artifacts."""
        return task.folder or f"{self._spec.name}/{task.architecture.digest[:16]}"

    def _meter_of(self, device: str | None) -> Meter:
        """Return the meter of a device that an objective names, or of the study's."""
        name = device or self._spec.measurement.device
        if name is None:
            return self._meter
        if name not in self._meters:
            self._meters[name] = find_meter(name)
        return self._meters[name]

    @property
    def _artifacts(self) -> Path:
        return Path(self._context.artifacts)

    @cached_property
    def _images(self) -> tuple[Dataset, Images]:
        """The data set without its validation images, and these, on the device."""
        data = self._prepared.data
        dataset = load(data)
        train, validation = split(
            dataset.train.labels, data.validation_images, self._spec.seed, data.train_images
        )
        device = self._meter.torch_device
        return (
            replace(dataset, train=dataset.train.take(train).to(device)),
            dataset.train.take(validation).to(device),
        )


class DeadlineError(NasError):
    """The time of a task is over before its rung is reached."""


class Deadline:
    """The end of the time for a task, `remaining_s` seconds from now."""

    def __init__(self, remaining_s: float) -> None:
        self._end_s = time.monotonic() + remaining_s

    @property
    def remaining_s(self) -> float:
        """The remaining seconds, negative after the end."""
        return self._end_s - time.monotonic()

    def check(self) -> None:
        """Raise `DeadlineError` if the time is over."""
        if self.remaining_s < 0:
            raise DeadlineError("the time of the search is over")


def plan_on(device: str | None, plan: MeasurementPlan, meter: Meter) -> MeasurementPlan:
    """Return the plan of the objectives that name this device, or of those that name none.

    A device elsewhere that an objective names has its own runtime, since the plan's is that of the
    other objectives.
    """
    if device is None or meter.only_runtime is None:
        return plan
    return replace(plan, runtime=meter.only_runtime)


def _facts(device: Device) -> dict[str, Any]:
    """Return what is recorded of a device when a study begins."""
    return {"class": device.device_class, "name": device.name, "identity": device.identity}


def _facts_of_named(spec: StudySpec, name: str) -> dict[str, Any]:
    """Return what is recorded of a device that an objective names.

    Raises `UnavailableError` with one line for each objective that it cannot measure.
    """
    with find_meter(name) as meter:
        plan = plan_on(name, spec.measurement, meter)
        problems = check_available(metrics_of(spec, name), meter, plan)
        if problems:
            raise UnavailableError("\n".join(problems))
        return _facts(meter.device)


class EnergyCounter:
    """Counts the energy that the device draws from now on.

    Nothing is counted if the device's counter cannot be read, or if several workers share the
    device, because their energies cannot be separated.
    """

    def __init__(self, meter: Meter, spec: StudySpec) -> None:
        self._meter = meter
        self._start_j = None if energy_problem(meter, spec) else meter.energy_j()
        self._read_s = time.monotonic()

    def drawn_j(self) -> float | None:
        """Return the joules until now, None if nothing is counted."""
        if self._start_j is None:
            return None
        self._meter.synchronize()
        return self._meter.energy_j() - self._start_j

    def keep_up(self) -> None:
        """Read the counter if the last reading is old. RAPL's wraps within minutes at full load,
        and a meter notices one wrap between two readings.
        """
        if self._start_j is not None and time.monotonic() > self._read_s + READING_INTERVAL_S:
            self._meter.energy_j()
            self._read_s = time.monotonic()


def energy_problem(meter: Meter, spec: StudySpec) -> str | None:
    """Return why the energy of the work cannot be counted here, None if it can."""
    if shares_device(spec):
        return "several workers share a device, and their energies cannot be separated"
    try:
        meter.energy_j()
    except UnavailableError as error:
        return str(error)
    return None


def shares_device(spec: StudySpec) -> bool:
    """Return whether several workers of the study may use one device."""
    workers = spec.workers
    if spec.measured_ahead:
        return True
    return workers.kind != "local" and workers.count > 1 and workers.gpus < 1


def _idle_gpus(spec: StudySpec, device: Device) -> list[str]:
    """Return a warning if the workers get no GPU, although this machine has one."""
    workers = spec.workers
    if device.kind != "cuda" or workers.kind == "local" or workers.gpus > 0:
        return []
    problem = f"workers.gpus is 0, so that one GPU serves all workers ({workers.count})"
    return [f"{problem} and others stand idle; give each worker a share, such as gpus: 0.25"]


def _check_classes(spec: StudySpec, classes: Sequence[str]) -> None:
    """Raise `InvalidValueError` for an objective that needs more classes than the data has."""
    names = [objective.metric for objective in spec.objectives]
    if TOP5_ERROR.name in names and len(classes) <= TOP_CLASSES:
        raise InvalidValueError(
            f"objectives[{names.index(TOP5_ERROR.name)}].metric: {TOP5_ERROR.name} needs data with "
            f"more than {TOP_CLASSES} classes, and this data has {len(classes)}; use error"
        )


def _check_training(spec: StudySpec, data: DataSpec, images: Images) -> list[str]:
    """Return warnings. Raises `InvalidValueError` for settings with which the training of every
    network fails on these images.
    """
    spec.training.check_side(images.images.shape[-1])
    count = min(len(images) - data.validation_images, data.train_images or len(images))
    return check_steps(spec, count)


def check_steps(spec: StudySpec, count: int) -> list[str]:
    """Return a warning if a batch is larger than the number of training images, `count`.

    Raises `InvalidValueError` for rungs without a whole batch between them.
    """
    batch = min(spec.training.batch_size, count)
    ends = [rung.epochs_of(count, spec.training.batch_size) for rung in spec.rungs]
    for start, end in pairwise((0.0, *ends)):
        steps_between(start, end, count, batch)
    if batch == spec.training.batch_size:
        return []
    given = spec.training.batch_size
    return [f"there are only {count} images to train on: they are one batch, instead of {given}"]


@contextmanager
def fails_trial() -> Iterator[None]:
    """Turn errors that concern one architecture into `TrialFailedError`: images that are too small
    for it, a damaged checkpoint, too little memory.
    """
    try:
        with oom_fails_trial():
            yield
    except (CorruptFileError, InvalidValueError) as error:
        raise TrialFailedError(str(error)) from error


@contextmanager
def oom_fails_trial() -> Iterator[None]:
    """Turn a device's lack of memory into `TrialFailedError`."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise too_little_memory(error) from error


def too_little_memory(error: RuntimeError) -> TrialFailedError:
    """Return the error of a network for which the device's memory is too small."""
    line = str(error).strip().partition("\n")[0]
    return TrialFailedError(f"the device has too little memory for this network: {line}")


def retry_while_contended(
    measure: Callable[[], tuple[Measurement, ...]],
    plan: MeasurementPlan,
    on_wait: Callable[[Measurement], object] = lambda _: None,
    deadline: Deadline | None = None,
) -> tuple[Measurement, ...]:
    """Return the figures of `measure`, called again after pauses while others use the device.

    After `plan.busy_wait_s` seconds of pauses, `plan.busy` decides on contended figures. After the
    `deadline` they are returned. Before each pause `on_wait` is called with the first of them.
    """
    deadline = deadline or Deadline(math.inf)
    waited_s, pauses = 0.0, chain(RETRY_PAUSES_S, repeat(RETRY_PAUSES_S[-1]))
    while True:
        figures = measure()
        contended = next((figure for figure in figures if figure.status is Status.CONTENDED), None)
        if contended is None or deadline.remaining_s <= 0:
            return figures
        remaining_s = plan.busy_wait_s - waited_s
        if remaining_s <= 0 and plan.busy is Busy.FAIL:
            return figures
        if remaining_s <= 0 and plan.busy is Busy.NOISY:
            return tuple(as_noisy(figure) for figure in figures)
        on_wait(contended)
        pause_s = next(pauses)
        if remaining_s > 0:
            pause_s = min(pause_s, remaining_s)
        pause_s = min(pause_s, max(deadline.remaining_s, 0.0))
        time.sleep(pause_s)
        waited_s += pause_s


def retry_while_lost(
    measure: Callable[[], T], on_wait: Callable[[Measurement], object] = lambda _: None
) -> T:
    """Return what `measure` returns, called again after pauses while the device does not answer.

    Nothing of a lost measurement is used. Raises `DeviceLostError` after `LOST_S`.
    """
    end_s, pauses = time.monotonic() + LOST_S, chain(RETRY_PAUSES_S, repeat(RETRY_PAUSES_S[-1]))
    while True:
        try:
            return measure()
        except DeviceLostError as error:
            if time.monotonic() > end_s:
                raise
            on_wait(Measurement.unavailable("latency", "s", str(error)))
        time.sleep(next(pauses))


def metrics_of(spec: StudySpec, device: str | None) -> list[Metric]:
    """Return the metrics that are measured for every trial by the objectives with this device.

    None stands for the study's own device, and its list begins with the counted metrics.
    """
    named = {o.key: metric_of(o) for o in spec.measured_objectives if o.device == device}
    counted = [] if device else [find_metric(name) for name in COUNTED_METRICS]
    return list({**{metric.name: metric for metric in counted}, **named}.values())
