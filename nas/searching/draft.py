"""Draft of a study file, from what a user wishes and a minute of work on this machine.

The draft states every key that people change, with a comment. Its rung is chosen by the measured
speed of training, so that the budget trains enough networks to compare.
"""

import json
import random
import re
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, floor
from pathlib import Path

from nas.agent.host import usable_cores
from nas.core.complexity import totals
from nas.core.errors import CorruptFileError, InvalidValueError, TrialFailedError, UnavailableError
from nas.core.measurement import Measurement, MeasurementPlan, metric_and_device
from nas.core.study import DataSpec, Objective, StudySpec, WorkersSpec
from nas.core.units import format_quantity, parse_quantity
from nas.data import load
from nas.data.image_file import size_of
from nas.data.memory import check_memory
from nas.measuring.meters import elsewhere, find_meter
from nas.measuring.metrics import Phase, find_metric
from nas.model import build
from nas.searching.profile import Member, profile, random_members, reduced_side, space_of
from nas.searching.yaml_file import parse_yaml
from nas.training.choice import choose_numerics

NETWORKS = 48
"""Number of networks that the budget should train."""
FEWEST_NETWORKS = 12
"""Smallest number of networks that is worth a search."""
OTHER_WORK_S = 6.0
"""Seconds of measuring and waiting of one network, as on two cores in the quickstart."""
SHARE_OF_TRAINING = 0.85
"""Share of the budget that is left for the networks by certifying and new seeds."""
MAX_EPOCHS = 3.0
"""Longest brief training of the draft."""
GPU_WORKERS = 2
"""Workers that share one GPU, so that one trains while the other builds or waits."""
SAMPLE = 8
"""Number of random networks whose costs are measured."""
WAIT_S = 10.0
"""Longest wait for a quiet machine; after it the figures of a draft may be noisy."""
LARGE_PIXELS = 64
"""Larger images are for networks of four stages."""
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(h|min|s)")
SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A study's text, and what was measured for it."""

    text: str
    notes: tuple[str, ...]


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as `2h`, `90 min` or `1h 30min`.

    Raises `InvalidValueError` for any other text.
    """
    parts = DURATION.findall(text)
    if not parts or DURATION.sub("", text).strip():
        raise InvalidValueError(f"a time is such as 2h or 90 min, not {text!r}")
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def picture_size(folder: Path, count: int = 200) -> int:
    """Return an image size for an image folder: the median shorter side of its pictures, as a
    multiple of 8 from 16 to 224.
    """
    files = sorted(path for path in (folder / "train").glob("*/*") if path.is_file())
    sides = []
    for path in random.Random(0).sample(files, min(count, len(files))):
        with suppress(CorruptFileError):  # the data set lists such files when it is loaded
            sides.append(min(size_of(path)))
    if not sides:
        raise InvalidValueError(f"{folder / 'train'} has no pictures in folders of classes")
    return min(max(8 * round(statistics.median(sides) / 8), 16), 224)


def draft(
    *,
    name: str,
    data: DataSpec,
    limits: Sequence[str],
    budget_s: float,
    runtime: str,
    device: str | None = None,
    on_step: Callable[[str], object] = lambda _: None,
) -> Draft:
    """Return a study file that works here as it stands, with the workers of `workers_of`.

    `limits` are such as `latency 4 ms` and `latency@pi5 4 ms`; latency is an objective in any case.
    Measuring is done on `device`, or on the one that a limit names; None leaves it to the machine.
    `on_step` is called with what is being done. Raises `InvalidValueError` for a limit of an
    unknown metric, or a budget in which fewer than twelve networks can be trained,
    `UnknownNameError` for an unknown device, and `DeviceLostError` if one does not answer.
    """
    bounds = dict(_limit(each) for each in limits)
    if not any(metric_and_device(each)[0] == "latency" for each in bounds):
        bounds = {"latency": "", **bounds}
    for each in dict.fromkeys((device, *(metric_and_device(name)[1] for name in bounds))):
        if each is not None:
            if elsewhere(each):
                on_step(f"asking {each}")
            find_meter(each).close()
    on_step(f"reading {data.folder or data.dataset}")
    dataset = load(replace(data, validation_images=1))
    size = int(dataset.train.images.shape[-1])
    judges = min(5000, max(len(dataset.train) // 5, 1))
    with closing(find_meter()) as meter:  # the one that trains
        workers = workers_of(meter.device.kind, usable_cores())
    if workers.count > 1 and not workers.gpus:  # else the images are on the GPU
        resizable = data.dataset == "folder"
        check_memory(len(dataset.train), size, workers.count, resizable=resizable, held=1)
    spec = StudySpec(
        name=name,
        space="osa_cifar" if size <= LARGE_PIXELS else "osa_detection",
        objectives=tuple(
            Objective(metric=metric, device=named)
            for metric, named in map(metric_and_device, ("error", *bounds))
        ),
        data=replace(data, validation_images=judges),
        measurement=MeasurementPlan(
            runtime=runtime, image_size=size, device=device, busy_wait_s=WAIT_S
        ),
    )
    on_step(f"measuring {SAMPLE} random networks of {spec.space}")
    costs = _costs(spec)
    on_step("timing their training")
    side = reduced_side(space_of(spec), size)
    pace_s = _seconds_per_image(spec, side)
    images, networks = amount(budget_s, at_once(workers), pace_s, len(dataset.train) - judges)
    pace = (
        f"training takes {format_quantity(pace_s, 's')} an image of {side} pixels: with {images:,} "
        f"images each, some {networks} networks fit into the budget"
    )
    chance = 100 * (1 - 1 / len(dataset.classes))
    text = TEMPLATE.format(
        name=yaml_text(name),
        space=spec.space,
        chance=f"{chance:.3g}",
        costs="\n".join(_objective(costs[metric], limit) for metric, limit in bounds.items()),
        device=_device_line(device),
        runtime=runtime,
        size=size,
        images=images,
        side=side,
        data=_data_lines(data),
        judges=judges,
        budget_s=f"{budget_s:.15g}",
        trials=max(4 * networks, 100),
        workers=_workers_line(workers),
    )
    notes = (pace, *(_note(costs[metric], limit) for metric, limit in bounds.items()))
    return Draft(text=text, notes=notes)


TEMPLATE = """\
# Written by nas new. Change what you like before the first search; docs/study-file.md explains all.
name: {name}
space: {space}           # or module:attribute, a space of your own beside this file
objectives:
  - {{metric: error, reference: {chance} %}}     # that of guessing
{costs}
measurement:{device}
  runtime: {runtime}              # as the network will be deployed
  batch_size: 1             # images at once, as deployed
  image_size: {size}            # pixels of a side, as deployed
  threads: 1                # CPU threads, as deployed
  busy: noisy               # if others use the device for longer than busy_wait_s; or fail, wait
  busy_wait_s: 10           # seconds
