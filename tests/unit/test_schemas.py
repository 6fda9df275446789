"""The page on output for programs, and the commands that print JSON."""

import re
from collections.abc import Iterator
from dataclasses import fields

import click
import pytest
from output_schemas import SCHEMAS, Schema, differences

from nas.bench.training import Throughput
from nas.cli import main
from nas.cli.json_output import VERSIONS, plain

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


def test_every_schema_that_a_command_names_is_on_the_page() -> None:
    """Help names schemas with their versions; `nas search --events` prints the schema `event`."""
    named = {("event", VERSIONS.get("event", 1))}
    for _, command in commands(main):
        for option in command.params:
            if "--json" in option.opts:
                assert isinstance(option, click.Option)
                names = (option.help or "").partition(" by the schema ")[2].removesuffix(".")
                for name in names.split(" or "):
                    match = re.fullmatch(r"(.+) \(version (\d+)\)", name)
                    assert match is not None
                    named.add((match[1], int(match[2])))
    assert named == {(name, schema.version) for name, schema in SCHEMAS.items()}


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
