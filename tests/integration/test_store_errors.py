"""Any problem with a database gives one clear line, and recorded data is never lost."""

import errno
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import replace

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from nas.cli import main
from nas.cli.options import pick_trial
from nas.core.errors import DatabaseError, MissingDependencyError, NasError, StudyConflictError
from nas.record import Address, Store
from nas.record.faults import translate_errors
from nas.sampling.optuna_study import export_study
from nas.testing.sample_records import latency, rung, spec, trial
from search_spaces.osa_tiny import SPACE

COUNTED = 20
"""Number of writes that the process must acknowledge before it is killed."""


@pytest.fixture
def path(tmp_path):
    """A record with one study and one trial."""
    with Store.open(tmp_path / "nas.db") as store:
        store.create_study(spec(), dataset="digits", classes=10)
        store.add_trial("first", trial(0))
    return tmp_path / "nas.db"


@pytest.fixture
def disk(tmp_path):
    """A separate file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only a user who may mount can fill a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def one_line(error):
    """Return the message of an error. It must be one line, and not name SQLAlchemy."""
    message = str(error.value)
    assert "\n" not in message
    assert "sqlalche" not in message
    return message


def test_a_reader_in_a_closed_folder_sees_a_search_that_begins_later(path, monkeypatch):
    """It found no writer when it first read, so that it could not create SQLite's files."""
    monkeypatch.setattr("nas.record.engines.os.access", lambda *_: False)
    with Store.open(path, read_only=True) as reader:
        assert len(reader.trials("first")) == 1
        with Store.open(path) as searching:
            searching.add_trial("first", trial(1))
            assert len(reader.trials("first")) == 2
            assert searching.give_space_back()
            searching.add_trial("first", trial(2))
            assert len(reader.trials("first")) == 3


def test_a_record_has_one_claim_under_all_its_names(path, tmp_path):
    """A link in another folder is the same record, also for a reader in its folder."""
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "other.db"
    link.symlink_to(path)
    with Store.open(path) as store, Store.open(link) as other, store.claim("first"):
        assert other.driver("first") is not None
        with pytest.raises(StudyConflictError), other.claim("first"):
            pass
    assert [each.name for each in folder.iterdir()] == ["other.db"]


def test_a_claim_on_a_full_disk(path, monkeypatch):
    """The error names the lock file, and the study can be claimed afterwards."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store.open(path) as store:
        monkeypatch.setattr("nas.record.claims.os.pwrite", full)
        with pytest.raises(DatabaseError) as error, store.claim("first"):
            pass
        assert f"{path}.first.lock cannot be locked or written: No space" in one_line(error)
        monkeypatch.undo()
        with store.claim("first"):
            pass


def test_a_file_that_is_no_database(tmp_path):
    """The error says so, and the file stays as it is."""
    path = tmp_path / "nas.db"
    path.write_text("objectives:\n  - metric: error\n" * 100)
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(DatabaseError) as error:
            Store.open(path, read_only=read_only)
        assert f"{path} is not a SQLite database" in one_line(error)
    assert path.read_bytes() == before


def test_a_damaged_file(path):
    """The error says so and names the command that rescues the rest."""
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(DatabaseError) as error:
        Store.open(path)
    assert "is damaged" in one_line(error)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE study SET spec = '{}'",
        "UPDATE study SET spec = 'no JSON'",
        "UPDATE study SET created_at = 'yesterday'",
        "UPDATE trial SET state = 'lost'",
        "UPDATE trial SET sampler_state = '[1, 2'",
        "UPDATE architecture SET spec = '[1, 2]'",
    ],
)
@pytest.mark.parametrize("command", ["show first:0", "db check"])
def test_a_row_that_another_program_changed(path, change, command, monkeypatch):
    """One line says that the record was changed, and the record stays as it is."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(change)
        connection.commit()
    before = path.read_bytes()
    monkeypatch.setenv("NAS_DATABASE", str(path))
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 2, result.output
    assert "holds a value that osa-nas does not write" in result.output
    assert len(result.output.splitlines()) == 1
    assert path.read_bytes() == before


