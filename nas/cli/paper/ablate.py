"""`nas paper ablate`: what a network loses without some of its connections."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import track

from nas.cli.json_output import echo_json, json_option
from nas.cli.options import PRESENT_FOLDER
from nas.cli.paper import paper as group
from nas.cli.tables import echo_note
from nas.core.errors import InvalidValueError, NasError

if TYPE_CHECKING:
    from nas.data import Channels, Images

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that torchvision's and timm's DenseNets were trained with."""
MAX_LAYERS = 1000
"""The end of an open range of layers such as `5-`."""


def numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    """Return the numbers in `9-16`, `1,3,5` or `5-` (5 and all after it), in order."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(-\s*(\d*))?\s*", part)
        if not match:
            raise click.BadParameter(f"{part!r} is not like 3, 9-16 or 5-")
        first = last = int(match[1])
        if match[2] is not None:
            last = int(match[3] or MAX_LAYERS)
        numbers += range(first, last + 1)
    return tuple(dict.fromkeys(numbers))


@dataclass(frozen=True, kw_only=True)
class TestImages:
    """Test images: the number of their classes, a function that reads them in batches, and the mean
    and deviation to normalise them with.
    """

    name: str
    classes: int
    batches: "Callable[[], Iterable[Images]]"
    mean: "Channels"
    std: "Channels"


@group.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--block", type=click.IntRange(min=1), required=True, help="The dense block, from 1.")
@click.option(
    "--layers",
    callback=numbers,
    metavar="N-M",
    required=True,
    help="Target layers in it, from 1: 9-16.",
)
@click.option(
    "--sources",
    callback=numbers,
    metavar="N-M",
    required=True,
    help="Source layers whose outputs they no longer read: 1-4, 5- for all from 5 on, 0 for the "
    "block's input.",
)
@click.option(
    "--data",
    "dataset",
    metavar="NAME",
    help="Test on the test images of a data set: cifar10, digits.",
)
@click.option(
    "--images",
    type=PRESENT_FOLDER,
    metavar="FOLDER",
    help="Test on FOLDER/<class>/*, cropped and normalised as ImageNet's validation.",
)
@json_option("ablate")
def ablate(
    *,
    model: Path,
    block: int,
    layers: Sequence[int],
    sources: Sequence[int],
    dataset: str | None,
    images: Path | None,
    as_json: bool,
) -> None:
    """Set connections of a DenseNet to zero, and test it.

    It is tested before and after. MODEL is a file of weights, as nas paper connections takes it.
    The file is not changed, and nothing is trained again.
    """
    from nas.paper.connections import ablation
    from nas.paper.connections.weights import read_weights

    if dataset and images:
        raise NasError("give --data or --images, not both")
    weights = read_weights(model, echo_note)
    ablated = ablation.without(weights, block=block, layers=layers, sources=sources)
    test = _test_images(dataset, images)
    networks = {}
    if test is not None:
        networks["before"] = ablation.densenet_of(weights)
        networks["after"] = ablation.densenet_of(ablated.weights)
        _require_same_classes(model, networks["before"].classifier.out_features, test)
    say = echo_note if as_json else click.echo
    say(
        f"{ablated.zeroed:,} of {ablated.total:,} weights ({ablated.share:.2%}) of the "
        f"{len(layers)} layers that read concatenations are zero now"
    )
    accuracies: list[float] = []
    count = None
    if test is None:
        say("accuracy: not measured, give --data or --images")
    else:
        for label, network in networks.items():
            shown = track(
                test.batches(), description=label, console=Console(stderr=True), transient=True
            )
            right, count = ablation.accuracy(network, shown, test.mean, test.std)
            say(f"{label}: {right / count:.2%} of {count:,} images right")
            accuracies.append(right / count)
        say(f"change: {100 * (accuracies[1] - accuracies[0]):+.2f} points")
    if as_json:
        before, after = accuracies or (None, None)
        facts = {"zeroed": ablated.zeroed, "total": ablated.total, "images": count}
        echo_json("ablate", {**facts, "accuracy_before": before, "accuracy_after": after})


def _test_images(dataset: str | None, images: Path | None) -> TestImages | None:
    """Return the images to test with, None if there are none."""
    from nas.core.study import DataSpec
    from nas.data import load
    from nas.data.folder import center_crops, class_folders
    from nas.paper.connections.ablation import batches

    if images is not None:
        mean, std = IMAGENET
        return TestImages(
            name=str(images),
            classes=len(class_folders(images)),
            batches=lambda: center_crops(images),
            mean=mean,
            std=std,
        )
    if dataset is None:
        return None
    data = load(DataSpec(dataset=dataset, validation_images=1))
    return TestImages(
        name=dataset,
        classes=len(data.classes),
        batches=lambda: batches(data.test()),
        mean=data.mean,
        std=data.std,
    )


def _require_same_classes(model: Path, outputs: int, test: TestImages) -> None:
    """Raise `InvalidValueError` if the labels of the images are no outputs of the network."""
    if outputs != test.classes:
        raise InvalidValueError(
            f"{model} has {outputs:,} classes and {test.name} has {test.classes:,}: give images "
            "with one folder for each class, in the order of the outputs; a folder may be empty"
        )