# Few pixels and many steps rank networks best for their time.
rungs: [{{images: {images}, image_size: {side}}}]
data:
{data}
  validation_images: {judges}     # they judge the trials and are not trained on
budget:
  wall_time_s: {budget_s}         # seconds of searching
  trials: {trials}                # more networks than fit, so that time is the limit
workers: {workers}
"""


def _device_line(device: str | None) -> str:
    return "" if device is None else f"\n  device: {yaml_text(device)}     # of nas device list"


def yaml_text(text: str) -> str:
    """Return a text as YAML, in quotes if it would be read as something else."""
    with suppress(ValueError):
        if parse_yaml(f"[{text}]") == [text]:
            return text
    return json.dumps(text, ensure_ascii=False)


def _data_lines(data: DataSpec) -> str:
    lines = [f"  dataset: {data.dataset}"]
    if data.folder:
        lines += [f"  folder: {yaml_text(data.folder)}", f"  image_size: {data.image_size}"]
    return "\n".join(lines)


def _limit(text: str) -> tuple[str, str]:
    name, _, limit = text.strip().partition(" ")
    metric, device = metric_and_device(name)
    if not limit or (device is None and "@" in name):
        raise InvalidValueError(
            f"a limit is such as 'latency 4 ms' or 'latency@DEVICE 4 ms', not {text!r}"
        )
    if metric == "error":
        raise InvalidValueError("error is what is minimized; limit latency, energy or a count")
    found = find_metric(metric)
    if device is not None and found.phase is Phase.COUNTED:
        raise InvalidValueError(f"{metric} is the same on every device; limit {metric}, not {name}")
    try:
        value = parse_quantity(limit, found.unit)
    except ValueError as error:
        raise InvalidValueError(f"limit of {metric}: {error}") from None
    if value <= 0:
        raise InvalidValueError(f"limit of {metric}: must be more than 0, not {limit.strip()}")
    return name, limit.strip()


def _objective(figures: Sequence[Measurement], limit: str) -> str:
    """Return the line of an objective. Without a limit the worst figure is the reference."""
    name, device = metric_and_device(figures[0].metric)
    metric = name if device is None else f"{name}, device: {yaml_text(device)}"
    if limit:
        return f"  - {{metric: {metric}, limit: {limit}}}     # the worst that you accept"
    worst = max(_value(each) for each in figures)
    shown = format_quantity(worst, figures[0].unit)
    return f"  - {{metric: {metric}, reference: {worst:.3g}}}     # {shown}, of random networks"


def _note(figures: Sequence[Measurement], limit: str) -> str:
    """Return what random networks take, and how many of them keep the limit."""
    values, unit = sorted(_value(each) for each in figures), figures[0].unit
    ends = f"{format_quantity(values[0], unit)} to {format_quantity(values[-1], unit)}"
    note = f"{figures[0].metric} of {len(values)} random networks: {ends}"
    if not limit:
        return note
    kept = sum(value <= parse_quantity(limit, unit) for value in values)
    return f"{note}; {kept} of them keep the limit of {limit}"


def _value(figure: Measurement) -> float:
    if figure.value is None:
        raise UnavailableError(figure.problem)
    return figure.value


def _random_members(spec: StudySpec) -> list[Member]:
    return random_members(space_of(spec), SAMPLE, seed=0)


def _costs(spec: StudySpec) -> dict[str, list[Measurement]]:
    """Return the figures of random networks by metric."""
    profiled = list(profile(spec, _random_members(spec), Path()))
    failures = [member.failure for member in profiled if not member.evaluation.measurements]
    if len(failures) == len(profiled):
        raise TrialFailedError(failures[0])
    found = [member.evaluation.measurements for member in profiled if not member.failure]
    return {
        objective.key: [figures[objective.key] for figures in found]
        for objective in spec.measured_objectives
    }


def _seconds_per_image(spec: StudySpec, side: int) -> float:
    """Return the seconds of training for each image, with the middle one of random networks."""
    networks = sorted(
        (member.architecture for member in _random_members(spec)),
        key=lambda each: totals(each, image_size=side, num_classes=1)["macs"],
    )
    middle = partial(build, networks[len(networks) // 2], 10)
    with closing(find_meter()) as meter:  # the one that trains
        _, figures = choose_numerics(
            spec.training, meter.torch_device, middle, image_size=side, rounds=2
        )
    return 1 / max(figure.images_per_s for figure in figures)


def workers_of(device_kind: str, cores: int) -> WorkersSpec:
    """Return the workers that train on a device of this kind: one for each core, or two that share
    one GPU.
    """
    if device_kind == "cuda":
        return WorkersSpec(kind="tune", count=GPU_WORKERS, gpus=1 / GPU_WORKERS)
    return WorkersSpec(kind="tune", count=cores)


def at_once(workers: WorkersSpec) -> int:
    """Return how many networks these workers train at the pace of one that trains alone."""
    return round(workers.count * workers.gpus) if workers.gpus else workers.count


def _workers_line(workers: WorkersSpec) -> str:
    share = f", gpus: {workers.gpus:g}" if workers.gpus else ""
    text = f"{{kind: {workers.kind}, count: {workers.count}, cpus: {workers.cpus}{share}}}"
    return f"{text}     # processes, and the {'share of a GPU' if share else 'cores'} of each"


def amount(budget_s: float, trained_at_once: int, pace_s: float, available: int) -> tuple[int, int]:
    """Return the images to train each network with, and the number of networks that fit.

    `pace_s` are seconds for each image of one of the networks that are trained at once, and
    `available` is the number of training images. Raises `InvalidValueError` if fewer than twelve
    networks fit.
    """
    seconds = SHARE_OF_TRAINING * budget_s * trained_at_once
    images = floor((seconds / NETWORKS - OTHER_WORK_S) / pace_s)
    fewest = min(4000, available)
    images = min(max(images, fewest), floor(MAX_EPOCHS * available))
    networks = floor(seconds / (OTHER_WORK_S + images * pace_s))
    if networks < FEWEST_NETWORKS:
        needed_s = FEWEST_NETWORKS * (OTHER_WORK_S + images * pace_s) / trained_at_once
        raise InvalidValueError(
            f"only {networks} networks can be trained in the budget; give it at least "
            f"{ceil(needed_s / SHARE_OF_TRAINING / 60)} min"
        )
    return images, networks
