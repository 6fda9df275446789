"""The schema of the record.

`tables` describes the present tables, `migrations` holds the steps that lead to them, and `upgrade`
applies those steps. The schema is written twice on purpose, as tables and as migrations. A test
compares the two on both engines.
"""

from nas.record.schema.tables import METADATA
from nas.record.schema.upgrade import HEAD, revision, upgrade

__all__ = ["HEAD", "METADATA", "revision", "upgrade"]
