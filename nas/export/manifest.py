"""What a bundle holds and which checks it passed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked: it passes where `found` is at most `allowed`."""

    name: str
    found: float
    allowed: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether it holds; a NaN never does."""
        return self.found <= self.allowed

    def __str__(self) -> str:
        return f"{self.name}: found {self.found:.3g}, allowed is {self.allowed:.3g}"


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
    """The files of a bundle but its own `manifest.json`, the checks by name, the versions that
    wrote it, how timm loads it and why so (`timm`), and the latency of the files beside the
    search's (`figures`, fields of `Measurement`).
    """

    files: tuple[BundleFile, ...]
    checks: Mapping[str, Check]
    versions: Mapping[str, str]
    timm: Mapping[str, str]
    figures: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **self.timm,
            "files": {
                file.name: {"size_bytes": file.size_bytes, "sha256": file.sha256}
                for file in self.files
            },
            "checks": {
                name: {"found": check.found, "allowed": check.allowed}
                for name, check in self.checks.items()
            },
            "versions": dict(self.versions),
            "figures": list(self.figures),
            "warnings": list(self.warnings),
        }
