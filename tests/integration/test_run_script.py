"""`./run` makes its environment: here a small project's, from wheels in a folder, with no index."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "osa-nas"
version = "0"
dependencies = ["torch"]
optional-dependencies = { dev = [] }
"""
BACKEND = """
import zipfile
from pathlib import Path

INFO = "osa_nas-0.dist-info"

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "osa_nas-0-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        wheel.writestr("nas.py", "")
        for file, text in FILES.items():
            wheel.writestr(f"{INFO}/{file}", text)
    return name

FILES = {
    "METADATA": "Metadata-Version: 2.1\\nName: osa-nas\\nVersion: 0\\nProvides-Extra: dev\\n"
    "Requires-Dist: torch\\n",
    "WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "RECORD": "",
}
"""
VERSION = "from importlib.metadata import version; print(version('torch'))"


def write_torch(folder: Path, version: str) -> None:
    """Write a wheel that is called torch and holds nothing."""
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def project(tmp_path):
    """Return a folder with a copy of `run`, a project and a folder of wheels."""
    shutil.copy(ROOT / "run", tmp_path)
    (tmp_path / "constraints.txt").write_text("torch==2.14.1\n")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "wheels").mkdir()
    write_torch(tmp_path / "wheels", "2.14.1")
    return tmp_path


def run(project, *, torch="", uv=None, settings=None):
    """Run `./run python` with this NAS_TORCH, and with no other uv than this on the path.

    `settings` are variables in place of those that let the installer look for wheels in the folder.
    """
    folders = [
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if not (Path(folder) / "uv").exists()
    ]
    prefix = "UV" if uv else "PIP"
    wheels = {f"{prefix}_NO_INDEX": "1", f"{prefix}_FIND_LINKS": str(project / "wheels")}
    installers = ("PIP_", "UV_")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(installers)},
        "NAS_TORCH": torch,
        "PATH": os.pathsep.join([*folders, *([str(Path(uv).parent)] if uv else [])]),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_CACHE_DIR": str(project / "cache"),
        **(wheels if settings is None else settings),
    }
    return subprocess.run(
        ["./run", "python", "-c", VERSION],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_a_cpu_build_is_installed_where_an_index_has_it(project, installer):
    """Without one the command fails with the reason, and goes on when there is one. The second call
    installs nothing.
    """
    uv = os.environ.get("NAS_TEST_UV") or shutil.which("uv")
    if installer == "uv" and uv is None:
        pytest.skip("there is no uv on the path, and NAS_TEST_UV names none")
    uv = uv if installer == "uv" else None
    failed = run(project, torch="cpu", uv=uv)
    assert failed.returncode != 0
    assert f"run: no index that {installer} knows has this CPU build of PyTorch" in failed.stderr
    write_torch(project / "wheels", "2.14.1+cpu")
    done = run(project, torch="cpu", uv=uv)
    assert (done.returncode, done.stdout) == (0, "2.14.1+cpu\n"), done.stderr
    assert "about 2 GB" in done.stderr
    again = run(project, torch="cpu", uv=uv)
    assert (again.stdout, again.stderr) == ("2.14.1+cpu\n", "")


@pytest.mark.slow
def test_the_usual_build_is_installed_without_asking(project):
    """An interrupted installation is made again."""
    done = run(project)
    assert (done.returncode, done.stdout) == (0, "2.14.1\n"), done.stderr
    (project / ".venv" / "made-of").unlink()
    assert "installing osa-nas[dev]" in run(project).stderr


def test_another_build_is_refused_before_anything_is_made(project):
    """One line names the value and what would be right."""
    refused = run(project, torch="rocm")
    assert refused.returncode != 0
    assert refused.stderr == "run: NAS_TORCH is cpu or not set, not 'rocm'\n"
    assert not (project / ".venv").exists()


def failing_uv(project):
    """Return a program that is called uv, says so, and fails."""
    uv = project / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\necho this is uv\nexit 1\n")
    uv.chmod(0o755)
    return uv


@pytest.mark.slow
@pytest.mark.parametrize("place", ["variables", "file"])
def test_pip_installs_if_only_its_settings_name_an_index(project, place):
    """A uv on the path, which reads none of them, is not used."""
    wheels = project / "wheels"
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    if place == "file":
        file = project / "pip.conf"
        file.write_text(f"[global]\nno-index = true\nfind-links = {wheels}\n")
        settings = {"PIP_CONFIG_FILE": str(file)}
    done = run(project, uv=failing_uv(project), settings=settings)
    assert (done.returncode, done.stdout) == (0, "2.14.1\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"PIP_NO_INDEX": "1", "UV_INDEX": "http://127.0.0.1:9"}])
def test_uv_installs_otherwise(project, settings):
    """It does so without any settings and with its own. A failure names it."""
    failed = run(project, uv=failing_uv(project), settings=settings)
    assert failed.returncode == 1
    assert "this is uv\n" in failed.stderr
    assert "run: the installation by uv failed, see .venv/install.log" in failed.stderr


@pytest.mark.slow
def test_settings_of_another_python_do_not_count(project):
    """Neither its libraries and packages, nor the places where it puts packages."""
    write_torch(project, "9")
    wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project / "wheels")}
    others = {
        "PYTHONHOME": str(project / "nowhere"),
        "PYTHONPATH": str(project / "torch-9-py3-none-any.whl"),
        "PIP_TARGET": str(project / "target"),
        "PIP_PREFIX": str(project / "prefix"),
        "PIP_USER": "1",
    }
    done = run(project, settings=wheels | others)
    assert (done.returncode, done.stdout) == (0, "2.14.1\n"), done.stderr
    assert not (project / "target").exists()


@pytest.mark.slow
def test_an_installation_into_another_place_is_not_taken_for_one(project):
    """The file of pip's settings can name one too. The next call tries again."""
    file = project / "pip.conf"
    file.write_text(
        f"[global]\nno-index = true\nfind-links = {project / 'wheels'}\n"
        f"[install]\ntarget = {project / 'target'}\n"
    )
    failed = run(project, settings={"PIP_CONFIG_FILE": str(file)})
    assert failed.returncode == 1
    assert "run: pip installed into another place than .venv" in failed.stderr
    assert not (project / ".venv" / "made-of").exists()
