"""Translate errors of the databases into one line that says where and what would be right."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError

from nas.core.errors import MALFORMED, DatabaseError, InvalidValueError, NasError, first_line
from nas.record.address import Address

SQLITE_FAULTS = {
    sqlite3.SQLITE_BUSY: "is locked by another program; try again when it is done",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that its folder exists and may be written",
    sqlite3.SQLITE_CORRUPT: "is damaged; go back to a copy, or rescue it with sqlite3's `.recover`",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; make room and run the same command again",
    sqlite3.SQLITE_IOERR: "cannot be read or written, the disk fails or is full",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; name another file",
    sqlite3.SQLITE_PERM: "may not be opened; check its permissions",
    sqlite3.SQLITE_READONLY: "may not be written; check the permissions of the file and its folder",
}
"""Messages by the primary result code of SQLite."""

POSTGRESQL_FAULTS = {
    "25006": "is read-only",
    "28": "refuses this user or password",
    "3D": "does not exist on the server; make it with `createdb`",
    "42501": "refuses this operation to this user",
    "53100": "cannot grow, the server's disk is full; make room and run the same command again",
    "53300": "has no free connection; raise max_connections or wait",
    "57": "is shutting down or starting; try again",
}
"""Messages by SQLSTATE or its class."""


MAX_REASON = 200
"""Largest number of characters of a reason, which may repeat a stored value."""


@contextmanager
def translate_contents(address: Address) -> Iterator[None]:
    """Translate errors of building values from rows into `DatabaseError`.

    Everything that is written can be read again. Therefore another program or a damaged disk has
    changed such a row.
    """
    try:
        yield
    except MALFORMED as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON]
        reason = "".join(each if each.isprintable() else "?" for each in text)
        raise DatabaseError(
            f"{address} holds a value that osa-nas does not write ({reason}); go back to a copy"
        ) from error


@contextmanager
def translate_errors(address: Address) -> Iterator[None]:
    """Translate every error of the database into `DatabaseError`.

    A value that cannot be stored becomes `InvalidValueError`.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _translated(address, error) from error


def _translated(address: Address, error: Exception) -> NasError:
    original = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    if isinstance(original, NasError):
        return original
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        return InvalidValueError(
            f"{address}: a value that cannot be stored{_reason(address, original)}"
        )
    if isinstance(error, IntegrityError):
        return DatabaseError(
            f"{address}: refused, because it breaks a rule of the record"
            f"{_reason(address, original)}"
        )
    if isinstance(error, NoFreeConnectionError):
        return DatabaseError(f"{address}: too many calls at once")
    return DatabaseError(f"{address} {_fault(address, original)}")


def _fault(address: Address, original: BaseException) -> str:
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        return SQLITE_FAULTS.get(code, f"failed{_reason(address, original)}")
    state = getattr(original, "sqlstate", None)
    if state is None:
        return f"cannot be reached{_reason(address, original)}"
    fault = POSTGRESQL_FAULTS.get(state) or POSTGRESQL_FAULTS.get(state[:2]) or "failed"
    return f"{fault}{_reason(address, original)}"


def _reason(address: Address, error: BaseException) -> str:
    """Return a colon and the first line of the driver's message.

    Return nothing if that line holds a password. Stars instead of the password would reveal it if
    it is a common word.
    """
    text = first_line(error)
    if any(password in text for password in address.passwords):
        return ""
    return f": {text}"
