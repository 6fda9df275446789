"""No command writes its output over a file that is not an earlier output of the same kind."""

import os
import resource
import shutil
import sqlite3
import sys

import click
import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.record import Store

INPUTS = {
    "paper ablate model",
    "paper ablate --images",
    "bench search --table",
    "bench stopping --table",
    "paper connections models",
    "search study_file",
    "check study_file",
    "plan study",
    "study copy --study",
    "study import file",
    "train --recipe",
    "verify folder",
    "bench proxy study",
    "bench truth study",
    "detect compare --against",
    "detect compare --data",
    "detect compare folders",
    "detect evaluate --data",
    "detect evaluate folder",
    "detect export folder",
    "detect measure folder",
    "detect train --data",
    "device add --token-file",
}
"""Parameters that name files or folders which are only read."""
FOLDERS_OF_OTHERS = {
    "detect export --output",
    "detect train --output",
    "export --output",
    "search --artifacts",
}
"""Folders in which a command makes a folder of its own; each has a test of its own."""
FILES = {
    "search --events": ("search", "study.yaml", "--events", "{file}"),
    "search --report": ("search", "study.yaml", "--report", "{file}"),
    "report --output": ("report", "pages", "-o", "{file}"),
    "bench search --measure": ("bench", "search", "--made-up", "osa_tiny", "--measure", "{file}"),
    "bench search --results": ("bench", "search", "--made-up", "osa_tiny", "--results", "{file}"),
    "bench search --plot": ("bench", "search", "--made-up", "osa_tiny", "--plot", "{file}"),
    "bench stopping --keep": ("bench", "stopping", "pages", "--keep", "{file}"),
    "bench stopping --plot": ("bench", "stopping", "pages", "--plot", "{file}"),
    "study export-optuna target": ("study", "export-optuna", "pages", "{file}"),
    "db copy target": ("db", "copy", "nas.db", "{file}"),
    "detect evaluate --output": ("detect", "evaluate", ".", "--data", ".", "-o", "{file}"),
    "device agent --output": ("device", "agent", "-o", "{file}"),
}
"""Commands by the parameter that names an output file."""
FOLDERS = {
    "report --png": (("report", "pages", "--png", "{folder}"), "hypervolume.png"),
    "paper connections --output": (
        ("paper", "connections", "net.pth", "-o", "{folder}"),
        "net.csv",
    ),
    "paper peers --output": (
        ("paper", "peers", "densenet-40", "--rounds", "0", "-o", "{folder}"),
        "peers.csv",
    ),
}
"""Commands by the parameter that names an output folder, with a file that they write there."""
FILE_METAVARS = {"URL", "DST", "FILE"}
"""Words in the place of a file that click takes as text."""
VICTIMS = (
    "nas.db",
    "nas.db-wal",
    "nas.db-shm",
    "nas.db-journal",
    "symbolic link",
    "hard link",
    "link to wal",
    "study.yaml",
    "page.html",
    "drawing.svg",
    "table.csv",
    "link to itself",
)


def parameters(group, words=()):
    """Every parameter of every command that names a file or folder, as words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from parameters(command, (*words, name))
            continue
        for parameter in command.params:
            if isinstance(parameter.type, click.Path) or parameter.metavar in FILE_METAVARS:
                shown = (
                    parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.name
                )
                if shown != "--database":
                    yield " ".join((*words, name, shown))


@pytest.fixture
def folder(record, tmp_path, monkeypatch):
    """A folder with a record that is open, and other files of the user's; it is the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(record, tmp_path / "nas.db")
    (tmp_path / "study.yaml").write_text("name: s\nspace: osa_tiny\nobjectives: [{metric: macs}]\n")
    (tmp_path / "page.html").write_text("<html><head></head><body>mine</body></html>\n")
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'></svg>\n")
    (tmp_path / "table.csv").write_text("trial,error\n1,0.5\n")
    (tmp_path / "symbolic link").symlink_to(tmp_path / "nas.db")
    os.link(tmp_path / "nas.db", tmp_path / "hard link")
    (tmp_path / "link to wal").symlink_to(tmp_path / "nas.db-wal")
    (tmp_path / "link to itself").symlink_to("link to itself")
    with Store.open(tmp_path / "nas.db"):
        yield tmp_path


def contents(folder):
    """All files with their bytes, without empty ones and those that reading changes."""
    return {
        path.name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size and not path.name.endswith(("-shm", ".lock"))
    }


def refused(arguments, folder):
    """Run a command that must leave all files as they are. Return the one line of its error."""
    before = contents(folder)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    lines = [line for line in done.output.splitlines() if line]
    assert len(lines) == 1, done.output
    assert lines[0].startswith("error: "), done.output
    assert contents(folder) == before
    return lines[0]


def test_every_parameter_that_names_a_file_is_known_here():
    """A new one joins the inputs or gets the tests of an output."""
    assert set(parameters(main)) == INPUTS | FOLDERS_OF_OTHERS | set(FILES) | set(FOLDERS)


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("parameter", FILES)
def test_an_output_file_replaces_nothing_else(folder, parameter, victim):
    """The record, the files that SQLite keeps beside it, links to them, and files of the user's."""
    refused([word.format(file=victim) for word in FILES[parameter]], folder)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["symbolic link", "study.yaml", "table.csv"])
