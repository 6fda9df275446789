"""Upgrade a database to the present tables, by the migrations and in one transaction.

Alembic is imported only to migrate. Commands that only read a record start faster without it.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from nas.core.errors import DatabaseError

MIGRATIONS = Path(__file__).parent / "migrations"
"""Folder of the migrations."""
REVISIONS = tuple(
    sorted(
        path.stem.removeprefix("revision_") for path in MIGRATIONS.glob("versions/revision_*.py")
    )
)
"""All revisions in order."""
HEAD = REVISIONS[-1]
"""The present revision."""
VERSION_TABLE = "nas_schema_version"
"""Table of the revision.

Its name differs from Alembic's default, because another program may use Alembic in the same
PostgreSQL database.
"""
UPGRADE_LOCK = 0x6E6173
"""Key of the lock by which programs upgrade a PostgreSQL database one by one. It spells "nas"."""


def revision(connection: Connection, where: str) -> str | None:
    """Return the revision of a database, None for an empty one. Errors call the database `where`.

    Raises `DatabaseError` if it holds other tables, or was written by a newer version of this
    package.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if VERSION_TABLE not in tables:
        raise DatabaseError(
            f"{where} holds other tables ({', '.join(sorted(tables)[:5])}) and no studies; "
            "name an empty or new database"
        )
    query = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    recorded = str(connection.execute(query).scalar_one())
    if recorded not in REVISIONS:
        raise DatabaseError(
            f"{where} was written by a newer osa-nas (its schema has revision {recorded}, the "
            f"newest one here is {HEAD}); upgrade osa-nas"
        )
    return recorded


def upgrade(connection: Connection, where: str) -> None:
    """Bring the database to `HEAD`, in the transaction of the connection.

    No other transaction may write at the same time.
    """
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
    if revision(connection, where) == HEAD:
        return
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")
