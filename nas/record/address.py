"""Where a record is: a file name, `sqlite:///file` or `postgresql://user:password@host/name`."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from nas.core.errors import DatabaseError

POSTGRESQL = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
SQLITE = frozenset({"sqlite", "sqlite+pysqlite"})


@dataclass(frozen=True, kw_only=True)
class Address:
    """A file (`path`) or a server (`url`), and never both. `str()` has no password in it."""

    path: Path | None = None
    url: URL | None = None

    @classmethod
    def parse(cls, text: str | Path) -> Self:
        """Understand what a user wrote. Raises `DatabaseError`, without the text where it may hold
        a password.
        """
        if isinstance(text, Path):
            return cls._file(str(text))
        if "://" not in text:
            if re.search(":.*@", text):
                raise _unreadable("this")  # a server's, misspelt
            return cls._file(text)
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            raise _unreadable("this") from None
        if url.drivername in POSTGRESQL:
            return cls(url=url.set(drivername="postgresql+psycopg"))
        if url.drivername in SQLITE:
            return cls._file(url.database or "")
        raise _unreadable(url.drivername)

    @classmethod
    def _file(cls, name: str) -> Self:
        if name in {"", ":memory:"}:
            raise DatabaseError(
                "the record must outlive the program: name a file, not a database in memory"
            )
        return cls(path=Path(name).expanduser().absolute())

    @property
    def is_new(self) -> bool:
        """A file that is not there yet, in a folder where it can be made."""
        return (
            self.path is not None
            and not self.path.exists()
            and os.access(self.path.parent, os.W_OK)
        )

    @property
    def passwords(self) -> tuple[str, ...]:
        """What must never be printed."""
        if self.url is None:
            return ()
        found = [self.url.password, *self.url.normalized_query.get("password", ())]
        return tuple(password for password in found if password)

    def __str__(self) -> str:
        if self.url is None:
            return str(self.path)
        shown = self.url.difference_update_query(["password"]).set(drivername="postgresql")
        return shown.render_as_string(hide_password=True)


def _unreadable(what: str) -> DatabaseError:
    return DatabaseError(
        f"{what} is no address of a database: give a file name, sqlite:///FILE or "
        "postgresql://USER:PASSWORD@HOST/NAME"
    )
