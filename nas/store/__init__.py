"""The only reader and writer of the record: what a study asked, what its trials gave, and which were best."""

from nas.store.records import Artifact, ArtifactKind, StudyRecord, Summary
from nas.store.store import Store

__all__ = ["Artifact", "ArtifactKind", "Store", "StudyRecord", "Summary"]
