"""Every error that a user can cause or meet.

The command line prints the message as one line and exits with `exit_code`. A message says what was
wrong, where, and what would be right. Inside a trial, `TrialFailedError` fails this one trial.
Every other error ends the search, since a problem of the machine would affect every trial.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any


class NasError(Exception):
    """Base of all errors of this package; any other exception that escapes is a bug."""

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep class, message and fields when the error is sent to another process."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[NasError], args: tuple[Any, ...], state: Mapping[str, Any]) -> NasError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def next_command(*words: object) -> str:
    """Return a command of `nas` for a message, in backticks and quoted for a shell.

    The command line removes the backticks, and adds `--database` if its user gave that option.
    """
    return f"`{shlex.join(['nas', *map(str, words)])}`"


class InvalidValueError(NasError, ValueError):
    """A value outside what its type allows, refused where the value is built."""


class StudyFileError(NasError):
    """A study file with wrong keys or values; `problems` has one line for each of them."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class UnknownNameError(NasError):
    """A name under which nothing is registered."""

    def __init__(self, kind: str, name: str, names: Sequence[str]) -> None:
        super().__init__(f"no {name!r} in {kind}; there are: {', '.join(sorted(names)) or 'none'}")


class MissingDependencyError(NasError):
    """An optional package that this command needs and that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}: pip install 'osa-nas[{extra}]'")


def require_package(name: str, extra: str) -> None:
    """Raise `MissingDependencyError` if this package is not installed. It is not imported."""
    if find_spec(name) is None:
        raise MissingDependencyError(name, extra)


class BrokenDependencyError(NasError):
    """An installed package that cannot be imported."""


class DataNotFoundError(NasError):
    """A data set that is neither on disk nor can be downloaded."""


class StudyConflictError(NasError):
    """A study of this name with other settings is in the database already."""


class DatabaseError(NasError):
    """The database cannot be reached, written or understood."""


class ClusterError(NasError):
    """The Ray cluster cannot be reached or cannot run the task."""


class UnavailableError(NasError):
    """This machine cannot measure the metric; the message gives the reason."""


class DeviceLostError(NasError):
    """A device elsewhere that does not answer, that is busy, or that lost a measurement.

    The measurement can be repeated once the device answers.
    """


class WriteError(NasError):
    """A file that cannot be written, for example on a full disk or in a closed folder."""

    def __init__(self, path: object, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        super().__init__(
            f"{path} cannot be written: {reason}; make room, or open the folder, and run the same "
            "command again: nothing recorded is lost"
        )


class CorruptFileError(NasError):
    """A checkpoint or exported file without the content that its name promises."""


class ExportError(NasError):
    """A network that cannot be exported, or whose files failed a check.

    No files are left behind.
    """


class TrialFailedError(NasError):
    """A trial that cannot be finished for a reason of its own, while the study continues."""


@contextmanager
def foreign_code(problem: str) -> Iterator[None]:
    """Turn every error of a plugin's or another package's code into an `InvalidValueError` of one
    line: the problem and the error. A `NasError` stays as it is.
    """
    try:
        yield
    except NasError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidValueError(f"{problem}: {described(error)}") from error


def described(error: BaseException) -> str:
    """Return the class of an error and the first line of its message."""
    reason = next(iter(str(error).strip().splitlines()), "no reason given")
    return f"{type(error).__name__}: {reason}"


MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""Errors of building a value from contents that this package did not write, for instance from JSON
with a list in the place of a number, or with an endless number.
"""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
