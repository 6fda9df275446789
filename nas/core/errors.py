"""Every error a user can cause or meet. The command line prints the message as one line and exits
with `exit_code`.

A message says what was wrong, where, and what would be right. Inside a trial, `TrialFailedError`
fails this one trial and every other error ends the search: what is wrong with the machine would be
wrong with every trial.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class NasError(Exception):
    """Base of all errors of this package; anything else that escapes is a bug."""

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes it stays what it is, whatever its class takes to be made."""
        return _remade, (type(self), self.args, self.__dict__)


def _remade(kind: type[NasError], args: tuple[Any, ...], state: Mapping[str, Any]) -> NasError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InvalidValueError(NasError, ValueError):
    """A value outside what its type allows, refused where the value is built."""


class StudyFileError(NasError):
    """A study file with wrong keys or values; `problems` has one line for each."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class UnknownNameError(NasError):
    """A name that nothing is registered under."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no {name!r} in {kind}; there are: {', '.join(sorted(known)) or 'none'}")


class MissingDependencyError(NasError):
    """An optional package that this command needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}: pip install 'osa-nas[{extra}]'")


class DataNotFoundError(NasError):
    """A data set that is neither on disk nor downloadable."""


class StudyConflictError(NasError):
    """The database holds a study of this name that was made from other settings."""


class DatabaseError(NasError):
    """The record cannot be reached, written or understood."""


class ClusterError(NasError):
    """The Ray cluster cannot be reached or cannot run what was asked."""


class UnavailableError(NasError):
    """This machine cannot measure what was asked; the message gives the reason."""


class WriteError(NasError):
    """A file that cannot be written: a full disk, a folder that is closed."""

    def __init__(self, path: object, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        super().__init__(
            f"{path} cannot be written: {reason}; make room, or open the folder, and run the same "
            "command again: nothing recorded is lost"
        )


class CorruptFileError(NasError):
    """A checkpoint or exported file that does not hold what its name promises."""


class ExportError(NasError):
    """A network that could not be written as files, or whose files failed a check; nothing was left
    behind.
    """


class TrialFailedError(NasError):
    """One trial cannot be finished, for a reason of its own; the study goes on without it."""
