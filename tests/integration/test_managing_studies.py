"""`nas study`: studies are renamed and deleted with their checkpoints, and never while driven."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.trial import Evaluation
from nas.record import Store
from nas.searching import managing
from nas.testing.sample_records import rung, spec, trial

CHECKPOINT = "first/abc/1.safetensors"


@pytest.fixture
def database(tmp_path):
    """Return a record with a study that has one checkpoint, and a second study."""
    path = tmp_path / "nas.db"
    with Store.open(path) as store:
        for name in ("first", "other"):
            store.create_study(
                spec(name), dataset="digits", classes=10, artifacts=tmp_path / "kept"
            )
        reached = Evaluation(rungs=(replace(rung(), checkpoint=CHECKPOINT),))
        store.add_trial("first", trial(0, evaluation=reached))
    file = tmp_path / "kept" / CHECKPOINT
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    return path


def run(database, *arguments):
    """Run `nas study` with these arguments."""
    return CliRunner().invoke(main, ["study", *arguments, "--database", str(database)])


def files(database):
    """Return the checkpoints beside the record, by their paths."""
    folder = database.parent / "kept"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def checkpoints(database, study):
    """Return the paths of a study's checkpoints in the record."""
    with Store.open(database, read_only=True) as store:
        return [each.evaluation.rungs[0].checkpoint for each in store.trials(study)]


def test_checkpoints_follow_a_rename(database):
    """The record and the folder have the new name, and the old one is free."""
    result = run(database, "rename", "first", "mine")
    assert (result.exit_code, result.output) == (
        0,
        "first is now mine; set 'name: mine' in its study file\n",
    )
    assert checkpoints(database, "mine") == ["mine/abc/1.safetensors"]
    assert files(database) == {"mine/abc/1.safetensors": b"weights"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", "holds a study 'other' already"),
        ("first", "the study is called 'first' already"),
        ("a\\b", "no backslash"),
        ("taken", "holds other files"),
    ],
)
def test_an_impossible_name_changes_nothing(database, name, message):
    """The checkpoints and the record stay as they were, and so do files of others."""
    taken = database.parent / "kept" / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("precious")
    before = files(database)
    result = run(database, "rename", "first", name)
    assert result.exit_code == 2
    assert message in result.output
    assert files(database) == before
    assert checkpoints(database, "first") == [CHECKPOINT]


@pytest.mark.parametrize("name", [".", ".."])
@pytest.mark.parametrize("words", [("rename", "mine"), ("delete", "--yes")])
def test_files_of_others_are_left_alone(database, name, words):
    """Older records hold studies with these names, whose folders are not only theirs."""
    command, argument = words
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE study SET name = ?, spec = json_set(spec, '$.name', ?) WHERE name = 'first'",
            (name, name),
        )
    (database.parent / "mine.txt").write_text("precious")
    before = files(database)
    result = run(database, command, name, argument)
    assert result.exit_code == 0, result.output
    assert "its checkpoints stay in" in result.output
    assert (files(database), (database.parent / "mine.txt").read_text()) == (before, "precious")
    with Store.open(database, read_only=True) as store:
        studies = {each.name for each in store.studies()}
    assert studies == ({"mine", "other"} if command == "rename" else {"other"})


@pytest.mark.parametrize("step", ["rename_study", "_remove"])
def test_a_rename_that_is_cut_short_can_be_finished(database, step, monkeypatch):
    """Whether it ends before the record changes or before the old files go, nothing is lost."""

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store if step == "rename_study" else managing, step, cut)
        with Store.open(database) as store, pytest.raises(KeyboardInterrupt):
            managing.rename(store, "first", "mine")
    if step == "rename_study":
        assert files(database)[CHECKPOINT] == b"weights"
        assert run(database, "rename", "first", "mine").exit_code == 0
    assert checkpoints(database, "mine") == ["mine/abc/1.safetensors"]
    assert files(database)["mine/abc/1.safetensors"] == b"weights"


