"""Copy all rows of one database into an empty one, bit by bit and with their keys.

The two databases may have different engines.
"""

from sqlalchemy import Connection, Table, insert, select, text

from nas.record.schema.tables import METADATA

BATCH_ROWS = 1000
"""Rows read and written at once. It bounds the memory for a record of any size."""


def copy_rows(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every table, and return the number of its rows by its name."""
    return {table.name: _copy(source, target, table) for table in METADATA.sorted_tables}


def _copy(source: Connection, target: Connection, table: Table) -> int:
    copied = 0
    rows = (
        source.execution_options(yield_per=BATCH_ROWS)
        .execute(select(table).order_by(*table.primary_key))
        .mappings()
    )
    for batch in rows.partitions(BATCH_ROWS):
        target.execute(insert(table), [dict(row) for row in batch])
        copied += len(batch)
    if copied and target.dialect.name == "postgresql" and table.autoincrement_column is not None:
        key = table.autoincrement_column.name
        target.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', '{key}'), max({key})) "  # noqa: S608
                f"FROM {table.name}"
            )
        )
    return copied