def test_a_file_that_is_not_there(tmp_path):
    """Reading creates no file."""
    with pytest.raises(DatabaseError, match="there is no record at"):
        Store.open(tmp_path / "nas.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    """The error names it."""
    with pytest.raises(DatabaseError, match=rf"there is no folder {re.escape(str(tmp_path))}/x"):
        Store.open(f"sqlite:///{tmp_path}/x/nas.db")


def test_a_folder_in_the_place_of_the_file(tmp_path):
    """Both reading and writing refuse it."""
    for read_only in (True, False):
        with pytest.raises(
            DatabaseError, match=f"{re.escape(str(tmp_path))} is a folder; name a file in it"
        ):
            Store.open(tmp_path, read_only=read_only)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "first",
            "'first' is no trial; name one as STUDY:NUMBER, or as NUMBER if there is one study",
        ),
        ("first:²", "'first:²' is no trial"),
        ("other:0", "no 'other' in the studies of"),
        (
            "first:99999999999999999999",
            "no '99999999999999999999' in the trials of study 'first'; there are: 0 to 0",
        ),
    ],
)
def test_a_wrong_name_of_a_trial(path, text, message):
    """The error shows the form of a name, or lists the trials."""
    with Store.open(path, read_only=True) as store, pytest.raises(NasError, match=message):
        pick_trial(store, text)


@pytest.mark.parametrize("address", ["", ":memory:", "sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory(address):
    """It would lose everything at the end of the program, therefore it is refused."""
    with pytest.raises(DatabaseError, match="name a file"):
        Store.open(address)


@pytest.mark.parametrize("name", ["n" * 300, "~no_such_user/nas.db", "a\0b"])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_name_that_no_file_can_have(name, read_only, tmp_path, monkeypatch):
    """It is too long, of a user who does not exist, or has an impossible character."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatabaseError, match="cannot be the file of a record: ") as error:
        Store.open(name, read_only=read_only)
    assert len(one_line(error)) < 250


WRONG_ADDRESSES = [
    "postgresql://me:p@s3cret/w0rd@localhost:1/nas",
    "postgresql://me:s3cret/w0rd@localhost:1/nas",
    "postgresql://me:s3cret?w0rd@localhost:1/nas",
    "postgresql://me/x:s3cret@localhost:1/nas",
    "postgresql://me:s3cret/nas",
    "postgresql://me:s3cret@host:port/nas",
    "postgresql://localhost:1/nas?password=s3cret@w0rd",
    "postgresql://localhost?password=s3cret@w0rd",
    "postgres:/me:s3cret@localhost/nas",
    "postgresql:me:s3cret",
    "me:s3cret@localhost/nas",
    "host=localhost password=s3cret dbname=nas",
    "sqlite://me:s3cret@localhost/w0rd.db",
    "sqlite:///postgresql://me:s3cret@localhost/nas",
    "mysql://me:s3cret@host/nas",
    "mysql://me:p@s3cret/w0rd@host/nas",
]
"""Each would put a part of its password into a message if it were repeated or taken apart."""


@pytest.mark.parametrize("address", WRONG_ADDRESSES)
def test_a_wrong_address_is_refused_without_its_password(address):
    """The message shows a right address and says what to percent-encode."""
    with pytest.raises(DatabaseError) as error:
        Store.open(address)
    message = one_line(error)
    assert "postgresql://USER:PASSWORD@HOST/NAME" in message
    assert "percent-encode characters such as @ / :" in message
    assert "s3cret" not in message
    assert "w0rd" not in message


@pytest.mark.parametrize("address", WRONG_ADDRESSES)
@pytest.mark.parametrize(
    "command",
    ["status", "status --watch", "front", "db check", "db copy ADDRESS new.db", "train"],
)
def test_commands_print_nothing_of_a_password(command, address, monkeypatch):
    """The address comes from the environment, as people keep passwords."""
    monkeypatch.setenv("NAS_DATABASE", address)
    words = [address if word == "ADDRESS" else word for word in command.split()]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2, result.output
    assert "percent-encode" in result.output
    assert "s3cret" not in result.output
    assert "w0rd" not in result.output


@pytest.mark.parametrize("address", [each for each in WRONG_ADDRESSES if ":/" in each])
@pytest.mark.parametrize(
    "command",
    [
        "ADDRESS",
        "status ADDRESS",
        "show ADDRESS",
        "front study ADDRESS",
        "search ADDRESS",
        "verify ADDRESS",
        "measure ADDRESS",
        "report --trial ADDRESS",
    ],
)
def test_an_address_in_the_place_of_something_else_is_not_repeated(
    command, address, path, monkeypatch
):
    """As the name of a study, a file, a network, a number or a command."""
    monkeypatch.setenv("NAS_DATABASE", str(path))
    words = [address if word == "ADDRESS" else word for word in command.split()]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2, result.output
    assert "s3cret" not in result.output
    assert "w0rd" not in result.output


@pytest.mark.parametrize(
    "address", [each for each in WRONG_ADDRESSES if each.startswith(("postgresql://", "mysql://"))]
)
def test_optuna_gets_no_wrong_address(address):
    """Its own errors would repeat parts of the password."""
    with pytest.raises(DatabaseError) as error:
        export_study(spec(), SPACE, [], address)
    assert "s3cret" not in one_line(error)
    assert "w0rd" not in one_line(error)


def test_an_encoded_password_is_decoded():
    """The address is taken apart as it was meant, and printed without the password."""
    address = Address.parse("postgresql://me:p%40s3cret%2Fw0rd@localhost:1/nas?sslmode=require")
    assert address.passwords == ("p@s3cret/w0rd",)
    assert str(address) == "postgresql://me:***@localhost:1/nas?sslmode=require"
    assert repr(address) == f"Address({address})"


def test_a_reason_that_holds_the_password_is_left_out():
    """A server that repeats a password, or a password that is also a word of the reason."""
    address = Address.parse("postgresql://nas:nas@localhost/nas")
    with pytest.raises(DatabaseError) as error, translate_errors(address):
        raise OperationalError("SELECT 1", {}, psycopg.OperationalError('no user "nas"'))
    assert one_line(error) == f"{address} cannot be reached"


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:s3cret@127.0.0.1:{port}/nas",
        "postgresql://me@127.0.0.1:{port}/nas?password=s3cret",
        "postgres://me:s3cret@127.0.0.1:{port}/nas",
        "postgresql://me@127.0.0.1:{port}/nas?passwd=s3cret",
        "postgresql://me@127.0.0.1:{port}/nas?sslpassword=s3cret",
        "postgresql://me:s3cret%40w0rd@127.0.0.1:{port}/nas",
    ],
)
def test_a_server_that_is_not_there(address):
    """The error names the server without the password."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]  # no server listens here
        with pytest.raises(DatabaseError) as error:
            Store.open(address.format(port=port))
    message = one_line(error)
    assert "cannot be reached" in message
    assert f"127.0.0.1:{port}/nas" in message
    assert "s3cret" not in message
    assert "w0rd" not in message


def test_a_database_that_is_not_on_the_server(postgresql):
    """The error names it."""
    with pytest.raises(DatabaseError) as error:
        Store.open(re.sub(r"/test_\d+", "/nowhere", postgresql()))
    assert '"nowhere" does not exist' in one_line(error)


def test_postgresql_without_its_driver(monkeypatch):
    """The error says what to install."""
    monkeypatch.setattr("nas.core.errors.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"osa-nas\[postgresql\]"):
        Store.open("postgresql://localhost/nas")


def test_a_file_that_another_program_writes(path):
    """Writing fails after the waiting time, and reading works all the time."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Store.open(path, busy_timeout_s=0.1) as store:
        with pytest.raises(DatabaseError) as error:
            store.add_trial("first", trial(1))
        assert f"{path} is locked by another program" in one_line(error)
        assert len(store.trials("first")) == 1
        other.execute("ROLLBACK")
        store.add_trial("first", trial(1))
    other.close()


