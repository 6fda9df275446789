"""Files that a command writes."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

import click

from nas.core.errors import WriteError


def write_file(path: Path, content: str | bytes) -> None:
    """Write it, folders included; an older one is replaced. Raises `WriteError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise WriteError(path, error) from error


def check_writable(*paths: Path | None) -> None:
    """Refuse files, as far as they are named, that could not be written, before long work; nothing
    is left behind. Raises `WriteError`.
    """
    for path in filter(None, paths):
        try:
            folder = next(each for each in path.absolute().parents if each.exists())
            with path.open("ab") if path.exists() else TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise WriteError(path, error) from error


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write them by their names into one folder, and say so. Raises `WriteError`."""
    for name, content in files.items():
        write_file(folder / name, content)
    click.echo(f"{folder}: {', '.join(files)}")
