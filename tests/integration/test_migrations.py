"""The migrations make new databases, with exactly the tables that the code describes."""

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, select, table, text

from nas.core.errors import DatabaseError
from nas.record import Store
from nas.record.schema import HEAD, METADATA, upgrade
from nas.record.schema.upgrade import MIGRATIONS, REVISIONS, VERSION_TABLE

RECORDS = Path(__file__).parent / "records"
VIEWS = {
    "current_measurement",
    "hypervolume_history",
    "last_rung",
    "objective_value",
    "pareto",
    "trial_overview",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request, tmp_path):
    """A function that returns SQLAlchemy's address of a new, empty database."""
    if request.param == "sqlite":
        numbers = iter(range(9))
        return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.db"
    make = request.getfixturevalue("postgresql")
    return lambda: make().replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture
def connect():
    """A function that opens a connection to an address. All connections are closed at the end."""
    opened = []

    def open_(url):
        engine = create_engine(url)
        opened.append((engine, connection := engine.connect()))
        return connection

    yield open_
    for engine, connection in opened:
        connection.close()
        engine.dispose()


def test_alembic_finds_no_difference(new_url, connect):
    """The migrated database has the tables, columns, types and keys of the metadata."""
    url = new_url()
    Store.open(url).close()
    context = MigrationContext.configure(
        connect(url),
        opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True},
    )
    assert compare_metadata(context, METADATA) == []


def test_migrations_and_metadata_build_the_same(new_url, connect):
    """A database made from the metadata has the same names and CHECKs as a migrated one."""
    migrated, built = new_url(), new_url()
    Store.open(migrated).close()
    connection = connect(built)
    METADATA.create_all(connection)
    connection.commit()
    left, right = inspect(connect(migrated)), inspect(connection)
    assert set(left.get_table_names()) - {VERSION_TABLE} == set(right.get_table_names())
    for name in right.get_table_names():
        for method in (
            "get_check_constraints",
            "get_foreign_keys",
            "get_unique_constraints",
            "get_indexes",
        ):
            left_items, right_items = getattr(left, method)(name), getattr(right, method)(name)
            assert texts(left_items) == texts(right_items), (name, method)
        assert left.get_pk_constraint(name) == right.get_pk_constraint(name)


def texts(items):
    """Return reflected items as texts that can be compared.

    The conditions of indexes are objects, whose texts hold addresses.
    """
    return sorted(re.sub(r"<.*?TextClause object at \w+>", "condition", str(i)) for i in items)


def test_every_view_can_be_read(new_url, connect):
    """All views can be read from an empty record."""
    url = new_url()
    Store.open(url).close()
    connection = connect(url)
    assert set(inspect(connection).get_view_names()) == VIEWS
    for view in VIEWS:
        assert connection.execute(select(text("*")).select_from(table(view))).all() == []


