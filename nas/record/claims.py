"""Claims of studies: each study has at most one driver.

The operating system or the server holds a claim, therefore `kill -9` releases it. For SQLite it is
a `flock` on a file beside the database. For PostgreSQL it is an advisory lock of a connection that
has no other use. A restart of the server ends this connection and its lock, therefore every writing
transaction checks that the connection is still open.
"""

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from nas.core.errors import DatabaseError, StudyConflictError

LOCK_HOLDER = text("""
    SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32) + l.objid::bigint = :key
""")
KEEPALIVE = (
    "SET tcp_keepalives_idle = 30",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
)
"""Without them a server notices only after hours that the machine of a driver lost its power."""

UNNAMED = "another process"
"""The name of a holder that wrote none."""
LOCK_RETRY_S = 0.02
"""Seconds after which every process that only reads the holder has released the lock."""


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _conflict(study: str, holder: str) -> StudyConflictError:
    return StudyConflictError(
        f"study {study!r} is being searched already, by {holder or UNNAMED}; wait for it or stop it"
    )


@contextmanager
def claim_file(database: Path, study: str) -> Iterator[None]:
    """Hold the study beside an SQLite file.

    Raises `StudyConflictError` if another process or store holds it, and `DatabaseError` if the
    lock file cannot be locked or written.
    """
    path = _lock_file(database, study)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise DatabaseError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            _lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _this_process().encode(), 0)
        except BlockingIOError:
            raise _conflict(study, _read_name(descriptor)) from None
        except OSError as error:
            raise DatabaseError(
                f"{path} cannot be locked or written: {error.strerror}; make room, or move the "
                "record to a disk on which files can be locked"
            ) from error
        yield
    finally:
        os.close(descriptor)


def holder_of_file(database: Path, study: str) -> str | None:
    """Return the process that holds the study beside an SQLite file, None if it is free."""
    try:
        descriptor = os.open(_lock_file(database, study), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_name(descriptor) or UNNAMED
    else:
        return None
    finally:
        os.close(descriptor)


def _read_name(descriptor: int) -> str:
    return os.read(descriptor, 200).decode(errors="replace").strip()


def _lock_file(database: Path, study: str) -> Path:
    return database.with_name(f"{database.name}.{study}.lock")


def _lock(descriptor: int) -> None:
    """Take the lock. Retry once, because `holder_of_file` holds it for some microseconds."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    time.sleep(LOCK_RETRY_S)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def claim_server(engine: Engine, study: str, where: str) -> Iterator[Callable[[], None]]:
    """Hold the study on a PostgreSQL server, which messages call `where`.

    Gives a function that raises `DatabaseError` if the server has released the claim. Raises
    `StudyConflictError` if another session holds the study.
    """
    key = _lock_key(study)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        for setting in KEEPALIVE:
            connection.execute(text(setting))
        connection.execute(
            text("SELECT set_config('application_name', :name, false)"),
            {"name": f"nas, {_this_process()}"[:63]},
        )
        if not connection.execute(
            text("SELECT pg_try_advisory_lock(:key)"), {"key": key}
        ).scalar_one():
            raise _conflict(study, holder_on_server(connection, study) or "")

        def still_held() -> None:
            try:
                connection.execute(text("SELECT 1"))
            except SQLAlchemyError as error:
                raise DatabaseError(
                    f"{where} has cut the connection that held study {study!r} for this search; "
                    "run the same command again: nothing recorded is lost"
                ) from error

        yield still_held


def holder_on_server(connection: Connection, study: str) -> str | None:
    """Return the process that holds the study on a PostgreSQL server, None if it is free."""
    names = connection.execute(LOCK_HOLDER, {"key": _lock_key(study)}).scalars().all()
    return (names[0] or UNNAMED).removeprefix("nas, ") if names else None


def _lock_key(study: str) -> int:
    digest = hashlib.sha256(f"osa-nas study {study}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
