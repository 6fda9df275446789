"""The networks on the device: files named by the SHA-256 of their content, in one folder of bounded
size. The least recently used make room for new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import IO, Any

from .errors import RefusedError

DIGEST = re.compile(r"[0-9a-f]{64}")
CHUNK_BYTES = 2**16


class NetworkStore:
    """The folder of networks. All files together have at most `max_bytes`, and so has each."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self.max_bytes = folder, max_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.glob("*.part"):
            left.unlink()

    def holds(self, digest: str) -> bool:
        """Return whether a network is stored. Raises `RefusedError` for what is no digest."""
        return self._named(digest).exists()

    def path(self, digest: str) -> Path:
        """Return the file of a stored network. Raises `RefusedError` if there is none."""
        path = self._named(digest)
        try:
            os.utime(str(path))
        except OSError as error:
            raise RefusedError(404, f"no network {digest}") from error
        return path

    def put(self, digest: str, source: Any, length: int) -> None:
        """Store the next `length` bytes of a stream, if they have this digest.

        Raises `RefusedError`.
        """
        path = self._named(digest)
        if length > self.max_bytes:
            raise RefusedError(413, f"a network of {length} bytes; at most {self.max_bytes}")
        self._make_room(length)
        descriptor, name = tempfile.mkstemp(".part", dir=str(self._folder))
        try:
            with os.fdopen(descriptor, "wb") as file:
                if _copy(source, file, length) != digest:
                    raise RefusedError(400, f"the content does not have the digest {digest}")
            Path(name).replace(path)
        except OSError as error:
            raise RefusedError(507, f"the network cannot be stored: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                Path(name).unlink()

    def _named(self, digest: str) -> Path:
        if not DIGEST.fullmatch(digest):
            raise RefusedError(404, "a network is named by 64 hexadecimal digits")
        return self._folder / f"{digest}.onnx"

    def _make_room(self, length: int) -> None:
        files = [(path.stat(), path) for path in self._folder.glob("*.onnx")]
        files.sort(key=lambda each: each[0].st_mtime)
        total = sum(status.st_size for status, _ in files)
        for status, path in files:
            if total + length <= self.max_bytes:
                return
            path.unlink()
            total -= status.st_size


def _copy(source: Any, file: IO[bytes], length: int) -> str:
    """Copy bytes and return their digest. Raises `RefusedError` if the stream ends before."""
    digest, missing = hashlib.sha256(), length
    while missing:
        chunk = source.read(min(CHUNK_BYTES, missing))
        if not chunk:
            raise RefusedError(400, f"the content ended {missing} bytes too early")
        digest.update(chunk)
        file.write(chunk)
        missing -= len(chunk)
    return digest.hexdigest()
