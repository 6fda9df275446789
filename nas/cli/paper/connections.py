"""`nas paper connections`: how strongly the layers of a network are connected."""

import os
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

import click

from nas.cli.files import OutputKind, check_outputs, write_files
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import FOLDER
from nas.cli.paper import paper as group
from nas.cli.tables import echo_note, echo_wide, plain_table

PAGE = OutputKind(name="page", command="nas connections", format="html", packages=("jinja2",))
PICTURE = OutputKind(name="picture", command="nas connections", format="png")
TABLE = OutputKind(
    name="table",
    command="nas connections",
    format="csv",
    header="block,target,source,mean_abs_weight,share_of_strongest",
)


@group.command()
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
    type=FOLDER,
    metavar="FOLDER",
    help="Write connections.html, and for each MODEL its heat map as PNG and its numbers as CSV.",
)
@json_option("connections")
def connections(models: Sequence[Path], weak: float, output: Path | None, *, as_json: bool) -> None:
    """Show how strongly the layers of a network are connected.

    The strength of a connection is the mean |w| between a source and a target layer. MODEL is a
    file of weights (.pth, .safetensors) of an OSA network or of a DenseNet, torchvision's or one
    trained here, or a folder of nas export. No code in it is run.
    """
    from nas.paper.connections import page
    from nas.paper.connections.heat_map import as_png
    from nas.paper.connections.weights import block_maps, read_weights

    names = _file_names(models)
    if output is not None:
        kinds = {"connections.html": PAGE}
        kinds |= {f"{name}.csv": TABLE for name in names}
        kinds |= {f"{name}.png": PICTURE for name in names}
        check_outputs((output / name, kind) for name, kind in kinds.items())
    maps = {str(model): block_maps(read_weights(model, echo_note)) for model in models}
    if as_json:
        networks = [
            {"model": model, "blocks": [page.values(block, weak) for block in blocks]}
            for model, blocks in maps.items()
        ]
        echo_json("connections", {"weak": weak, "networks": networks})
    for model, blocks in () if as_json else maps.items():
        click.echo(f"{model}; weak is below {weak:g} of a target's strongest source")
        echo_wide(plain_table(list(page.cells(blocks, weak))))
        click.echo(page.over_blocks(blocks))
    if not as_json:
        click.echo(page.HYPOTHESIS)
    if output is not None:
        files: dict[str, tuple[str | bytes, OutputKind]] = {
            "connections.html": (page.as_page(maps, weak), PAGE)
        }
        for name, blocks in zip(names, maps.values(), strict=True):
            files[f"{name}.csv"] = page.as_csv(blocks), TABLE
            files[f"{name}.png"] = as_png(blocks), PICTURE
        write_files(output, files, note=as_json)


def _file_names(models: Sequence[Path]) -> list[str]:
    """Return a name for the files of each model: its own without folder and ending. A folder such
    as `.` has the name that its parent folder gives it.

    Models of one name are numbered. A model that is given twice has one name.
    """
    names: list[str] = []
    for model in dict.fromkeys(models):
        stem = Path(os.path.abspath(model)).stem  # noqa: PTH100 - a link keeps its own name
        numbered = (f"{stem}-{number}" for number in count(2))
        names.append(next(name for name in chain([stem], numbered) if name not in names))
    return names
