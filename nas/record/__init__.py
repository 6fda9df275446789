"""The record of studies, trials, fronts and files. Only this package reads and writes it.

`Store` is imported when it is first used, since SQLAlchemy takes half a second.
"""

from typing import TYPE_CHECKING, Any

from nas.record.address import Address
from nas.record.records import Artifact, ArtifactKind, StudyRecord, Summary

if TYPE_CHECKING:
    from nas.record.store import Store

__all__ = ["Address", "Artifact", "ArtifactKind", "Store", "StudyRecord", "Summary"]


def __getattr__(name: str) -> Any:
    if name == "Store":
        from nas.record.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
