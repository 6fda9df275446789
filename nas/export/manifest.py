"""The manifest of a bundle: its files and the checks that they passed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a bundle. It passes if `found` is at most `allowed`."""

    name: str
    found: float
    allowed: float = 0.0

    @property
    def passed(self) -> bool:
        """True if the check passed. A check with NaN never passes."""
        return self.found <= self.allowed

    def __str__(self) -> str:
        return f"{self.name}: found {self.found:.3g}, allowed is {self.allowed:.3g}"


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """One file of a bundle, with its SHA-256 in hexadecimal digits."""

    name: str
    size_bytes: int
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the size and the checksum of a file."""
        data = path.read_bytes()
        return cls(name=path.name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`.

    `files` are all files but the manifest itself. `versions` are those of the packages that wrote
    them. `timm` says how timm loads the network and why. `figures` are the latencies of the files,
    as fields of `Measurement`, and `warnings` compare them with the latency in the search.
    """

    files: tuple[BundleFile, ...]
    checks: Mapping[str, Check]
    versions: Mapping[str, str]
    timm: Mapping[str, str]
    figures: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
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
