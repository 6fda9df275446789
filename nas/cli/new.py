"""`nas new`: a study file from a wish."""

from pathlib import Path

import click

from nas.cli import main
from nas.cli.files import replace_file
from nas.cli.options import DATABASE, command_to_paste, device_option
from nas.core.errors import InvalidValueError, NasError, WriteError
from nas.core.plugins import names


@main.command()
@click.argument("name")
@click.option(
    "--data",
    default="cifar10",
    show_default=True,
    help="A data set (cifar10, cifar100, digits), or a folder with train/CLASS/ and test/CLASS/.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="'METRIC VALUE'",
    help="The worst figure that you accept, such as 'latency 4 ms', or 'latency@NAME 4 ms' on a "
    "device of nas device list. May be repeated.",
)
@device_option()
@click.option("--budget", default="30min", show_default=True, help="Time to search, such as 2h.")
@click.option(
    "--image-size",
    type=click.IntRange(8, 512),
    help="Pixels of a side. [default: those of the pictures]",
)
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    help="The runtime in which networks are measured: auto, eager, compile, onnxruntime, ...",
)
def new(
    *,
    name: str,
    data: str,
    limits: tuple[str, ...],
    budget: str,
    image_size: int | None,
    runtime: str,
    device: str | None,
) -> None:
    """Write a study that works on this machine.

    It measures a few random networks and the speed of training for about a minute, and writes
    NAME/study.yaml with a comment on each line that people change.
    """
    from nas.core.study import DataSpec
    from nas.searching.artifacts import check_writable
    from nas.searching.draft import draft, parse_duration, picture_size
    from nas.searching.study_name import require_usable_name

    require_usable_name(name)
    path = Path(name) / "study.yaml"
    if path.exists():
        raise NasError(f"{path} exists already; choose another name, or remove it")
    check_writable(path)
    spec = DataSpec(dataset=data)
    if data not in names("nas.datasets"):
        folder = Path(data).absolute()
        _require_text(folder)
        size = image_size or picture_size(folder)
        spec = DataSpec(dataset="folder", folder=str(folder), image_size=size)
    elif image_size is not None:
        raise NasError(f"--image-size is for image folders; the images of {data} have their size")
    written = draft(
        name=name,
        data=spec,
        limits=limits,
        budget_s=parse_duration(budget),
        runtime=runtime,
        device=device,
        on_step=lambda step: click.echo(f"{step} …"),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, written.text.encode())
    except OSError as error:
        raise WriteError(path, error) from error
    for note in written.notes:
        click.echo(note)
    next_step = command_to_paste("search", path, database=DATABASE)
    click.echo(f"wrote {path}; look at it, then search with: {next_step}")


def _require_text(path: Path) -> None:
    """Raise `InvalidValueError` for a path that a study file cannot hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InvalidValueError(
            f"the name {str(path)!r} is no text in this locale, as a study file needs it; rename "
            "the folder, or set LC_ALL=C.UTF-8"
        ) from error
