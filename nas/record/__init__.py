"""The only reader and writer of the record: what a study asked, what its trials gave, and which
were best.
"""

from nas.record.address import Address
from nas.record.records import Artifact, ArtifactKind, StudyRecord, Summary
from nas.record.store import Store

__all__ = ["Address", "Artifact", "ArtifactKind", "Store", "StudyRecord", "Summary"]
