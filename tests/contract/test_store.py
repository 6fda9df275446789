"""The record keeps its promises on SQLite and on a real PostgreSQL server."""

import pytest

from nas.testing.store_contract import StoreContract


class TestSqlite(StoreContract):
    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "a record.db")


class TestPostgresql(StoreContract):
    @pytest.fixture
    def url(self, postgresql):
        return postgresql()
