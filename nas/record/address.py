"""Addresses of records: a file name, `sqlite:///file` or `postgresql://user:password@host/name`."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nas.core.errors import DatabaseError, first_line
from nas.core.passwords import ENCODING, is_readable

if TYPE_CHECKING:
    from sqlalchemy import URL

POSTGRESQL = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
SQLITE = frozenset({"sqlite", "sqlite+pysqlite"})
MISSPELT_SERVER = re.compile(r":.*@|^postgres[\w+]*:|password\s*=", re.IGNORECASE | re.DOTALL)
"""Signs that a text without `://` is meant as the address of a server, and may hold a password."""
MAX_SHOWN = 100
"""Largest number of characters of a wrong file name that are printed."""
PRINTED_OPTIONS = frozenset({"host", "port", "dbname", "user", "sslmode"})
"""Options of a server's address that messages print. Any other one may be a misspelt password."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Either a file (`path`) or a server (`url`). `str()` and `repr()` hold no password."""

    path: Path | None = None
    url: "URL | None" = None

    @classmethod
    def parse(cls, text: str | Path) -> Self:
        """Read an address as a user writes it.

        Raises `DatabaseError`, whose message repeats nothing of a text that may hold a password.
        """
        if isinstance(text, Path):
            return cls._file(str(text))
        if "://" not in text:
            if MISSPELT_SERVER.search(text):
                raise _unreadable("this")
            return cls._file(text)
        from sqlalchemy import make_url  # takes half a second
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            raise _unreadable("this") from None
        if not is_readable(text):
            raise _unreadable("this")
        if url.drivername in POSTGRESQL:
            return cls(url=url.set(drivername="postgresql+psycopg"))
        if url.drivername in SQLITE:
            if url.host or url.username:
                raise _unreadable("this")
            return cls._file(url.database or "")
        raise _unreadable(url.drivername)

    @classmethod
    def _file(cls, name: str) -> Self:
        if name == "-":
            raise DatabaseError("- is no file of a record; name one such as nas.db")
        if name in {"", ":memory:"}:
            raise DatabaseError(
                "the record must outlive the program: name a file, not a database in memory"
            )
        if "://" in name:
            raise _unreadable("this")
        try:
            path = Path(name).expanduser().resolve()  # one file has one lock and one log
            path.is_symlink()  # of a closed folder, or a name that no file can have, it raises
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise DatabaseError(
                f"{name[:MAX_SHOWN]} cannot be the file of a record: {reason}"
            ) from error
        return cls(path=path)

    @property
    def is_new(self) -> bool:
        """True for a file that does not exist yet, in a folder that can be written."""
        return (
            self.path is not None
            and not self.path.exists()
            and os.access(self.path.parent, os.W_OK)
        )

    @property
    def passwords(self) -> tuple[str, ...]:
        """Texts that must never be printed."""
        if self.url is None:
            return ()
        options = self.url.normalized_query.items()
        given = [value for name, values in options if "pass" in name for value in values]
        return tuple(text for text in (self.url.password, *given) if text)

    def __str__(self) -> str:
        if self.url is None:
            return str(self.path)
        hidden = [name for name in self.url.query if name not in PRINTED_OPTIONS]
        shown = self.url.difference_update_query(hidden).set(drivername="postgresql")
        return shown.render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({self})"


def _unreadable(what: str) -> DatabaseError:
    return DatabaseError(
        f"{what} is no address of a database: give a file name, sqlite:///FILE or "
        f"postgresql://USER:PASSWORD@HOST/NAME, and {ENCODING}"
    )