def test_a_file_that_may_not_grow(path):
    """Recorded data stays, as on a full disk, and with more room the same call works."""
    with Store.open(path) as store:
        limit = {"pages": 1}
        event.listen(
            store._engine,
            "checkout",
            lambda raw, *_: raw.execute(f"PRAGMA max_page_count = {limit['pages']}"),
        )
        samples = tuple(number / 7 for number in range(10_000))
        with pytest.raises(DatabaseError) as error:
            store.add_measurements("first", 0, [latency(samples=samples)], 0.1)
        assert "the disk is full; make room" in one_line(error)
        assert store.trial("first", 0).evaluation.measurements == {}
        limit["pages"] = 2**30
        store.add_measurements("first", 0, [latency(samples=samples)], 0.1)
        assert store.trial("first", 0).evaluation.measurements["latency"].samples == samples


def test_a_full_disk(disk):
    """Writing fails with a clear line, and all acknowledged writes are kept."""
    with Store.open(disk / "nas.db") as store:
        store.create_study(spec(), dataset="digits", classes=10)
        filler = disk / "filler"
        filler.write_bytes(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 300_000))
        written = 0
        with pytest.raises(DatabaseError) as error:  # noqa: PT012 - some of the calls work
            for number in range(1000):
                store.add_trial("first", trial(number, reason="x" * 2000))
                written = number + 1
        assert "full" in one_line(error)
        assert 0 < written < 1000
        filler.unlink()
        store.add_trial("first", trial(written))
    with Store.open(disk / "nas.db") as store:
        assert [t.number for t in store.trials("first")] == list(range(written + 1))


