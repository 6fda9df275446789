"""The option `--json` of commands that print facts: one JSON document of a documented schema.

Nothing else is on standard output. Every number is in the SI unit that its key names, and null is a
value that is not known.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

import click
import numpy as np

from nas.cli.options import Command, Decorator

VERSIONS: Mapping[str, int] = {}
"""Versions of schemas that are not 1. A version grows by 1 if a key is removed or changes its
meaning; new keys leave it as it is. `docs/output.md` has the keys.
"""


def json_option(*schemas: str, always: bool = False) -> Decorator:
    """Add `--json`, passed to the command as `as_json`; its help names the schemas.

    It is not passed if the command `always` prints JSON.
    """
    names = " or ".join(f"{name} (version {VERSIONS.get(name, 1)})" for name in schemas)

    def decorate(command: Command) -> Command:
        return click.option(
            "--json",
            "as_json",
            is_flag=True,
            expose_value=not always,
            help=f"Print JSON in SI units, by the schema {names}.",
        )(command)

    return decorate


def echo_json(schema: str, facts: Mapping[str, Any], *, one_line: bool = False) -> None:
    """Print facts as one JSON document."""
    click.echo(json_text(schema, facts, indent=None if one_line else 2))


def json_text(schema: str, facts: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Return facts as a JSON document with the name and the version of its schema."""
    document = {"schema": schema, "version": VERSIONS.get(schema, 1), **facts}
    return json.dumps(plain(document), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value of JSON. Numbers that are not finite become null, times texts of ISO 8601."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)
