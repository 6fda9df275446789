"""Files that commands write: marked with the command that wrote them, and replaced only then.

`write_file` puts a mark into every page, drawing and picture. A file that is there already is
replaced only if it holds the mark of the same kind of output, or, for a CSV table, its header. No
other file is changed: neither the record, whatever link leads to it, nor a study file.
"""

import gzip
import os
import re
import shutil
import stat
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from nas.core.errors import NasError, WriteError, require_package
from nas.measuring.devices.archive import PACKAGE
from nas.searching.artifacts import check_writable

HEAD_BYTES = 65_536
"""A file's kind is recognised in this many of its first bytes."""
SQLITE_MAGIC = b"SQLite format 3\0"
"""The first bytes of every SQLite database."""
SIDECAR_ENDINGS = ("-wal", "-shm", "-journal")
"""SQLite's own files beside a database have its name with one of these endings."""
PNG_HEADER_BYTES = 33
"""A PNG begins with 8 bytes of signature and the IHDR chunk of 25 bytes."""


@dataclass(frozen=True, kw_only=True)
class OutputKind:
    """One kind of file that commands write.

    `name` is what messages call it, `command` the command that writes it. `header` is a regular
    expression that the first line of a CSV table matches. Writing it needs the `packages` of the
    extra `report`.
    """

    name: str
    command: str
    format: Literal["html", "svg", "png", "csv", "pyz"]
    header: str = ""
    packages: tuple[str, ...] = ()

    def marked(self, content: bytes) -> bytes:
        """Return the content with the mark of this kind; CSV tables and archives need none."""
        match self.format:
            case "html":
                meta = f'<meta name="generator" content="{self._mark}">'
                return content.replace(b"<head>", b"<head>\n" + meta.encode(), 1)
            case "svg":
                return content.replace(b">", f"><metadata>{self._mark}</metadata>".encode(), 1)
            case "png":
                chunk = b"tEXtComment\0" + self._mark.encode()
                length = struct.pack(">I", len(chunk) - 4)
                checksum = struct.pack(">I", zlib.crc32(chunk))
                first, rest = content[:PNG_HEADER_BYTES], content[PNG_HEADER_BYTES:]
                return first + length + chunk + checksum + rest
            case "csv" | "pyz":
                return content

    def recognises(self, head: bytes) -> bool:
        """Return whether a file that begins with these bytes is an earlier output of this kind."""
        if self.format == "csv":
            line = head.splitlines()[0].decode(errors="replace")
            return re.fullmatch(self.header, line) is not None
        if self.format == "pyz":
            return f"{PACKAGE}/".encode() in head
        return self._mark.encode() in head

    @property
    def _mark(self) -> str:
        return f"written by osa-nas: {self.command}"


def write_file(path: Path, content: str | bytes, kind: OutputKind) -> None:
    """Write an output, with its folders. An earlier output of the same kind is replaced as a whole,
    and stays if the disk is full.

    Raises `NasError` if the file holds anything else, `WriteError` if it cannot be written.
    """
    _check_replaceable(path, kind)
    text = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, kind.marked(text))
    except OSError as error:
        raise WriteError(path, error) from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file as a whole; an earlier one stays if the disk is full. Raises `OSError`."""
    place = Path(os.path.realpath(path))
    in_place = place.exists() and (not place.is_file() or not os.access(place.parent, os.W_OK))
    if in_place:  # a pipe or a device, or a folder that takes no second file
        place.write_bytes(content)
        return
    part = place.with_name(f".{os.getpid()}.part")
    try:
        part.write_bytes(content)
        if place.exists():
            shutil.copymode(place, part)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def write_files(
    folder: Path, files: Mapping[str, tuple[str | bytes, OutputKind]], *, note: bool = False
) -> None:
    """Write outputs by name into one folder, and print their names.

    They are printed on standard error if they are a `note` beside other output. Nothing is written
    if one of the files may not be. Raises what `write_file` raises.
    """
    check_outputs((folder / name, kind) for name, (_, kind) in files.items())
    for name, (content, kind) in files.items():
        write_file(folder / name, content, kind)
    click.echo(f"{folder}: {', '.join(files)}", err=note)


def check_outputs(outputs: Iterable[tuple[Path | None, OutputKind]]) -> None:
    """Refuse outputs that `write_file` would refuse, before long work; None is skipped.

    Raises `NasError` if a file holds anything but an earlier output of its kind, or if two outputs
    have the same file; `WriteError` if a file cannot be written; `MissingDependencyError` without a
    package that writing needs. No file is left behind.
    """
    places: set[Path] = set()
    for path, kind in outputs:
        if path is None:
            continue
        _check_replaceable(path, kind)
        check_writable(path)
        for package in kind.packages:
            require_package(package, "report")
        place = Path(os.path.realpath(path))
        if place in places:
            raise NasError(f"{path} is named for two outputs; give each a file of its own")
        places.add(place)


def check_no_sidecar(path: Path) -> None:
    """Refuse the name of a file that SQLite keeps beside a database. Raises `NasError`."""
    place = Path(os.path.realpath(path))
    for ending in SIDECAR_ENDINGS:
        name = place.name.removesuffix(ending)
        if name not in {place.name, ""} and is_sqlite(place.with_name(name)):
            raise NasError(f"{path} belongs to the database {name} beside it; name another file")


def is_sqlite(path: Path) -> bool:
    """Return whether a file is an SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError:
        return False


def _check_replaceable(path: Path, kind: OutputKind) -> None:
    """Raise `NasError` unless the file is new, empty, a device or an earlier output of its kind."""
    if path.parts[:1] == ("-",):
        raise NasError(f"{path}: - is no output here; name a file, or a folder for several")
    check_no_sidecar(path)
    place = Path(os.path.realpath(path))
    try:
        status = place.stat()
        if stat.S_ISCHR(status.st_mode) or stat.S_ISFIFO(status.st_mode):
            return
        head = _head(place)
    except (FileNotFoundError, NotADirectoryError):
        return  # a new file, or one that cannot be written for a reason that writing will name
    except (OSError, EOFError, zlib.error) as error:
        raise WriteError(path, error) from error
    if (not head and status.st_nlink == 1) or (head and kind.recognises(head)):
        return
    raise NasError(
        f"{path} is not a {kind.name} that {kind.command} wrote, so it is left as it is; name "
        "another file"
    )


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked if it is gzipped."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.startswith(b"\x1f\x8b"):
        return head
    with gzip.open(path, "rb") as unpacked:
        return unpacked.read(HEAD_BYTES)
