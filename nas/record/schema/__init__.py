"""The record's tables: `tables` as they are today, `migrations` as they came about, `upgrade` to
get there.

Everything is written twice on purpose, as tables and as migrations; a test compares the two on both
engines.
"""

from nas.record.schema.tables import METADATA
from nas.record.schema.upgrade import HEAD, revision, upgrade

__all__ = ["HEAD", "METADATA", "revision", "upgrade"]
