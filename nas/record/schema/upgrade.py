"""From whatever a database holds to today's tables, by the migrations and in one transaction.

Reading the revision needs no Alembic, so that looking at a study starts fast; Alembic is imported
to migrate.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from nas.core.errors import DatabaseError

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
"""All revisions in order."""
HEAD = REVISIONS[-1]
VERSION_TABLE = "nas_schema_version"
"""Its own name, so that another program's Alembic in the same PostgreSQL database is not mistaken
for ours.
"""
MIGRATIONS = Path(__file__).parent / "migrations"
UPGRADE_LOCK = 0x6E6173  # "nas": two programs that open the same new PostgreSQL database take turns


def revision(connection: Connection, where: str) -> str | None:
    """The database's revision, None for an empty database. `where` is its name in errors.

    Raises `DatabaseError` for one that holds something else or was written by a newer version of
    this package.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if VERSION_TABLE not in tables:
        message = (
            f"{where} holds other tables ({', '.join(sorted(tables)[:5])}) and no studies; "
            "name an empty or new database"
        )
        raise DatabaseError(message)
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one()  # noqa: S608 - a constant
    if found not in REVISIONS:
        message = (
            f"{where} was written by a newer osa-nas (schema revision {found}, this one knows {HEAD}); "
            "upgrade osa-nas"
        )
        raise DatabaseError(message)
    return str(found)


def upgrade(connection: Connection, where: str) -> None:
    """Bring the database to `HEAD` within the connection's transaction, which must be the only
    writing one.
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
