"""The record of studies, trials, fronts and files. Only this package reads and writes it."""

from nas.record.address import Address
from nas.record.records import Artifact, ArtifactKind, StudyRecord, Summary
from nas.record.store import Store

__all__ = ["Address", "Artifact", "ArtifactKind", "Store", "StudyRecord", "Summary"]
