"""Results as one line of JSON each, appended whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.core.errors import CorruptFileError, WriteError

Line = Mapping[str, Any]
"""One result as plain JSON values."""


def append_line(path: Path, values: Line) -> None:
    """Append one line, whole: after a crash it is there or not. A torn line before it, of a full
    disk, is closed first.
    """
    text = json.dumps(values) + "\n"
    try:
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    text = "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WriteError(path, error) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file, none if it is missing. The last line may be torn; any other
    damage raises `CorruptFileError`.
    """
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if text:
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError as error:
                raise CorruptFileError(f"{path}:{number} is no line of JSON: {error}") from error
    return lines
