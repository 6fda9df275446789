"""What a bundle holds and which checks it passed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nas.errors import ExportError


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check that was passed: `found` is at most `allowed`. Raises `ExportError` for one that is not."""

    name: str
    found: float
    allowed: float

    def __post_init__(self) -> None:
        if not self.found <= self.allowed:  # so that a NaN fails too
            raise ExportError(f"{self.name}: found {self.found:.3g}, allowed is {self.allowed:.3g}")

    def __str__(self) -> str:
        return f"{self.found:.2g} (at most {self.allowed:.2g})"


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """One file of a bundle; `sha256` in hexadecimal digits."""

    name: str
    size_bytes: int
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Sum up the file."""
        data = path.read_bytes()
        return cls(name=path.name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The files of a bundle but its own `manifest.json`, the checks by name, and the versions that wrote it."""

    files: tuple[BundleFile, ...]
    checks: Mapping[str, Check]
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "files": {file.name: {"size_bytes": file.size_bytes, "sha256": file.sha256} for file in self.files},
            "checks": {name: {"found": check.found, "allowed": check.allowed} for name, check in self.checks.items()},
            "versions": dict(self.versions),
        }
