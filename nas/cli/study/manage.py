"""`nas study copy`, `nas study rename` and `nas study delete`."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.options import FILE, change_record, command_to_paste, database_option
from nas.cli.study import study as group
from nas.core.checks import shortlist
from nas.core.errors import InvalidValueError
from nas.core.units import format_quantity

if TYPE_CHECKING:
    from nas.record import Store

MAX_SHOWN = 10
"""At most this many trials are named in a line."""


@group.command()
@click.argument("study")
@click.argument("name")
@database_option
def rename(study: str, name: str, database: str) -> None:
    """Give a study another name.

    Its checkpoints and measured targets follow. Set the same name in its study file before you
    search again.
    """
    from nas.searching.managing import checkpoints
    from nas.searching.managing import rename as rename_study

    with change_record(database) as store:
        stay = _what_stays(store, study)
        rename_study(store, study, name)
        new = checkpoints(store, name)
    click.echo(f"{study} is now {name}; set 'name: {name}' in its study file")
    if stay:
        click.echo(f"{stay}; move them to {new} to use them")


@group.command("copy")
@click.argument("source", metavar="SRC")
@click.argument("name", metavar="NEW")
@click.option(
    "--study",
    "file",
    type=FILE,
    help="The study file of the new study. [default: the settings of SRC]",
)
@database_option
def copy_command(source: str, name: str, file: Path | None, database: str) -> None:
    """Copy a study, also under other limits or in another space.

    The trials come along whose evaluation is valid under the new settings. They teach the sampler
    of NEW and count in none of its budgets. Under other settings of training or measuring these are
    the networks whose figures do not depend on them, and those that are over a limit by such
    figures. Baselines that NEW has too bring their valid figures. With another evaluator or other
    data nothing is valid.
    """
    from nas.searching.copying import copy_study
    from nas.searching.launch import code_folder, with_choices, with_recorded_choices
    from nas.searching.study_file import read_study

    with change_record(database) as store:
        record = store.study(source)
        spec, folder = record.spec, code_folder(record)
        if file is not None:
            spec = with_recorded_choices(read_study(file, spec), spec)
            spec = with_choices(spec, record.preparation)
            if spec.name != name:
                raise InvalidValueError(f"{file} names the study {spec.name!r}, not {name!r}")
            folder = file.parent
        copied = copy_study(store, source, replace(spec, name=name), folder, datetime.now(UTC))
    click.echo(f"{name}: {copied.trials} trials of {source}, which count in no budget")
    if copied.baselines:
        click.echo(f"figures of baselines came along: {', '.join(copied.baselines)}")
    if copied.changed:
        click.echo(f"other settings of training or measuring: {'; '.join(copied.changed)}")
    for reason, numbers in copied.left_out.items():
        click.echo(f"left out, {reason}: {shortlist([str(n) for n in numbers], MAX_SHOWN)}")
    if candidates := copied.candidates:
        options = [word for n in candidates[:MAX_SHOWN] for word in ("--first", f"{source}:{n}")]
        command = command_to_paste("search", file or "STUDY.yaml", *options, database=database)
        click.echo(f"to train candidates first: {command}")


@group.command()
@click.argument("study")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_option
def delete(study: str, database: str, *, yes: bool) -> None:
    """Delete a study with its trials, figures and checkpoints.

    Nothing brings them back. Exported bundles stay as they are.
    """
    from nas.searching.managing import delete as delete_study
    from nas.searching.managing import size_bytes

    with change_record(database) as store:
        trials = sum(store.study(study).counts.values())
        held = (
            f"{trials} trials and {format_quantity(size_bytes(store, study), 'B')} of checkpoints"
        )
        if not yes and not (sys.stdin and sys.stdin.isatty()):  # None if it is closed
            raise click.UsageError(
                f"{study} has {held}; deleting it without a terminal needs --yes"
            )
        if not yes and not click.confirm(f"Delete {study} with {held}?"):
            click.echo("nothing is deleted")
            return
        stay = _what_stays(store, study)
        is_smaller = delete_study(store, study)
    click.echo(f"deleted {study}: {held}")
    if stay:
        click.echo(stay)
    if not is_smaller:
        click.echo("other processes use the record, so its file keeps its size for new trials")


def _what_stays(store: "Store", study: str) -> str:
    """Return a line on the checkpoints that are not in a folder of their own, else nothing."""
    from nas.searching.managing import checkpoints, own_folder

    if own_folder(store, study) is not None:
        return ""
    return f"its checkpoints stay in {checkpoints(store, study)}, which is no folder of its own"
