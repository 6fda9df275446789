"""Several files that a command writes into one folder."""

from collections.abc import Mapping
from pathlib import Path

import click

from nas.errors import WriteError


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write them by their names, older ones are replaced, and say so. Raises `WriteError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise WriteError(folder, error) from error
    click.echo(f"{folder}: {', '.join(files)}")
