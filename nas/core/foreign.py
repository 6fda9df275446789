"""Networks of other packages, by name, and the names of networks in a study file."""

import difflib
import hashlib
from dataclasses import dataclass
from functools import cached_property

from nas.core.published import PUBLISHED

PACKAGES = ("timm", "torchvision")
"""Packages whose networks can be trained beside a search."""


@dataclass(frozen=True, kw_only=True)
class ForeignNetwork:
    """A network of another package, named as `timm:hgnetv2_b0`."""

    name: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the name."""
        return hashlib.sha256(self.name.encode()).hexdigest()


def is_foreign(text: str) -> bool:
    """Return whether this is the name of a network of another package."""
    package, colon, name = text.partition(":")
    return package in PACKAGES and bool(colon and name)


def is_named_architecture(text: str) -> bool:
    """Return whether this is the name of a VoVNet, of an architecture's file, or of a trial."""
    study, _, number = text.rpartition(":")
    return text in PUBLISHED or text.endswith(".json") or bool(study and number.isdecimal())


def kind_problem(text: str, *, foreign: bool) -> str:
    """Return why no network can have this name, or an empty string.

    `foreign` says whether it may be a network of another package.
    """
    if is_named_architecture(text) or (foreign and is_foreign(text)):
        return ""
    kinds = ["a published VoVNet", "an architecture.json"]
    kinds += ["STUDY:TRIAL", *([f"{package}:NAME" for package in PACKAGES] if foreign else [])]
    close = difflib.get_close_matches(text, PUBLISHED, n=1)
    hint = f"did you mean {close[0]}?" if close else f"name {', '.join(kinds[:-1])} or {kinds[-1]}"
    return f"{text!r} is no network that can be trained here; {hint}"
