"""Former names of modules stay valid."""

import importlib

import pytest

from nas.core import plugins
from nas.core.errors import UnknownNameError
from nas.core.moved import MOVED, current_name, equivalent_names, import_attribute
from nas.measuring.metrics.counted import MACS
from nas.paper.cifar_osa import osa_5_43


@pytest.mark.parametrize(("former", "present"), MOVED.items())
def test_every_module_is_where_the_table_says(former, present):
    """The present name can be imported, and the former one cannot."""
    importlib.import_module(present)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(former)


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("nas.metrics.counted:MACS", "nas.measuring.metrics.counted:MACS"),
        ("nas.search_space:OsaSpace", "nas.core.search_space:OsaSpace"),
        ("nas.study", "nas.core.study"),
        ("nas.studying:X", "nas.studying:X"),
        ("nas.model.densenet:densenet40", "nas.model.densenet:densenet40"),
        ("space:SPACE", "space:SPACE"),
    ],
)
def test_the_present_name(former, present):
    """Modules, their parts and their attributes; names that only begin alike are left."""
    assert current_name(former) == present
    assert current_name(present) == present


def test_equivalent_names():
    """The present name first, whichever was given."""
    names = ("nas.paper.cifar_osa:osa_5_43", "nas.model.cifar_osa:osa_5_43")
    assert equivalent_names(names[0]) == names
    assert equivalent_names(names[1]) == names
    assert equivalent_names("vovnet39") == ("vovnet39",)


def test_attributes_are_found_by_both_names():
    """As recorded networks and plugins in study files are."""
    assert import_attribute("nas.model.cifar_osa:osa_5_43") is osa_5_43
    assert import_attribute("nas.paper.cifar_osa:osa_5_43") is osa_5_43
    assert plugins.load("nas.metrics", "nas.metrics.counted:MACS") is MACS


def test_code_that_imports_a_former_name_learns_the_present_one(tmp_path, monkeypatch):
    """A study's own space from before; a module that never existed has no advice."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "former_space.py").write_text("from nas.search_space import OsaSpace\n")
    (tmp_path / "other_space.py").write_text("import nas.nonesuch\n")
    with pytest.raises(UnknownNameError) as error:
        plugins.load("nas.spaces", "former_space:SPACE")
    assert "No module named 'nas.search_space', which is now nas.core.search_space" in str(
        error.value
    )
    with pytest.raises(UnknownNameError, match=r"No module named 'nas.nonesuch'\)"):
        plugins.load("nas.spaces", "other_space:SPACE")
