"""The command line as a text: `docs/commands.md` is what `--help` says, and everything in it is
explained.

`./run python tests/unit/test_cli.py` writes the page anew.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nas.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD = """\
# Commands

What `--help` says, 80 columns wide. Written by `./run python tests/unit/test_cli.py`.
"""


def contexts(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """The command and all below it, a group before its commands."""
    context = click.Context(
        command,
        parent=parent,
        info_name=name,
        terminal_width=80,
        **(command.context_settings if parent is None else {}),
    )
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from contexts(command.commands[below], below, context)


def page() -> str:
    """The whole of `docs/commands.md`."""
    return "\n".join(
        [HEAD, *(f"## {each.command_path}\n\n```\n{each.get_help()}\n```\n" for each in ALL)]
    )


ALL = list(contexts(main, "nas"))
PARAMETERS = [(each.command_path, parameter) for each in ALL for parameter in each.command.params]


def test_the_page_is_what_help_says() -> None:
    """Whoever changes the command line writes the page anew; how, stands in its first lines."""
    assert PAGE.read_text() == page(), "write it anew: ./run python tests/unit/test_cli.py"


def test_commands_are_there_before_what_takes_seconds_to_import() -> None:
    """PyTorch, SciPy's statistics and the like come with the commands that need them."""
    script = "import sys, nas.cli; print(*{'torch', 'scipy.stats', 'ray', 'pandas', 'fastapi'} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        ).stdout
        == "\n"
    )


@pytest.mark.parametrize("context", ALL, ids=lambda context: context.command_path)
def test_every_command_says_what_it_does(context: click.Context) -> None:
    """Also in the overview of its group."""
    assert context.command.help
    assert context.command.get_short_help_str()


@pytest.mark.parametrize(
    ("command", "option"),
    [
        pytest.param(command, parameter, id=f"{command} {parameter.opts[0]}")
        for command, parameter in PARAMETERS
        if isinstance(parameter, click.Option)
    ],
)
def test_every_option_says_what_it_is(command: str, option: click.Option) -> None:
    """A name and a type are not enough."""
    assert option.help, f"{command} {option.opts[0]}"


if __name__ == "__main__":
    PAGE.write_text(page())
