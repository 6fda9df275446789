"""Groups of commands that are imported when they are run, and how the command `nas` ends."""

import codecs
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType, MappingProxyType
from typing import Any

import click

from nas.core.errors import NasError
from nas.core.passwords import without_password

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report it."""
CLOSED_PIPE = 141
"""Exit code if nothing reads the output any more, as of programs that SIGPIPE ends."""
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of writing to an output that takes no more."""
PLAIN = {
    **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
    "…": "...",
    "→": "->",
    "±": "+/-",
    "\N{MULTIPLICATION SIGN}": "x",
    "µ": "u",
    "\N{EN DASH}": "-",
    "²": "^2",
    "°": "deg ",
    **dict(zip("●·│─└┌┐┘┬┴▼", "*.|-++++++v", strict=True)),
}
"""Characters that have a plain replacement; any other that the terminal lacks becomes `?`."""
PLAIN_ASCII = "nas_ascii"
"""Name of a codec. To an output whose encoding is named ascii, click writes UTF-8."""


Table = Mapping[str, tuple[str, str]]
"""The module of each command, and the first sentence of its help."""


class LazyGroup(click.Group):
    """A group that imports only the command that is run.

    Importing the module of a command registers it here. `sections` are tables by their headings in
    `--help`. `aliases` are commands of groups below, by name with their group, that may also be
    typed here.
    """

    def __init__(
        self,
        *args: Any,
        table: Table = MappingProxyType({}),
        sections: Mapping[str, Table] = MappingProxyType({}),
        aliases: Mapping[str, str] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections or {"Commands": table}
        self._aliases = aliases
        self.table = {name: row for each in self._sections.values() for name, row in each.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name after importing its module; None if there is none."""
        if cmd_name in self._aliases:
            group = self.get_command(ctx, self._aliases[cmd_name])
            return group.get_command(ctx, cmd_name) if isinstance(group, click.Group) else None
        if cmd_name not in self.commands and cmd_name in self.table:
            import_module(self.table[cmd_name][0])
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their short helps, which needs no import."""
        for heading, table in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, text) for name, (_, text) in table.items()])


class MainGroup(LazyGroup):
    """The command `nas`: whatever ends it, the user sees at most one line for each problem.

    A `NasError` has its own exit code, Ctrl-C 130, an output that cannot be written 2, a closed
    pipe 141.
    """

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the command line; `--help` is printed here."""
        _replace_missing_characters()
        _INTERRUPT.watch()
        with _translated_endings():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, and write all its output."""
        with _translated_endings():
            result = super().invoke(ctx)
            for stream in filter(None, (sys.stdout,)):  # None if the output is closed
                stream.flush()
        return result


class _Interrupt:
    """Remembers that the user pressed Ctrl-C during the command that runs."""

    def __init__(self) -> None:
        self.seen = False

    def watch(self) -> None:
        """Forget an earlier Ctrl-C, and see the next one. A process that ignores it still does."""
        self.seen = False
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.default_int_handler(number, frame)


_INTERRUPT = _Interrupt()


@contextmanager
def _translated_endings() -> Iterator[None]:
    """Print why a command ends early, and raise click's exception with the exit code.

    No message repeats a password, which the user may have given in the wrong place.
    """
    try:
        with _translated_output_errors():
            yield
    except click.UsageError as error:
        message = error.format_message()
        if without_password(message) == message:
            raise
        raise click.UsageError(without_password(message), error.ctx) from None
    except NasError as error:
        for line in without_password(str(error)).splitlines():
            click.echo(f"error: {line}", err=True)
        raise click.exceptions.Exit(error.exit_code) from error
    except click.exceptions.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not _is_interrupted(error):
            raise
        click.echo("stopped", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def _is_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused an error, or Ctrl-D at a question.

    Modules in C that are interrupted while they are imported raise errors of their own, some of
    them without their cause.
    """
    if _INTERRUPT.seen:
        return True
    while error is not None:
        if isinstance(error, KeyboardInterrupt | click.Abort):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _translated_output_errors() -> Iterator[None]:
    """Turn errors of writing to the output into click's exception, a full disk into `NasError`."""
    try:
        yield
    except BrokenPipeError:
        _discard_output()
        raise click.exceptions.Exit(CLOSED_PIPE) from None
    except SystemExit as error:  # how Rich ends at a closed pipe
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        raise click.exceptions.Exit(CLOSED_PIPE) from None
    except OSError as error:
        if error.filename is not None or error.errno not in FULL_DISK:
            raise
        _discard_output()
        raise NasError(f"the output cannot be written: {error.strerror}") from None


def _discard_output() -> None:
    """Drop what is left to write, which Python would try again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _replace_missing_characters() -> None:
    """Let outputs replace characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            encoding = PLAIN_ASCII if is_ascii else stream.encoding
            stream.reconfigure(encoding=encoding, errors=_plain.__name__)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace the characters that could not be encoded: an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in missing), error.end


def _find_plain_ascii(name: str) -> codecs.CodecInfo | None:
    """Return the codec of ASCII under a name of ours: a search function of `codecs`."""
    if name != PLAIN_ASCII:
        return None
    ascii_codec = codecs.lookup("ascii")
    return codecs.CodecInfo(
        name=PLAIN_ASCII,
        encode=ascii_codec.encode,
        decode=ascii_codec.decode,
        incrementalencoder=ascii_codec.incrementalencoder,
        incrementaldecoder=ascii_codec.incrementaldecoder,
    )


codecs.register_error(_plain.__name__, _plain)
codecs.register(_find_plain_ascii)
