"""The wheel as a stranger gets it: built from the packages alone, installed into a fresh
environment that borrows this one's dependencies but none of its sources.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from nas.core.plugins import GROUPS

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]
PACKAGES = ("nas", "search_spaces", "workers")
NO_SOURCES = shutil.ignore_patterns("__pycache__")

LOAD_ALL = """
import sys
from importlib.metadata import entry_points
from pathlib import Path

for group in sys.argv[1:]:
    for entry in sorted(entry_points(group=group)):
        entry.load()
        path = Path(sys.modules[entry.module].__file__)
        print(group, entry.name, path.is_relative_to(sys.prefix))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=NO_SOURCES)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        tree / "dist",
        cwd=tree,
    )
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh environment with the wheel in it. A path named in a .pth file is
    searched for modules, but the .pth files there, and so this environment's editable install, are
    not read.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_holds_every_file_of_the_packages(wheel: Path) -> None:
    """Types, migrations and templates too; and nothing but the packages and the metadata."""
    sources = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert inside == sources
    assert len(licences) == 1


def test_the_command_runs(bare: Path, tmp_path: Path) -> None:
    """`nas --help` speaks from the installed copy, in a folder that is not the repository."""
    assert "search" in run(bare / "bin/nas", "--help", cwd=tmp_path)


def test_every_plugin_loads(bare: Path, tmp_path: Path) -> None:
    """Each entry point of each group is found and comes from the wheel; no group is empty."""
    lines = run(bare / "bin/python", "-I", "-c", LOAD_ALL, *GROUPS, cwd=tmp_path).splitlines()
    assert {line.split()[0] for line in lines} == set(GROUPS)
    assert [line for line in lines if not line.endswith("True")] == []


def test_a_new_database_is_made(bare: Path, tmp_path: Path) -> None:
    """The migrations run from where the wheel put them."""
    code = (
        "from nas.record import Store\n"
        "with Store.open('new.db') as store:\n    print(store.studies())"
    )
    assert run(bare / "bin/python", "-I", "-c", code, cwd=tmp_path) == "[]\n"
    assert (tmp_path / "new.db").stat().st_size > 0
