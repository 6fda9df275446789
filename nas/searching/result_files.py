"""Readers of files with results of elsewhere: CSV, a JSON array or object, or JSON lines."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.core.errors import InvalidValueError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One network with its figures. `place` says where it is in its source, such as `line 3`."""

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The entries of a source. `folder` is that of the files that entries name."""

    source: str
    entries: Sequence[Entry]
    folder: Path


def read_results(path: Path) -> Results:
    """Read a file, whose first character tells JSON from CSV.

    Raises `InvalidValueError` with the line if it is neither.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{path}: not a text in UTF-8") from error
    is_json = text.lstrip()[:1] in {"[", "{"}
    try:
        entries = list(_json_entries(text) if is_json else _csv_entries(text))
    except (csv.Error, InvalidValueError, RecursionError) as error:
        raise InvalidValueError(f"{path}, {error}") from error
    return Results(source=path.name, entries=entries, folder=path.parent)


def _csv_entries(text: str) -> Iterator[Entry]:
    """Yield the rows of a CSV file with a heading. An empty cell is no value."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    headings = list(reader.fieldnames or [])
    if len(set(headings)) < len(headings):
        raise InvalidValueError(f"line 1: a heading is there twice: {', '.join(headings)}")
    for row in reader:
        if None in row:
            raise InvalidValueError(f"line {reader.line_num}: more cells than headings")
        values = {name: cell.strip() for name, cell in row.items() if cell and cell.strip()}
        yield Entry(place=f"line {reader.line_num}", values=values)


def _json_entries(text: str) -> Iterator[Entry]:
    first, _, rest = text.strip().partition("\n")
    if rest.lstrip().startswith("{") and _is_object(first):
        yield from _json_lines(text)
        return
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidValueError(_json_problem(error)) from error
    common: dict[str, Any] = {}
    if isinstance(document, dict) and "members" in document:  # of nas front --json
        conditions = document.get("conditions") or {}
        if not isinstance(conditions, dict):
            raise InvalidValueError("conditions must be an object")
        common = {"study": document.get("study"), **conditions}
        document = document["members"]
    for index, values in enumerate(document if isinstance(document, list) else [document]):
        yield _entry(f"entry {index}", values, common)


def _json_lines(text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                values = json.loads(line)
            except ValueError as error:
                raise InvalidValueError(f"line {number}: no JSON object") from error
            yield _entry(f"line {number}", values, {})


def _entry(place: str, values: Any, common: Mapping[str, Any]) -> Entry:
    """Return an entry. Params of an object `params` get their names with the prefix `params.`."""
    if not isinstance(values, dict):
        raise InvalidValueError(f"{place}: must be an object with a network and its figures")
    present = {name: value for name, value in values.items() if value is not None}
    params = present.pop("params", {})
    if not isinstance(params, dict):
        raise InvalidValueError(f"{place}: params must be an object")
    prefixed = {f"params.{name}": value for name, value in params.items()}
    return Entry(place=place, values={**common, **present, **prefixed})


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _json_problem(error: ValueError) -> str:
    line = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""
    return f"{line}no JSON: {error}"