@pytest.mark.parametrize("parameter", FOLDERS)
def test_a_file_in_an_output_folder_replaces_nothing_else(folder, parameter, victim):
    """None of the command's files is written if one of them may not be."""
    words, name = FOLDERS[parameter]
    (folder / "out").mkdir()
    shutil.copy(folder / victim, folder / "out" / name, follow_symlinks=False)
    refused([word.format(folder="out") for word in words], folder)


@pytest.mark.slow
def test_an_earlier_output_is_replaced(folder):
    """By the same command, with what it writes now."""
    for words, files in (
        (("report", "pages", "-o", "r.html"), ["r.html"]),
        (("device", "agent", "-o", "a.pyz"), ["a.pyz"]),
        (("report", "pages", "--png", "out"), ["out/hypervolume.png"]),
        (("bench", "stopping", "pages", "--keep", "c.csv", "--plot", "c.svg"), ["c.csv", "c.svg"]),
        (("peers", "densenet-40", "--rounds", "0", "-o", "out"), ["out/peers.csv"]),
    ):
        for _ in range(2):
            done = CliRunner().invoke(main, words)
            assert done.exit_code == 0, done.output
        assert all((folder / file).stat().st_size > 100 for file in files)


@pytest.mark.slow
def test_a_full_disk_leaves_the_earlier_output(folder):
    """A limit on the size of files stands for the disk."""
    words = ("report", "pages", "-o", "new.html")
    earlier = CliRunner().invoke(main, words)
    assert earlier.exit_code == 0, earlier.output
    before, names = (
        (folder / "new.html").read_bytes(),
        sorted(each.name for each in folder.iterdir()),
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        again = CliRunner().invoke(main, words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert again.exit_code == 2, again.output
    assert "new.html cannot be written" in again.output
    assert (folder / "new.html").read_bytes() == before
    assert sorted(each.name for each in folder.iterdir()) == names


def test_an_output_of_another_command_is_not_replaced(folder):
    """A page of `nas peers` is no report."""
    assert (
        CliRunner().invoke(main, ["peers", "vovnet-39", "--rounds", "0", "-o", "out"]).exit_code
        == 0
    )
    refused(["report", "pages", "-o", "out/peers.html"], folder)


def test_two_outputs_of_one_command_need_two_files(folder):
    """Else the second would replace the first."""
    refused(["bench", "stopping", "pages", "--keep", "x", "--plot", "./x"], folder)


def test_an_exported_network_needs_a_new_folder(folder):
    """A folder that holds anything, and a file, are refused."""
    (folder / "full").mkdir()
    shutil.copy(folder / "study.yaml", folder / "full")
    for output in ("full", "nas.db", "study.yaml"):
        refused(["export", "pages", "--knee", "-o", output], folder)


def test_a_database_of_another_program_stays_as_it_is(tmp_path, monkeypatch):
    """Whatever command opens it as its record, not a byte of it changes."""
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("other.db") as connection:
        connection.execute("CREATE TABLE bookmark (address TEXT)")
    connection.close()
    for words in (
        ("retry", "s"),
        ("replicate", "s", "--front"),
        ("train", "s", "--front"),
        ("bench", "engine", "--trials", "1"),
        ("status",),
    ):
        refused([*words, "--database", "other.db"], tmp_path)
    refused(["db", "copy", "other.db", "new.db"], tmp_path)


def test_events_and_page_of_one_search_need_two_files(folder):
    """Else the page could not be written at the end of the search."""
    refused(["search", "study.yaml", "--events", "x", "--report", "./x"], folder)


@pytest.mark.parametrize("parameter", [name for name in FILES if name != "search --events"])
def test_a_dash_is_no_file(folder, parameter):
    """Only events go to standard output. Other commands would write a file of this name."""
    refused([word.format(file="-") for word in FILES[parameter]], folder)
    assert not (folder / "-").exists()


@pytest.mark.parametrize("parameter", FOLDERS)
def test_a_dash_is_no_folder(folder, parameter):
    words, _ = FOLDERS[parameter]
    refused([word.format(folder="-") for word in words], folder)
    assert not (folder / "-").exists()


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("plotly", ("search", "study.yaml", "--report", "new.html")),
        ("jinja2", ("search", "study.yaml", "--report", "new.html")),
        ("jinja2", ("detect", "evaluate", ".", "--data", ".", "-o", "new.html")),
        ("matplotlib", ("bench", "stopping", "pages", "--plot", "new.svg")),
    ],
)
def test_a_package_that_an_output_needs_is_missed_before_the_work(
    folder, monkeypatch, package, words
):
    """The line says how to install it."""
    monkeypatch.setitem(sys.modules, package, None)
    line = refused(words, folder)
    assert line == f"error: this needs the package {package!r}: pip install 'osa-nas[report]'"


def test_a_database_that_is_cut_short_is_left_alone(folder):
    """It could be anything."""
    (folder / "cut.db").write_bytes((folder / "nas.db").read_bytes()[:3000])
    refused(["study", "export-optuna", "pages", "cut.db"], folder)
