"""The page on output for programs: schemas, exit codes, and the commands that print JSON.

`./run python tests/unit/test_schemas.py` writes the table of schemas.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from nas.bench.training import Throughput
from nas.cli import main
from nas.cli.json_output import plain
from nas.cli.schemas import SCHEMAS, Schema, differences

PAGE = Path(__file__).parents[2] / "docs" / "output.md"
BEGIN, END = "<!-- schemas -->\n", "<!-- /schemas -->"
ACTIONS = {
    "new",
    "search",
    "replicate",
    "train",
    "report",
    "serve",
    "export",
    "detect train",
    "detect export",
    "device agent",
    "device add",
    "device remove",
    "study archive",
    "study copy",
    "study delete",
    "study export-optuna",
    "study import",
    "study rename",
    "study retry",
    "db copy",
    "bench truth",
}
"""Commands that do something and print no facts that another command does not print as JSON."""


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that is no group, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            assert command is not None
            yield " ".join([*path, name]), command


def table() -> str:
    """Return the table of all schemas in Markdown."""
    rows = ["| schema | command | key | meaning |", "|---|---|---|---|"]
    for name, schema in SCHEMAS.items():
        head = f"| {name}, version {schema.version} | `{schema.command}` |"
        for key, meaning in schema.keys.items():
            rows.append(f"{head} `{key}` | {meaning.replace('|', chr(92) + '|')} |")
            head = "| | |"
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """Return the page with this table."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def test_the_page_has_all_schemas() -> None:
    """A change of a schema needs a new table; this module's first lines name the command."""
    text = PAGE.read_text()
    assert text == with_table(text), "write it: ./run python tests/unit/test_schemas.py"


@pytest.mark.parametrize(
    ("name", "command"), [pytest.param(*each, id=each[0]) for each in commands(main)]
)
def test_every_command_that_prints_facts_has_json(name: str, command: click.Command) -> None:
    """A new command has `--json`, or prints nothing but what it did."""
    options = [option for parameter in command.params for option in parameter.opts]
    assert ("--json" in options) is (name not in ACTIONS)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_each_schema_names_a_command(schema: Schema) -> None:
    """Its words are those of a command."""
    words = schema.command.split(",")[0].removeprefix("nas ").split(" (")[0]
    assert words.removesuffix(" STUDY") in dict(commands(main))


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"checks": []}, "the head is"),
        ({"schema": "doctor", "version": 1}, "lacks the key checks"),
        ({"schema": "doctor", "version": 1, "checks": [], "more": 1}, "unknown key more"),
        ({"schema": "doctor", "version": 1, "checks": {}}, "no list"),
        ({"schema": "doctor", "version": 1, "checks": [{"what": "CPU"}]}, "lacks the key"),
        ([], "no object"),
    ],
)
def test_a_document_that_breaks_its_schema_is_recognised(document: object, problem: str) -> None:
    """Otherwise the tests of the commands could not fail."""
    assert any(problem in line for line in differences("doctor", document))


def test_the_schema_of_the_training_speed_has_the_fields_of_its_rows() -> None:
    """The command itself takes many minutes."""
    keys = {key.partition("networks[].")[2] for key in SCHEMAS["bench training"].keys} - {""}
    assert keys == {field.name for field in fields(Throughput)}


def test_numbers_that_json_lacks_become_null() -> None:
    """Strict readers refuse NaN and Infinity."""
    assert plain({"a": float("nan"), "b": (float("inf"), 1.5)}) == {"a": None, "b": [None, 1.5]}


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