def test_the_list_of_revisions_is_complete():
    """The list in the code equals the chain of migration files."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    files = ScriptDirectory.from_config(config).walk_revisions()
    assert [script.revision for script in files][::-1] == list(REVISIONS)
    assert REVISIONS[-1] == HEAD


def test_upgrading_twice_changes_nothing(new_url, connect):
    """Another program may have upgraded the database first."""
    url = new_url()
    Store.open(url).close()
    connection = connect(url)
    upgrade(connection, url)
    assert connection.execute(
        text("SELECT version_num FROM nas_schema_version")
    ).scalars().all() == [HEAD]


def test_several_may_open_a_new_database_at_once(new_url):
    """One program makes the tables, and the others wait for it."""
    url = new_url()
    with ThreadPoolExecutor(4) as pool:
        for store in [task.result() for task in [pool.submit(Store.open, url) for _ in range(4)]]:
            assert store.studies() == []
            store.close()


def test_a_newer_record_is_left_alone(new_url, connect):
    """Reading and writing are refused, because a newer version works on the record."""
    url = new_url()
    Store.open(url).close()
    connection = connect(url)
    connection.execute(text("UPDATE nas_schema_version SET version_num = '9999'"))
    connection.commit()
    for read_only in (True, False):
        with pytest.raises(DatabaseError, match=r"newer osa-nas .*9999.*upgrade osa-nas"):
            Store.open(url, read_only=read_only)


def test_a_database_of_something_else_is_left_alone(new_url, connect):
    """A mistyped name must not add our tables to the database of another program."""
    url = new_url()
    connection = connect(url)
    connection.execute(text("CREATE TABLE places (id INTEGER)"))
    connection.commit()
    with pytest.raises(DatabaseError, match=r"other tables \(places\)"):
        Store.open(url)
    assert inspect(connection).get_table_names() == ["places"]


def test_reading_makes_no_tables(new_url, connect):
    """Reading leaves an empty database empty."""
    url = new_url()
    connection = connect(url)
    connection.execute(text("SELECT 1"))
    connection.rollback()
    with pytest.raises(DatabaseError, match=r"no record|is empty"):
        Store.open(url, read_only=True)
    assert inspect(connection).get_table_names() == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_old_records_open(tmp_path, revision):
    """The record of each published revision opens with the values of that time."""
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript((RECORDS / f"{revision}.sql").read_text())
    connection.close()
    with Store.open(path) as store:
        record = store.study("old")
        first, second = store.trials("old")
        fronts = store.fronts("old")
        summary = store.summary("old")
        baselines = store.baselines("old")
    if revision >= "0003":
        assert [
            (r.seed, [(rung.epochs, rung.metrics["error"]) for rung in r.rungs])
            for r in first.evaluation.replicates
        ] == [(5, [(0.5, 1 / 3), (2.0, 0.2)])]
    assert record.identity == (
        {
            "space": {"choices": {"stem_mid": [8, 16]}, "networks": []},
            "code": {},
            "files": {},
        }
        if revision >= "0011"
        else None
    )
    expected = [("vovnet39", [0.25], 21577256.0)] if revision >= "0014" else []
    assert [
        (b.name, [r.metrics["error"] for r in b.evaluation.rungs], b.evaluation.value("parameters"))
        for b in baselines
    ] == expected
    assert summary.spent_again.energy_j == (0.375 if revision >= "0009" else None)
    assert summary.engine_j == (0.0625 if revision >= "0010" else None)
    assert summary.spent_finally.energy_j == (2.5 if revision >= "0010" else None)
    assert summary.engine_s == (1.5 if revision >= "0007" else None)
    assert first.evaluation.spent.measuring_j == (0.125 if revision >= "0008" else None)
    assert first.evaluation.spent.energy_j == (1 / 3 if revision >= "0004" else None)
    assert (record.dataset, record.spec.seed, record.numerics) == (
        "digits",
        11,
        {"precision": "fp32"},
    )
    assert (record.archived_at is not None) == (revision >= "0016")
    assert second.origin == ("before:7" if revision >= "0015" else "")
    assert second.duplicate_of == 0
    assert second.evaluation == first.evaluation
    assert first.evaluation.value("latency") == 1 / 3
    assert first.evaluation.measurements["latency"].samples == (0.1, 1 / 3, 0.7)
    assert first.evaluation.value("energy") is None
    assert [(rung.epochs, rung.metrics["error"]) for rung in first.evaluation.rungs] == [
        (0.5, 0.7),
        (2.0, 0.1),
    ]
    assert first.evaluation.value("top5_error") == (0.05 if revision >= "0012" else None)
    assert [(front.members, front.hypervolume, front.after) for front in fronts] == [((0,), 0.1, 1)]


MOVED = (
    "study",
    "objective",
    "architecture",
    "evaluation",
    "rung",
    "replicate_rung",
    "final_training",
)


def test_an_older_record_on_a_server_keeps_its_errors(request, connect):
    """The rows of revision 0011 are moved to the tables of figures."""
    url = request.getfixturevalue("postgresql")().replace("postgresql:", "postgresql+psycopg:")
    connection = connect(url)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS))
    command.upgrade(config, "0011")
    rows = (RECORDS / "0011.sql").read_text().splitlines()
    for table_name in MOVED:
        for row in rows:
            if re.match(rf'INSERT INTO "?{table_name}"? VALUES', row):
                connection.exec_driver_sql(row.replace("%", "%%"))
    upgrade(connection, url)
    connection.commit()
    for name, figures in (
        ("rung_metric", [("error", 0.1), ("error", 0.7)]),
        ("replicate_rung_metric", [("error", 0.2), ("error", 1 / 3)]),
        ("final_training_metric", [("error", 0.1)]),
    ):
        query = text(f"SELECT metric, value FROM {name} ORDER BY value")  # noqa: S608 - a constant
        assert [tuple(row) for row in connection.execute(query)] == figures
    assert connection.execute(text("SELECT error FROM last_rung")).scalars().all() == [0.1]