def test_files_are_copied_where_they_cannot_be_linked(database, monkeypatch):
    """Some file systems have no links."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(managing.os, "link", refuse)
    assert run(database, "rename", "first", "mine").exit_code == 0
    assert files(database) == {"mine/abc/1.safetensors": b"weights"}


def test_a_study_is_deleted_with_its_checkpoints(database):
    """The other study stays, and the record becomes smaller."""
    with Store.open(database) as store:
        for number in range(1, 200):
            store.add_trial("first", trial(number))
    before = database.stat().st_size
    result = run(database, "delete", "first", "--yes")
    assert result.exit_code == 0, result.output
    assert result.output == "deleted first: 200 trials and 7 B of checkpoints\n"
    assert files(database) == {}
    assert database.stat().st_size < before
    with Store.open(database, read_only=True) as store:
        assert [each.name for each in store.studies()] == ["other"]


def test_a_record_in_use_keeps_its_size(database):
    """A reader holds the file, which the command says. The study is deleted all the same."""
    reader = sqlite3.connect(database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM study").fetchone()
    result = run(database, "delete", "first", "--yes")
    reader.close()
    assert result.exit_code == 0, result.output
    assert "so its file keeps its size" in result.output
    with Store.open(database, read_only=True) as store:
        assert [each.name for each in store.studies()] == ["other"]


def test_nothing_is_deleted_without_an_answer(database):
    """A script needs `--yes`."""
    result = run(database, "delete", "first")
    assert result.exit_code == 2
    assert "needs --yes" in result.output
    assert checkpoints(database, "first") == [CHECKPOINT]


def test_nothing_is_deleted_with_a_closed_input(database):
    """As by `<&-` or a service without one; Python has no object for it then."""
    code = "from nas.cli import main; main()"
    words = ("study", "delete", "first", "--database", str(database))
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "needs --yes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("rename", "first", "mine"), ("delete", "first", "--yes")])
def test_a_driven_study_is_left_alone(database, arguments):
    """Both commands refuse while a search holds the study."""
    with Store.open(database) as store, store.claim("first"):
        result = run(database, *arguments)
    assert result.exit_code != 0
    assert "is being searched already" in result.output
    assert files(database) == {CHECKPOINT: b"weights"}
    assert checkpoints(database, "first") == [CHECKPOINT]


@pytest.mark.parametrize("arguments", [("rename", "lost", "mine"), ("delete", "lost", "--yes")])
def test_an_unknown_study_is_named(database, arguments):
    """The message lists the studies that there are."""
    result = run(database, *arguments)
    assert result.exit_code == 2
    assert "lost" in result.output
    assert "first, other" in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["study", "retry"],
        ["study", "archive", "first"],
        ["study", "copy", "first", "mine"],
        ["study", "rename", "first", "mine"],
        ["study", "delete", "first", "--yes"],
        ["replicate", "--front"],
        ["train", "--front"],
    ],
    ids=" ".join,
)
def test_a_mistyped_record_is_not_made(tmp_path, command):
    """Commands that change a record name the missing one, and leave no empty one behind."""
    lost = tmp_path / "lost.db"
    result = CliRunner().invoke(main, [*command, "--database", str(lost)])
    assert result.exit_code == 2
    assert f"there is no record at {lost}" in result.output
    assert not lost.exists()


def test_an_archived_study_is_hidden_from_lists_and_back(database):
    """Its name still works, and a command without a name means the other study."""

    def shown(*words):
        result = CliRunner().invoke(main, [*words, "--database", str(database)])
        assert result.exit_code == 0, result.output
        return result.output

    assert "first is hidden" in run(database, "archive", "first").output
    assert "first" not in shown("status")
    listed = shown("study", "list")
    assert "first" not in listed
    assert "1 archived: nas study list --all" in listed
    assert "first (archived)" in shown("study", "list", "--all")
    assert shown("status", "first").startswith("first:")
    run(database, "archive", "other")
    assert "all studies are archived, name one of: first, other" in run(database, "retry").output
    run(database, "archive", "other", "--back")
    assert run(database, "retry").output == "no trial has failed\n"
    assert "first is in lists again" in run(database, "archive", "first", "--back").output
    assert "first" in shown("study", "list")
    assert "lost" in run(database, "archive", "lost").output
