"""The entry point of Alembic. It migrates over the connection of the caller, in its transaction."""

from alembic import context

from nas.record.schema.tables import METADATA
from nas.record.schema.upgrade import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
