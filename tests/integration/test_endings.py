"""How commands end: at Ctrl-C, with a full disk, a closed pipe, or a terminal without Unicode."""

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.record import Store

STUDY = "name: s\nspace: osa_tiny\nobjectives: [{metric: macs}]\nbudget: {trials: 2}\n"
COMMAND = [
    sys.executable,
    "-c",
    (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from nas.cli import main; main()"
    ),
]
"""Ends at Ctrl-C also if the shell that runs the tests ignores it for its children."""


def run(*words, folder, **options):
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, check=False, timeout=120, stderr=subprocess.PIPE, **options
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a searched study of counted objectives."""
    folder = tmp_path_factory.mktemp("endings")
    (folder / "study.yaml").write_text(STUDY)
    assert run("search", "study.yaml", folder=folder, stdout=subprocess.DEVNULL).returncode == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "words",
    [("status",), ("status", "s"), ("front", "s"), ("show", "s:0"), ("search", "study.yaml")],
    ids=" ".join,
)
def test_characters_that_the_terminal_lacks_are_replaced(folder, encoding, words):
    """The output is the same in any encoding, but for these characters."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = run(*words, folder=folder, stdout=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout
    done.stdout.decode(encoding)


@pytest.mark.slow
def test_a_unit_stays_readable_in_ascii(folder):
    """An ellipsis becomes three points, µ becomes u."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run("search", "study.yaml", folder=folder, stdout=subprocess.PIPE, env=environment)
    assert b"the search ends after 2 networks (budget in the study file)" in done.stdout
    assert b"preparing: data, device, number formats ..." in done.stdout
    code = "import codecs, nas.cli; print(codecs.encode('5 µs ñ', 'ascii', '_plain').decode())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert done.stdout == b"5 us ?\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("--help",), ("status",), ("front", "s"), ("front", "s", "--format", "csv"), ("show", "s:0")],
    ids=" ".join,
)
def test_a_full_disk_is_one_line(folder, words):
    """The exit code is 2, since the output is not complete."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - it is no file of ours
        done = run(*words, folder=folder, stdout=full)
    assert done.stderr.decode() == (
        "error: the output cannot be written: No space left on device\n"
    )
    assert done.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("--help",), ("front", "s"), ("front", "s", "--format", "csv")], ids=" ".join
)
def test_a_closed_pipe_ends_quietly(folder, words):
    """The exit code is that of a program that SIGPIPE ends, as a shell reports it."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = run(*words, folder=folder, stdout=pipe)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    "delay_s",
    [0.5, *(pytest.param(delay_s, marks=pytest.mark.long) for delay_s in (0.3, 1.0, 1.5))],
)
@pytest.mark.parametrize("words", [("search", "endless.yaml"), ("doctor",)], ids=" ".join)
def test_ctrl_c_gives_130_at_any_time(folder, words, delay_s):
    """Also while modules are imported. Before the first of ours the signal itself ends Python."""
    endless = STUDY.replace("trials: 2", "trials: 100000").replace("name: s", f"name: e{delay_s}")
    (folder / "endless.yaml").write_text(endless)
    with subprocess.Popen(
        [*COMMAND, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    if words == ("doctor",) and process.returncode == 0:
        pytest.skip("it had ended")
    if process.returncode == -signal.SIGINT:
        return
    assert process.returncode == 130
    assert b"Traceback" not in errors


@pytest.mark.slow
def test_ctrl_c_ends_the_pages_with_130(folder):
    """The first line has the address with the port that was free. The server ends the pages in
    order, and the command still reports the interrupt.
    """
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            address = process.stdout.readline().decode().split()[0]
            with urlopen(address, timeout=60) as page:  # noqa: S310 - it is http://127.0.0.1
                assert b"Studies" in page.read()
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "Address already in use"),
        ("192.0.2.1", "Cannot assign requested address"),
        ("no..host", ""),
    ],
)
def test_an_address_that_cannot_be_opened_is_one_line(tmp_path, host, reason):
    """The command does not say that the page is there. 192.0.2.1 is no machine's address."""
    pytest.importorskip("uvicorn")
    Store.open(tmp_path / "nas.db").close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ("serve", "--host", host, "--port", port, "--database", str(tmp_path / "nas.db"))
        done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    (line,) = done.output.splitlines()
    assert line.startswith(f"error: port {port} of {host} cannot be opened: {reason}")


def test_a_module_that_fails_because_of_ctrl_c_is_no_error_of_its_own(monkeypatch):
    """Modules in C turn an interrupted import into `ImportError`."""

    def interrupted_import():
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("nas.measuring.doctor.findings", interrupted_import)
    done = CliRunner().invoke(main, ["doctor"])
    assert (done.exit_code, done.output) == (130, "stopped\n")


def test_an_error_of_a_module_that_ctrl_c_interrupted_is_an_interrupt():
    """Modules in C raise errors of their own, without the interrupt as their cause."""
    code = (
        "import os, signal, click\n"
        "from nas.cli import main\n"
        "@main.command()\n"
        "def spoiled():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        import time; time.sleep(5)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        "    raise ImportError('module spoiled')\n"
        "main.table['spoiled'] = ('nas.cli', 'for this test')\n"
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main(['spoiled'])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (130, "stopped\n")
