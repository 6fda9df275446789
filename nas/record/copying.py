"""All rows of one database into another, empty one, whatever engines they have: bit for bit, keys
included.
"""

from sqlalchemy import Connection, Table, insert, select, text

from nas.record.schema.tables import METADATA

BATCH = 1000
"""Rows read and written at once, so that memory stays small however large the record is."""


def copy_rows(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every table; gives the number of rows of each."""
    return {table.name: _copy(source, target, table) for table in METADATA.sorted_tables}


def _copy(source: Connection, target: Connection, table: Table) -> int:
    copied = 0
    rows = (
        source.execution_options(yield_per=BATCH)
        .execute(select(table).order_by(*table.primary_key))
        .mappings()
    )
    for batch in rows.partitions(BATCH):
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
