"""The command line as a text: `docs/commands.md` holds what `--help` prints, and all is explained.

`./run python tests/unit/test_cli.py` writes the page.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nas.cli import ALIASES, main
from nas.cli.group import LazyGroup

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD = """\
# Commands

The output of `--help`, 80 columns wide. Written by `./run python tests/unit/test_cli.py`.
"""
SLOW_PACKAGES = {"torch", "scipy.stats", "ray", "pandas", "fastapi", "sqlalchemy", "numpy", "rich"}


def contexts(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """Yield the context of the command and of all below it, a group before its commands."""
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
            member = command.get_command(context, below)
            assert member is not None, below
            yield from contexts(member, below, context)


def page() -> str:
    """Return the whole of `docs/commands.md`."""
    return "\n".join(
        [HEAD, *(f"## {each.command_path}\n\n```\n{each.get_help()}\n```\n" for each in ALL)]
    )


def imported_by(*words: str) -> set[str]:
    """Return the modules that are imported when this command line is run."""
    script = (
        "import sys\n"
        "from nas.cli import main\n"
        f"main({list(words)}, standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.splitlines()[-1].split())


ALL = list(contexts(main, "nas"))
GROUPS = [each for each in ALL if isinstance(each.command, LazyGroup)]
PARAMETERS = [(each.command_path, parameter) for each in ALL for parameter in each.command.params]


def test_the_page_holds_the_help_of_every_command() -> None:
    """A change of the command line needs a new page; the page's first lines name the script."""
    assert PAGE.read_text() == page(), "write it anew: ./run python tests/unit/test_cli.py"


@pytest.mark.parametrize(("name", "group"), ALIASES.items())
def test_a_command_of_a_group_may_be_typed_alone(name: str, group: str) -> None:
    """`nas retry` is `nas study retry`, and only the latter is listed."""
    context = click.Context(main, info_name="nas")
    below = main.get_command(context, group)
    assert isinstance(below, click.Group)
    assert main.get_command(context, name) is below.get_command(context, name)
    assert name not in main.list_commands(context)


def test_the_overview_is_short() -> None:
    """People find a command among at most 22."""
    assert len(main.list_commands(click.Context(main))) <= 22


def test_the_overview_imports_nothing_slow() -> None:
    """`nas --help` and `nas` with a wrong command import no command and none of what they need."""
    modules = imported_by("--help")
    assert not modules & SLOW_PACKAGES
    assert {name for name in modules if name.startswith("nas.")} <= {
        "nas.cli",
        "nas.cli.group",
        "nas.core",
        "nas.core.errors",
        "nas.core.passwords",
    }


@pytest.mark.parametrize("command", ["status", "search", "measure"])
def test_the_help_of_a_command_imports_only_its_module(command: str) -> None:
    """PyTorch, SciPy's statistics and the like come with the commands when they run."""
    modules = imported_by(command, "--help")
    others = {module for module, _ in main.table.values()} - {f"nas.cli.{command}"}
    assert not modules & others
    assert not modules & {"torch", "scipy.stats", "ray", "pandas", "fastapi"}


def test_the_help_of_no_command_imports_a_slow_package() -> None:
    """SQLAlchemy, Optuna, pydantic and moocore come with the commands when they run."""
    modules = ", ".join(module for module, _ in main.table.values())
    script = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert not set(done.stdout.split()) & {*SLOW_PACKAGES - {"numpy", "rich"}, "moocore"}


@pytest.mark.parametrize("context", GROUPS, ids=lambda context: context.command_path)
def test_the_table_of_a_group_holds_what_its_commands_say(context: click.Context) -> None:
    """The module of each command, and the first sentence of its help, which is one line."""
    for name, (module, text) in context.command.table.items():
        command = context.command.get_command(context, name)
        assert command.callback.__module__ == module
        first, _, _ = command.help.partition("\n")
        assert text == first.rstrip("\b"), f"{context.command_path} {name}"
        assert len(text) <= 62, "it is cut in a terminal of 80 columns"


@pytest.mark.parametrize("context", ALL, ids=lambda context: context.command_path)
def test_every_command_is_explained(context: click.Context) -> None:
    """It has a help, whose first sentence stands in the overview of its group."""
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
def test_every_option_is_explained(command: str, option: click.Option) -> None:
    """A name and a type are not enough."""
    assert option.help, f"{command} {option.opts[0]}"


if __name__ == "__main__":
    PAGE.write_text(page())
