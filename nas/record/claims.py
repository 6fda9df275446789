"""One driver for each study, held by the operating system or the server, so that `kill -9` frees
it.

SQLite: `flock` on a file beside the database. PostgreSQL: an advisory lock of a connection that
does nothing else. A server that restarts ends the connection and the lock with it, so every writing
transaction asks whether it still holds.
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

HOLDER = text("""
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
"""Without them a server notices only after hours that a driver's machine lost its power."""


UNNAMED = "another process"
LOOK_S = 0.02
"""Longer than anybody who only looks holds a lock."""


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _taken(study: str, holder: str) -> StudyConflictError:
    return StudyConflictError(
        f"study {study!r} is being searched already, by {holder or UNNAMED}; wait for it or stop it"
    )


@contextmanager
def claim_file(database: Path, study: str) -> Iterator[None]:
    """Hold the study beside an SQLite file. Raises `StudyConflictError` where another process or
    store holds it.
    """
    path = _lock_file(database, study)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        message = f"{path} cannot be opened: {error.strerror}"
        raise DatabaseError(message) from error
    try:
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise _taken(study, os.read(descriptor, 200).decode(errors="replace").strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _me().encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder_of_file(database: Path, study: str) -> str | None:
    """Who holds the study beside an SQLite file, None where nobody does."""
    try:
        descriptor = os.open(_lock_file(database, study), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 200).decode(errors="replace").strip() or UNNAMED
    else:
        return None
    finally:
        os.close(descriptor)


def _lock_file(database: Path, study: str) -> Path:
    return database.with_name(f"{database.name}.{study}.lock")


def _lock(descriptor: int) -> None:
    """Take the lock; once more after a moment, because who only looks holds it for some
    microseconds.
    """
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    time.sleep(LOOK_S)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def claim_server(engine: Engine, study: str, where: str) -> Iterator[Callable[[], None]]:
    """Hold the study on a PostgreSQL server. Raises `StudyConflictError` where another session
    holds it.

    Gives a function that raises `DatabaseError` once the server has let go of it; `where` is its
    name there.
    """
    key = _key(study)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        for setting in KEEPALIVE:
            connection.execute(text(setting))
        connection.execute(
            text("SELECT set_config('application_name', :me, false)"), {"me": f"nas, {_me()}"[:63]}
        )
        if not connection.execute(
            text("SELECT pg_try_advisory_lock(:key)"), {"key": key}
        ).scalar_one():
            raise _taken(study, holder_on_server(connection, study) or "")

        def still_held() -> None:
            try:
                connection.execute(text("SELECT 1"))
            except SQLAlchemyError as error:
                raise DatabaseError(
                    f"{where} has cut the connection that held study {study!r} for this search; run "
                    "the same command again: nothing recorded is lost"
                ) from error

        yield still_held


def holder_on_server(connection: Connection, study: str) -> str | None:
    """Who holds the study on a PostgreSQL server, None where nobody does."""
    names = connection.execute(HOLDER, {"key": _key(study)}).scalars().all()
    return (names[0] or UNNAMED).removeprefix("nas, ") if names else None


def _key(study: str) -> int:
    return (
        int.from_bytes(hashlib.sha256(f"osa-nas study {study}".encode()).digest()[:8], "big") >> 1
    )
