"""The schemas of the JSON that commands print, read from their table in `docs/output.md`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "output.md"
ROW = re.compile(r"\| (?:(.+), version (\d+) \| `(.+)` |\| )\| `(.+?)` \| .+ \|")
"""A row of the table: a key, in the first row of a schema after its name, version and command."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The document that a command prints. `command` names the command, `keys` its paths."""

    command: str
    version: int
    keys: list[str] = field(default_factory=list)


def _schemas() -> dict[str, Schema]:
    """Return all schemas of the page by name."""
    schemas: dict[str, Schema] = {}
    for row in PAGE.read_text().partition("|---|---|---|---|\n")[2].splitlines():
        match = ROW.fullmatch(row)
        assert match is not None, f"no row of a schema: {row}"
        name, version, command, key = match.groups()
        if name is not None:
            schemas[name] = schema = Schema(command=command, version=int(version))
        schema.keys.append(key)
    return schemas


SCHEMAS = _schemas()
"""All schemas by name."""


def differences(name: str, document: Any) -> list[str]:
    """Return the differences between a printed document and its schema, none if it keeps it."""
    schema = SCHEMAS[name]
    tree: dict[str, Any] = {"schema": {}, "version": {}}
    for path in schema.keys:
        node = tree
        for part in re.findall(r"\[\]|[^.\[]+", path):
            node = node.setdefault(part, {})
    problems = [*_differences(tree, document, name)]
    if isinstance(document, Mapping):
        head = document.get("schema"), document.get("version")
        problems += [f"{name}: the head is {head}"] * (head != (name, schema.version))
    return problems


def _differences(tree: Mapping[str, Any], value: Any, place: str) -> Iterator[str]:
    """Compare a value with the keys below one path; a path without such keys has any value."""
    if not tree or value is None:
        return
    if "[]" in tree:
        if not isinstance(value, list):
            yield f"{place} is no list"
            return
        for element in value:
            yield from _differences(tree["[]"], element, f"{place}[]")
        return
    if not isinstance(value, Mapping):
        yield f"{place} is no object"
        return
    for key, each in value.items():
        below = tree.get(key, tree.get(f"{key}?", tree.get("*")))
        if below is None:
            yield f"{place} has the unknown key {key}"
        else:
            yield from _differences(below, each, f"{place}.{key}")
    for key in tree.keys() - value.keys():
        if key != "*" and not key.endswith("?"):
            yield f"{place} lacks the key {key}"
