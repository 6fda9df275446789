"""`nas detect`: detectors on a network, trained on your boxes, evaluated, measured, exported."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

from nas.cli import main
from nas.cli.files import OutputKind, check_outputs, write_file
from nas.cli.json_output import echo_json, json_option
from nas.cli.measure import measure_targets
from nas.cli.options import (
    FILE,
    FOLDER,
    IMAGE_SIZE,
    PRESENT_FOLDER,
    THREADS,
    Conditions,
    database_option,
    measuring_options,
    trial_finder,
)
from nas.cli.tables import echo_wide, plain_table, terminal
from nas.cli.training_progress import progress_bars
from nas.core.errors import InvalidValueError, NasError
from nas.core.measurement import MeasurementPlan

if TYPE_CHECKING:
    from nas.detection.scenes import Scenes

PAGE = OutputKind(name="page", command="nas detect evaluate", format="html", packages=("jinja2",))
PLAN = MeasurementPlan()
SINGLE_IMAGES = "single images; give --device cpu"
"""What is judged at once, and what to do if the device has too little memory."""

data_option = click.option(
    "--data",
    type=PRESENT_FOLDER,
    required=True,
    metavar="FOLDER",
    help="Images with boxes: COCO JSON, VOC XML, YOLO text or label maps.",
)


@main.group()
def detect() -> None:
    """Train, evaluate, measure and export detectors."""


@detect.command()
@click.argument("target")
@database_option
@click.option(
    "--system",
    required=True,
    metavar="NAME",
    help="dsod300, refinedet320, refinedet512, mask_rcnn or fcos.",
)
@data_option
@click.option("--split", default="train", show_default=True, help="Train on these images.")
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    required=True,
    metavar="DIR",
    help="The folder of the detector; the same command resumes in it.",
)
@click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Length of the training.",
)
@click.option("--batch", "batch_size", type=click.IntRange(min=1), help="Images in a batch.")
@click.option(
    "--rate",
    "learning_rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Highest learning rate.",
)
@click.option(
    "--size", "image_size", type=IMAGE_SIZE, help="Pixels of a side. [default: the system's]"
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=N",
    help="A width of the neck or the heads, such as width=64. May be repeated.",
)
@click.option(
    "--augment",
    type=click.Choice(["none", "flip", "ssd"]),
    help="ssd distorts colours, zooms out, crops and mirrors. [default: the system's]",
)
@click.option(
    "--freeze-norm",
    is_flag=True,
    help="Keep the bundle's BatchNorms as they are, as batches of few large images need it.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of weights, order and augmentation.",
)
@click.option("--device", metavar="KIND", help="cpu or cuda. [default: the GPU if there is one]")
@click.option("--threads", type=THREADS, help="CPU threads.")
def train(
    *,
    target: str,
    database: str,
    system: str,
    data: Path,
    split: str,
    output: Path,
    epochs: float,
    batch_size: int | None,
    learning_rate: float | None,
    image_size: int | None,
    options: Sequence[str],
    augment: str | None,
    freeze_norm: bool,
    seed: int,
    device: str | None,
    threads: int | None,
) -> None:
    """Train a detector on a network.

    TARGET is a published VoVNet (vovnet27_slim), STUDY:TRIAL, an architecture.json or a folder of
    nas export, whose weights the detector starts with (except Mask R-CNN). Press Ctrl-C at any
    time: the same command continues at the last whole epoch.
    """
    from nas.detection.scenes import read_scenes
    from nas.detection.systems import recipe_for, specification
    from nas.detection.training import train_detector

    place = _torch_device(device)
    recipe = recipe_for(system, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    scenes = read_scenes(data, split)
    spec = specification(
        target,
        trial_finder(database),
        system=system,
        classes=scenes.classes,
        image_size=image_size,
        options=_options(options),
        recipe=recipe,
        augment=augment,
        freeze_norm=freeze_norm,
        seed=seed,
        data=scenes.digest,
    )
    _describe(scenes, split)
    console = terminal()
    columns = (
        TextColumn("epoch"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with progress_bars(console, *columns, resumes="whole epochs are kept") as bars:
        task = bars.add_task("", total=epochs, loss="") if bars else None

        def show(done: float, loss: float) -> None:
            if bars is not None and task is not None:
                bars.update(task, completed=done, loss=f"loss {loss:.3f}")

        with _memory(f"batches of {recipe.training.batch_size} images; give a smaller --batch"):
            train_detector(spec, scenes, output, device=place, threads=threads, progress=show)
    console.one_line(f"{output}: {system} on {target}, {len(scenes.classes)} classes")
    console.one_line(f"next: nas detect evaluate {output} --data {data} --split val")


@detect.command()
@click.argument("folder", type=PRESENT_FOLDER)
@data_option
@click.option("--split", default="val", show_default=True, help="Judge with these images.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    help="Write a page with curves of precision and images with boxes.",
)
@json_option("detection")
@click.option("--device", metavar="KIND", help="cpu or cuda. [default: the GPU if there is one]")
def evaluate(
    *, folder: Path, data: Path, split: str, output: Path | None, as_json: bool, device: str | None
) -> None:
    """Judge a trained detector.

    FOLDER is one of nas detect train. The figures are VOC's average precision of 2007 and of 2010,
    and COCO's by faster-coco-eval, for all classes and for each.
    """
    from nas.detection.evaluation import detect_all, evaluate_scenes
    from nas.detection.page import as_page, class_cells, figure_cells
    from nas.detection.scenes import read_scenes
    from nas.detection.systems import TrainedDetector

    check_outputs([(output, PAGE)])
    place = _torch_device(device)
    trained = TrainedDetector(folder)
    scenes = read_scenes(data, split, trained.spec.classes)
    with _memory(SINGLE_IMAGES):
        detections = detect_all(trained.model().to(place), scenes, place)
    evaluation = evaluate_scenes(detections, scenes)
    if as_json:
        echo_json("detection", asdict(evaluation))
    else:
        _describe(scenes, split)
        echo_wide(plain_table(figure_cells(evaluation)))
        echo_wide(plain_table(class_cells(evaluation)))
    if output is not None:
        title = f"{trained.spec.system} on {trained.spec.network}"
        conditions = f"{len(scenes)} images of the split {split}"
        text = as_page(title, evaluation, scenes, detections, conditions=conditions)
        write_file(output, text, PAGE)
        click.echo(f"{output}: open it in a browser", err=as_json)


@detect.command()
@click.argument("folders", type=PRESENT_FOLDER, nargs=-1, required=True, metavar="FOLDER...")
@click.option(
    "--against",
    type=PRESENT_FOLDER,
    multiple=True,
    required=True,
    metavar="FOLDER",
    help="A training of the other detector. May be repeated.",
)
@data_option
@click.option("--split", default="val", show_default=True, help="Judge with these images.")
@json_option("detection comparison")
@click.option("--device", metavar="KIND", help="cpu or cuda. [default: the GPU if there is one]")
def compare(
    *,
    folders: Sequence[Path],
    against: Sequence[Path],
    data: Path,
    split: str,
    as_json: bool,
    device: str | None,
) -> None:
    """Compare two trained detectors by the same images.

    FOLDER is one of nas detect train; give all trainings of a detector, which differ by their
    seeds. The difference of their mean AP50 has a 95 % interval over the images.
    """
    from nas.detection.comparison import compare
    from nas.detection.evaluation import detect_all
    from nas.detection.scenes import read_scenes
    from nas.detection.systems import TrainedDetector

    place = _torch_device(device)
    trained = [TrainedDetector(folder) for folder in (*folders, *against)]
    classes = trained[0].spec.classes
    for each in trained:
        if each.spec.classes != classes:
            raise InvalidValueError(
                f"{each.folder} has the classes {', '.join(each.spec.classes)}, and "
                f"{trained[0].folder} has {', '.join(classes)}: only equal classes can be compared"
            )
    scenes = read_scenes(data, split, classes)
    with _memory(SINGLE_IMAGES):
        found = [detect_all(each.model().to(place), scenes, place) for each in trained]
    result = compare(found[: len(folders)], found[len(folders) :], scenes)
    if as_json:
        echo_json("detection comparison", asdict(result))
        return
    _describe(scenes, split)
    named = [("FOLDER", folders, result.first), ("--against", against, result.second)]
    for name, group, figures in named:
        for folder, figure in zip(group, figures, strict=True):
            click.echo(f"{name} {folder}: AP50 {figure:.3f}")
    click.echo(
        f"difference of the means: {result.difference:+.3f} [{result.low:+.3f}, "
        f"{result.high:+.3f}], 95 % over the images"
    )


@detect.command()
@click.argument("folder", type=PRESENT_FOLDER)
@database_option
@measuring_options(None, tier="screen")
@json_option("measure")
def measure(*, folder: Path, database: str, conditions: Conditions, as_json: bool) -> None:
    """Measure a trained detector on this device.

    FOLDER is one of nas detect train. The network is measured alone and with its post-processing,
    interleaved, at the size of its images.
    """
    from nas.detection.measuring import targets_of
    from nas.detection.systems import TrainedDetector

    trained = TrainedDetector(folder)
    plan = conditions.plan(MeasurementPlan(image_size=trained.spec.image_size))
    targets = targets_of(str(folder), trained.model())
    measure_targets(
        targets,
        plan,
        conditions,
        database,
        as_json=as_json,
        digest=trained.spec.architecture.digest,
        macs=targets[0].macs(plan.image_size),
    )


@detect.command()
@click.argument("folder", type=PRESENT_FOLDER)
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    required=True,
    metavar="DIR",
    help="A new folder.",
)
def export(*, folder: Path, output: Path) -> None:
    """Write a trained detector for other runtimes.

    FOLDER is one of nas detect train. DIR gets the network as ONNX without suppression, the boxes
    and a decoder in NumPy (DSOD and RefineDet), or the body with its pyramid (other systems). They
    are checked in ONNX Runtime.
    """
    from nas.detection.export import export_detector

    for check in export_detector(folder, output):
        click.echo(check)
    click.echo(f"{output}: written")


def _describe(scenes: "Scenes", split: str) -> None:
    """Print what was read, and which boxes were left out or clipped."""
    console = terminal(stderr=True)
    for note in scenes.notes:
        console.one_line(note)
    truths = sum(len(scene.truths) for scene in scenes)
    console.one_line(
        f"{split}: {len(scenes)} images, {truths} boxes of {', '.join(scenes.classes)}"
    )


def _options(texts: Sequence[str]) -> dict[str, int]:
    """Return the options NAME=N as numbers by name."""
    values = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if not (name and equals and number.isdecimal()):
            raise InvalidValueError(f"--option must be NAME=N with a whole number, not {text!r}")
        values[name] = int(number)
    return values


def _torch_device(name: str | None) -> str:
    """Return torch's name of a device of this machine. Raises `NasError` if there is none."""
    from nas.measuring.meters import find_trainer

    with find_trainer(name) as meter:
        return meter.torch_device


@contextmanager
def _memory(work: str) -> Iterator[None]:
    """Turn a device's lack of memory for this work into `NasError`."""
    from nas.model.torch_settings import is_out_of_memory

    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NasError(f"the device has too little memory for {work}") from error
