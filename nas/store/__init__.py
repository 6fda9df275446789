"""The only reader and writer of the record: what a study asked, what its trials gave, and which were best."""

from nas.store.address import Address
from nas.store.records import Artifact, ArtifactKind, StudyRecord, Summary
from nas.store.store import Store

__all__ = ["Address", "Artifact", "ArtifactKind", "Store", "StudyRecord", "Summary"]
