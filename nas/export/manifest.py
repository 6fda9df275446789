"""The manifest of a bundle: its files and the checks that they passed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


def file_facts(path: Path) -> dict[str, Any]:
    """Return the `size_bytes` and the `sha256` of a file, in hexadecimal digits."""
    data = path.read_bytes()
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`.

    `files` are the facts of all files but the manifest itself. `versions` are those of the packages
    that wrote them. `timm` says how timm loads the network and why. `figures` are the latencies of
    the files, as fields of `Measurement`, and `warnings` compare them with the latency in the
    search.
    """

    files: Mapping[str, Mapping[str, Any]]
    checks: Mapping[str, Check]
    versions: Mapping[str, str]
    timm: Mapping[str, str]
    figures: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **self.timm,
            "files": dict(self.files),
            "checks": {
                name: {"found": check.found, "allowed": check.allowed}
                for name, check in self.checks.items()
            },
            "versions": dict(self.versions),
            "figures": list(self.figures),
            "warnings": list(self.warnings),
        }
