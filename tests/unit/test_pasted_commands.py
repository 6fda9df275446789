"""Commands that are printed work when they are pasted."""

import shlex

import click
import pytest
from click.testing import CliRunner

from nas.cli.options import command_to_paste, database_option, password_note
from nas.core.errors import NasError, next_command

SERVER = "postgresql://me:s3cret@db.example/nas"


@click.command()
@database_option
def command(database: str) -> None:
    """Print a command, and the note on its password."""
    click.echo(command_to_paste("front", "a study", database=database))
    click.echo(password_note(database) or "no note")


def printed(*words: str, env: str | None = None) -> list[str]:
    """Return the printed command as words, and the note."""
    done = CliRunner().invoke(command, words, env={"NAS_DATABASE": env})
    assert done.exit_code == 0, done.output
    line, note = done.output.splitlines()
    return [*shlex.split(line), note]


@pytest.mark.parametrize(
    ("words", "env"),
    [
        ((), None),
        ((), SERVER),
        ((), "other.db"),
        (("--database", "nas.db"), None),
    ],
)
def test_no_option_is_printed_if_the_command_finds_the_record_without(words, env):
    """The address is the default, or the environment names it."""
    assert printed(*words, env=env) == ["nas", "front", "a study", "no note"]


@pytest.mark.parametrize(("address", "shown"), [("a b.db", "a b.db"), ("x.db", "x.db")])
def test_a_file_is_named_as_it_was_given(address, shown):
    """It is quoted for a shell."""
    assert printed("--database", address)[3:] == ["--database", shown, "no note"]


def test_the_default_file_is_named_if_the_environment_names_another_record():
    """Else the command would open the other one."""
    assert printed("--database", "nas.db", env="other.db")[3:5] == ["--database", "./nas.db"]


def test_a_password_is_left_out_and_its_places_are_named():
    """The user stays in the address. NAS_DATABASE or PGPASSFILE can hold the password."""
    *_, address, note = printed("--database", SERVER)
    assert address == "postgresql://me@db.example/nas"
    assert "NAS_DATABASE" in note
    assert "PGPASSFILE" in note


def test_an_address_without_a_password_needs_no_note():
    """As with a password file, or a server that trusts the user."""
    assert printed("--database", "postgresql://me@db.example/nas")[4:] == [
        "postgresql://me@db.example/nas",
        "no note",
    ]


@click.command()
@database_option
def failing(database: str) -> None:
    """Fail with a command in the message."""
    raise NasError(f"{database} has none; try {next_command('front', 'a study')}, or not")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ((), "nas front 'a study'"),
        (("--database", "a b.db"), "nas front 'a study' --database 'a b.db'"),
        (("--database", SERVER), "nas front 'a study' --database postgresql://me@db.example/nas"),
    ],
)
def test_a_command_in_an_error_names_the_record_too(words, command):
    """The library does not know the option, therefore the command line completes the message."""
    done = CliRunner().invoke(failing, words)
    assert str(done.exception).endswith(f"has none; try {command}, or not")
