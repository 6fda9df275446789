"""Entry points: read once for an import path, and again when a package was installed meanwhile."""

import importlib.metadata

import pytest

from nas.core import plugins
from nas.core.errors import UnknownNameError


@pytest.fixture
def read(monkeypatch):
    """Count how often the metadata of packages is read."""
    calls = []
    real = importlib.metadata.entry_points

    def counted(**query):
        calls.append(query)
        return real(**query)

    monkeypatch.setattr(plugins, "entry_points", counted)
    plugins._registered.cache_clear()
    yield calls
    plugins._registered.cache_clear()


def install(folder, name):
    """Make the metadata of a package with a space of this name."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[nas.spaces]\n{name} = search_spaces.osa_tiny:SPACE\n"
    )


def test_a_second_look_reads_nothing(read):
    """A search looks its metrics up at every event of a trial."""
    first = plugins.load("nas.spaces", "osa_tiny")
    before = len(read)
    assert before
    assert plugins.load("nas.spaces", "osa_tiny") is first
    assert "osa_cifar" in plugins.names("nas.spaces")
    assert len(read) == before


def test_a_folder_that_joins_the_import_path_brings_its_plugins(read, tmp_path, monkeypatch):
    """They are gone when it leaves."""
    assert plugins.entry_point("nas.spaces", "late_one") is None
    install(tmp_path, "late_one")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        assert plugins.load("nas.spaces", "late_one") is plugins.load("nas.spaces", "osa_tiny")
        assert "late_one" in plugins.names("nas.spaces")
    assert "late_one" not in plugins.names("nas.spaces")
    assert read


def test_a_module_that_ends_the_program_is_refused(tmp_path, monkeypatch):
    """As a training script does that reads its options wherever it is imported."""
    (tmp_path / "train_at_import.py").write_text("import sys\nsys.exit(2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownNameError, match="SystemExit: 2, when it is imported"):
        plugins.load("nas.spaces", "train_at_import:SPACE")


def test_a_package_installed_during_the_process_is_found(tmp_path, monkeypatch):
    """As in a notebook. A name that is nowhere is told with those that are."""
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownNameError, match="osa_tiny"):
        plugins.load("nas.spaces", "late_two")
    install(tmp_path, "late_two")
    importlib.invalidate_caches()
    assert plugins.load("nas.spaces", "late_two").cardinality
