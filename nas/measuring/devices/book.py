"""The devices that this user knows: their names, and how to reach each.

The book is a JSON file in the user's folder of settings, not a part of the record: addresses and
tokens belong to a user and a machine, and a record may be shared. Every machine on which workers
run needs its own.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from nas.core import plugins
from nas.core.errors import (
    MALFORMED,
    CorruptFileError,
    InvalidValueError,
    UnknownNameError,
    WriteError,
    first_line,
)

BOOK_VARIABLE = "NAS_DEVICES"
"""Variable that names another file."""
NAME = re.compile(r"[a-z][a-z0-9._-]{0,39}")
ADDRESSES = "ssh://USER@HOST[:PORT][/SOCKET], unix:PATH or http://127.0.0.1:PORT"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A device: the address of its agent, the file with its token, the execution provider of its
    ONNX Runtime, and the identity that it had when it was added.
    """

    address: str
    token_file: str | None = None
    provider: str = "CPUExecutionProvider"
    identity: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and (value is not None or field.name != "token_file"):
                raise InvalidValueError(f"{field.name} must be text, not {value!r}")
        try:
            parts = urlsplit(self.address)
            port = parts.port
        except ValueError as error:
            raise InvalidValueError(
                f"address {self.address!r}: {error}; it must be {ADDRESSES}"
            ) from error
        problem = None
        if parts.scheme == "unix":
            problem = None if parts.path.startswith("/") else "the path must begin with /"
        elif parts.scheme == "http":
            if parts.hostname not in LOOPBACK or not port:
                problem = "an agent listens on the loopback interface only; forward a port to it"
        elif parts.scheme != "ssh" or not parts.hostname or parts.hostname.startswith("-"):
            problem = f"it must be {ADDRESSES}"
        if problem:
            raise InvalidValueError(f"address {self.address!r}: {problem}")

    def token(self) -> str | None:
        """Return the token, None if there is none. Raises `InvalidValueError`."""
        if self.token_file is None:
            return None
        try:
            return Path(self.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InvalidValueError(f"token file {self.token_file}: {reason}") from error


def book_file() -> Path:
    """Return the file of the book."""
    named = os.environ.get(BOOK_VARIABLE)
    if named:
        return Path(named)
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "osa-nas/devices.json"


def entries() -> dict[str, Entry]:
    """Return all devices by their names. Raises `CorruptFileError`."""
    path = book_file()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: Entry(**entry) for name, entry in values.items()}
    except FileNotFoundError:
        return {}
    except (OSError, *MALFORMED) as error:
        raise CorruptFileError(
            f"the device book {path} cannot be read: {first_line(error)}"
        ) from error


def find_entry(name: str) -> Entry:
    """Return the device of this name. Raises `UnknownNameError`."""
    known = entries()
    if name not in known:
        raise UnknownNameError("the device book", name, list(known))
    return known[name]


def add(name: str, entry: Entry) -> None:
    """Add a device. Raises `InvalidValueError` for a name that is wrong, reserved or taken."""
    check_name(name)
    _write({**entries(), name: entry})


def check_name(name: str) -> None:
    """Raise `InvalidValueError` for a name that a new device cannot have."""
    if not NAME.fullmatch(name):
        raise InvalidValueError(
            f"a device's name has up to 40 small letters, digits, '.', '_' and '-', and begins "
            f"with a letter, not {name!r}"
        )
    if name in plugins.names("nas.meters"):
        raise InvalidValueError(f"{name!r} is a device of this machine; choose another name")
    if name in entries():
        raise InvalidValueError(f"there is a device {name!r}; remove it first")


def remove(name: str) -> None:
    """Remove a device. Raises `UnknownNameError`."""
    find_entry(name)
    _write({key: entry for key, entry in entries().items() if key != name})


def _write(book: Mapping[str, Entry]) -> None:
    path = book_file()
    values = {name: asdict(entry) for name, entry in sorted(book.items())}
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise WriteError(path, error) from error