def test_a_disk_that_may_not_be_written(disk):
    """A record on it can be read, although no files can be made beside it. Writing is refused."""
    with Store.open(disk / "nas.db") as store:
        store.create_study(spec(), dataset="digits", classes=10)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with Store.open(disk / "nas.db", read_only=True) as store:
        assert store.study("first").spec == spec()
    with pytest.raises(DatabaseError) as error:
        Store.open(disk / "nas.db")
    assert re.search("may not be written|cannot be opened", one_line(error))


WRITER = """
import sys
from contextlib import ExitStack
from dataclasses import replace
from nas.record import Store
from nas.testing.sample_records import latency, rung, trial
with Store.open(sys.argv[1]) as store:
    for number in range(10_000):
        store.add_trial("first", trial(number))
        store.add_measurements("first", number, [latency()], 0.1)
        store.add_rung("first", number, rung())
        print(number, flush=True)
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_killed_writer_loses_nothing(engine, tmp_path, request):
    """After `kill -9` the database is sound and holds every acknowledged write."""
    url = (
        str(tmp_path / "nas.db") if engine == "sqlite" else request.getfixturevalue("postgresql")()
    )
    with Store.open(url) as store:
        store.create_study(spec(), dataset="digits", classes=10)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True
    ) as writer:
        acknowledged = -1
        while acknowledged < COUNTED:
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, re.findall(r"(\d+)\n", writer.stdout.read()))])
    if engine == "sqlite":
        connection = sqlite3.connect(url)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()
    with Store.open(url) as store:
        trials = store.trials("first")
        assert acknowledged < len(trials) <= acknowledged + 2
        for each in trials[: acknowledged + 1]:
            assert each == replace(
                trial(each.number), evaluation=each.evaluation, started_at=each.started_at
            )
            assert each.evaluation.measurements["latency"].samples == latency().samples
            assert [r.metrics["error"] for r in each.evaluation.rungs] == [rung().metrics["error"]]
        store.add_trial("first", trial(len(trials)))


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_server_loses_nothing(start_postgresql):
    """After `kill -9` of PostgreSQL the error is clear, and no acknowledged write is lost.

    When the server runs again, a search must claim its study again.
    """
    psutil = pytest.importorskip("psutil")
    with start_postgresql() as server:
        with Store.open(server.get_uri()) as store, ExitStack() as stack:
            store.create_study(spec(), dataset="digits", classes=10)
            stack.enter_context(store.claim("first"))
            store.add_trial("first", trial(0))
            saved = store.trials("first")
            postmaster = psutil.Process(server.get_pid())
            processes = [postmaster, *postmaster.children(recursive=True)]
            for process in processes:
                process.kill()
            assert psutil.wait_procs(processes, timeout=10)[1] == []
            with pytest.raises(DatabaseError) as error:
                store.add_trial("first", trial(1))
            assert "cannot be reached" in one_line(error)
            server.ensure_postgres_running()
            assert store.trials("first") == saved
            with pytest.raises(DatabaseError) as error:  # another search may hold the study now
                store.add_trial("first", trial(1))
            assert "run the same command again" in one_line(error)
        with Store.open(server.get_uri()) as store, store.claim("first"):
            store.add_trial("first", trial(1))
