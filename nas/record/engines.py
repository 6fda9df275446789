"""Connections to SQLite in WAL mode, and to PostgreSQL by psycopg.

In WAL mode readers and the writer never wait for each other. With `synchronous=NORMAL` the
operating system has the data when a commit returns, therefore `kill -9` loses nothing. A power cut
may take back the last commits, but it never damages the file. Checkpoints force the data to disk.

A writing transaction starts with BEGIN IMMEDIATE. If it started as a reader, SQLite could refuse
its first write at once, without waiting for `busy_timeout`.
"""

import json
import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event

from nas.core.errors import DatabaseError, InvalidValueError, require_package
from nas.record.address import Address
from nas.record.schema.upgrade import VERSION_TABLE

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder()


def to_json(value: Any) -> str:
    """Return a value as JSON text. Floats are written by `repr`, which keeps every bit.

    Raises `InvalidValueError` for a value that is not JSON, such as NaN.
    """
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"{str(value)[:80]} cannot be stored as JSON: {error}") from None


def from_json(text: str) -> Any:
    """Return the value that `to_json` wrote.

    This is one microsecond faster than `json.loads`, which matters when a study is read.
    """
    return _DECODER.raw_decode(text)[0]


def connect(address: Address, *, read_only: bool, busy_timeout_s: float) -> Engine:
    """Return an engine for the address, without opening a connection."""
    if address.url is not None:
        return _postgresql(address.url)
    if address.path is None:
        raise DatabaseError("an address is a file or a server")
    return _sqlite(address.path, read_only=read_only, busy_timeout_s=busy_timeout_s)


def reader(engine: Engine) -> Engine:
    """Return the engine for transactions that only read, and see one state of the record."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


def writer(engine: Engine) -> Engine:
    """Return the engine for transactions that write."""
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


logging.getLogger("psycopg").addHandler(logging.NullHandler())  # our errors print its messages


def _postgresql(url: URL) -> Engine:
    require_package("psycopg", "postgresql")
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": 10}
    return create_engine(url, connect_args=timeout, pool_pre_ping=True, json_serializer=to_json)


def _sqlite(path: Path, *, read_only: bool, busy_timeout_s: float) -> Engine:
    def open_file() -> sqlite3.Connection:
        mode = _read_only_mode(path) if read_only else "mode=rwc"
        connection = sqlite3.connect(
            f"{path.as_uri()}?{mode}",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _set_up(connection, read_only=read_only, busy_timeout_s=busy_timeout_s)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite+pysqlite://",
        creator=open_file,
        poolclass=NullPool if read_only else QueuePool,
        json_serializer=to_json,
        json_deserializer=from_json,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: sqlite3.Connection, *, read_only: bool, busy_timeout_s: float) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    if not read_only and not _is_foreign(connection):
        _write_ahead(connection, busy_timeout_s)
        connection.execute("PRAGMA synchronous = NORMAL")


def _is_foreign(connection: sqlite3.Connection) -> bool:
    """Return whether the file is another program's database, which is refused and stays as it is.

    Switching to WAL would change its header.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return bool(tables) and VERSION_TABLE not in tables


def _write_ahead(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Switch a new file to WAL mode.

    SQLite does not wait for another program that does the same, therefore this function waits.
    """
    until = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql(options.get("sqlite_begin", "BEGIN"))


def _read_only_mode(path: Path) -> str:
    """Return the options that open a file for reading only.

    If the folder cannot be written and no program has the record open, SQLite must be given
    `immutable`, because it could not create its own files. Such a connection never sees a program
    that opens the record later, so it must not be kept.
    """
    has_writer = path.with_name(f"{path.name}-wal").exists()
    if has_writer or os.access(path.parent, os.W_OK):
        return "mode=ro"
    return "mode=ro&immutable=1"


def shrink(engine: Engine) -> bool:
    """Shrink an SQLite file to what it holds. Return false if other processes use the file."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 1000")
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((is_busy, _, _),) = cursor.fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise
        return False
    finally:
        connection.invalidate()  # it has another timeout than those of the pool
    return not is_busy
