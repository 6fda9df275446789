"""`nas connections` and `nas ablate`: how strongly layers are connected, and what is lost without
some connections.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import track

from nas.cli import main
from nas.cli.files import OutputKind, check_outputs, write_files
from nas.cli.tables import echo_wide, plain_table
from nas.core.errors import NasError

if TYPE_CHECKING:
    from nas.data import Channels, Images

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that torchvision's and timm's DenseNets were trained with."""

MOST_LAYERS = 1000
PAGE = OutputKind(name="page", command="nas connections", format="html")
PICTURE = OutputKind(name="picture", command="nas connections", format="png")
TABLE = OutputKind(
    name="table",
    command="nas connections",
    format="csv",
    header="block,target,source,mean_abs_weight,share_of_strongest",
)


def numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    """Of `9-16`, `1,3,5` or `5-` (5 and all after it), in order."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(-\s*(\d*))?\s*", part)
        if not match:
            raise click.BadParameter(f"{part!r} is not like 3, 9-16 or 5-")
        first = int(match[1])
        found += range(first, (first if match[2] is None else int(match[3] or MOST_LAYERS)) + 1)
    return tuple(dict.fromkeys(found))


@main.command()
@click.argument(
    "models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL..."
)
@click.option(
    "--weak",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="A connection is weak below this share of its target's strongest one.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write connections.html, and for each MODEL its heat map as PNG and its numbers as CSV.",
)
def connections(models: Sequence[Path], weak: float, output: Path | None) -> None:
    """Show how strongly the layers of MODEL are connected: mean |w| by source and target layer, and
    what it says.

    MODEL is a file of weights (.pth, .safetensors) of a DenseNet, torchvision's or one trained
    here, or of an OSA network, or a folder of nas export. Nothing in it is run.
    """
    from nas.paper.connections import page as shown
    from nas.paper.connections.heat_map import as_png
    from nas.paper.connections.weights import block_maps, read_weights

    if output is not None:
        names = _file_names(models)
        kinds = {"connections.html": PAGE}
        kinds |= {f"{name}.csv": TABLE for name in names}
        kinds |= {f"{name}.png": PICTURE for name in names}
        check_outputs((output / name, kind) for name, kind in kinds.items())
    maps = {str(model): block_maps(read_weights(model)) for model in models}
    for name, blocks in maps.items():
        click.echo(f"{name}; weak is below {weak:g} of a target's strongest source")
        echo_wide(plain_table(list(shown.cells(blocks, weak))))
        click.echo(shown.over_blocks(blocks))
    click.echo(shown.HYPOTHESIS)
    if output is not None:
        files: dict[str, tuple[str | bytes, OutputKind]] = {
            "connections.html": (shown.as_page(maps, datetime.now(UTC), weak), PAGE)
        }
        for name, blocks in zip(names, maps.values(), strict=True):
            files[f"{name}.csv"] = shown.as_csv(blocks), TABLE
            files[f"{name}.png"] = as_png(blocks), PICTURE
        write_files(output, files)


def _file_names(models: Sequence[Path]) -> list[str]:
    """Return a name for the files of each model: its own without folder and ending.

    Models of one name are numbered. A model that is given twice has one name.
    """
    names: list[str] = []
    for model in dict.fromkeys(models):
        number = sum(name == model.stem or name.startswith(f"{model.stem}-") for name in names)
        names.append(f"{model.stem}-{number + 1}" if number else model.stem)
    return names


@main.command()
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
    help="Source layers whose outputs they no longer read: 1-4, 5- for all after, 0 for the block's input.",
)
@click.option(
    "--data",
    "dataset",
    metavar="NAME",
    help="Judge on the test images of a data set: cifar10, digits.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Judge on FOLDER/<class>/*, cropped and normalised as ImageNet's validation.",
)
def ablate(
    *,
    model: Path,
    block: int,
    layers: Sequence[int],
    sources: Sequence[int],
    dataset: str | None,
    images: Path | None,
) -> None:
    """Set connections of MODEL's dense block to zero: share of weights, and accuracy before and
    after.

    MODEL is a file of a DenseNet's weights, as nas connections takes it; it stays as it is. Nothing
    is trained again.
    """
    from nas.paper.connections import ablation
    from nas.paper.connections.weights import read_weights

    if dataset and images:
        raise NasError("give --data or --images, not both")
    weights = read_weights(model)
    cut = ablation.Cut(block=block, layers=layers, sources=sources)
    ablated = ablation.without(weights, cut)
    click.echo(
        f"{ablated.zeroed:,} of {ablated.total:,} weights ({ablated.share:.2%}) of the {len(layers)} layers "
        "that read concatenations are zero now"
    )
    if not dataset and not images:
        click.echo("accuracy: not judged, give --data or --images")
        return
    found = []
    for label, kept in (("before", weights), ("after", ablated.weights)):
        batches, mean, std = _judges(dataset, images)
        shown = track(batches, description=label, console=Console(stderr=True), transient=True)
        right, count = ablation.accuracy(ablation.densenet_of(kept), shown, mean, std)
        click.echo(f"{label}: {right / count:.2%} of {count:,} images right")
        found.append(right / count)
    click.echo(f"change: {100 * (found[1] - found[0]):+.2f} points")


def _judges(
    dataset: str | None, images: Path | None
) -> "tuple[Iterable[Images], Channels, Channels]":
    """The batches and the normalisation that goes with them."""
    from nas.core.study import DataSpec
    from nas.data import load
    from nas.data.folder import center_crops
    from nas.paper.connections.ablation import batches

    if images is not None:
        return center_crops(images), *IMAGENET
    data = load(DataSpec(dataset=dataset or "", validation_images=1))
    return batches(data.test()), data.mean, data.std
