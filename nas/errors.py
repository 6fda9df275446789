"""Every error a user can cause or meet. The command line prints the message as one line and exits with `exit_code`.

A message says what was wrong, where, and what would be right.
"""

from collections.abc import Sequence


class NasError(Exception):
    """Base of all errors of this package; anything else that escapes is a bug."""

    exit_code = 2


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


class CorruptFileError(NasError):
    """A checkpoint or exported file that does not hold what its name promises."""


class ExportError(NasError):
    """A network that could not be written as files, or whose files failed a check; nothing was left behind."""


class TrialFailedError(NasError):
    """One trial cannot be finished; the study goes on without it."""
