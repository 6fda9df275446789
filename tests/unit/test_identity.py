"""The identity of a study: what counts as the same space and as the same code."""

import importlib
import sys
from dataclasses import replace

import pytest

from nas.core.errors import InvalidValueError, StudyConflictError
from nas.core.search_space import Choice
from nas.core.study import DataSpec, Objective, StudySpec
from nas.core.trial import Trial
from nas.searching.code_digests import code_digests
from nas.searching.identity import (
    identity_of,
    require_fitting_trials,
    require_same_files,
    require_same_parts,
)
from search_spaces import osa_tiny

SPACE = osa_tiny.SPACE
SPEC = StudySpec(name="first", space="osa_tiny", objectives=(Objective(metric="error"),))
MODULE = """
\"\"\"Some spaces.\"\"\"
import math
from os import path, sep

STARTUP = 10
UNUSED = 3


class Base:
    \"\"\"A sampler.\"\"\"

    def __init__(self, seed):
        self.startup = STARTUP  # trials


def make(seed):
    \"\"\"Make one.\"\"\"
    return Base(math.floor(seed))


TABLE = {}
TABLE["a"] = make
"""


@pytest.fixture
def digests(tmp_path, monkeypatch):
    """A function that gives the digests of an object in a module with this text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def digests_of(text, name="make", **others):
        for other, content in {"its_module": text, **others}.items():
            (tmp_path / f"{other}.py").write_text(content)
        return code_digests("nas.samplers", f"its_module:{name}", tmp_path)

    return digests_of


def test_code_is_digested_by_definition(digests):
    """An object consists of its own definition and of those that it uses."""
    assert set(digests(MODULE)) == {
        "its_module.make",
        "its_module.Base",
        "its_module.STARTUP",
        "its_module.math",
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# trials", "# of the first trials"),
        ("Make one.", "Make a sampler."),
        ('    """A sampler."""\n', ""),
        ("UNUSED = 3", "UNUSED = 4\nANOTHER = 5"),
        ("import path, sep", "import sep"),
        ("STARTUP = 10", "STARTUP  =  (\n    10\n)"),
        ("TABLE = {}", 'TABLE = {}\nif __name__ == "__main__":\n    print(make(3))'),
    ],
)
def test_edits_without_effect_change_no_digest(digests, old, new):
    """Comments, docstrings, formatting, other definitions, and code that runs only as a script."""
    assert old in MODULE
    assert digests(MODULE.replace(old, new)) == digests(MODULE)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("STARTUP = 10", "STARTUP = 11", {"its_module.STARTUP"}),
        ("STARTUP = 10", "STARTUP = 10\nSTARTUP += 1", {"its_module.STARTUP"}),
        ("floor", "ceil", {"its_module.make"}),
        ("import math", "import cmath as math", {"its_module.math"}),
        ("self.startup =", "self.start =", {"its_module.Base"}),
        ("TABLE = {}", "Base.startup = 4", {"its_module.Base"}),
    ],
)
def test_definitions_that_an_object_uses_are_part_of_it(digests, old, new, changed):
    """The names of the digests say which definition was changed."""
    before, now = digests(MODULE), digests(MODULE.replace(old, new))
    assert {name for name in {**before, **now} if before.get(name) != now.get(name)} == changed


def test_a_name_that_was_changed_in_place_has_all_its_statements(digests):
    """`TABLE["a"] = make` belongs to TABLE."""
    assert digests(MODULE, "TABLE") != digests(MODULE.replace('["a"]', '["b"]'), "TABLE")


@pytest.mark.parametrize(
    "text",
    [
        "from helper import scale\n\ndef make(seed): return scale(seed)\n",
        "from helper import *\n\ndef make(seed): return scale(seed)\n",
        "import helper\n\ndef make(seed): return helper.scale(seed)\n",
        "def make(seed):\n    from helper import scale\n    return scale(seed)\n",
    ],
)
def test_modules_of_the_studys_folder_are_followed(digests, text):
    """All ways of importing them are followed."""
    before = digests(text, helper="def scale(seed): return 2 * seed\n")
    now = digests(text, helper="def scale(seed): return 3 * seed\n")
    assert [name for name in before if before[name] != now[name]] in (["helper.scale"], ["helper"])


def test_relative_imports_are_followed(tmp_path):
    """Within a package of the study's folder."""
    package = tmp_path / "its_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .parts import make\n")
    (package / "parts.py").write_text("from . import numbers\n\ndef make(seed): return numbers.A\n")
    (package / "numbers.py").write_text("A = 1\n")
    assert set(code_digests("nas.samplers", "its_package:make", tmp_path)) == {
        "its_package.make",
        "its_package.parts.make",
        "its_package.parts.numbers",
        "its_package.numbers",
        "its_package.numbers.A",
    }


def test_modules_elsewhere_are_not_followed(tmp_path):
    """A new version of Optuna is no other sampler."""
    importlib.import_module("optuna.samplers")
    digests = code_digests("nas.samplers", "optuna.samplers:TPESampler", tmp_path)
    assert set(digests) == {"optuna.samplers.TPESampler"}


@pytest.mark.parametrize("name", ["tpe", "known-cost", "nas.sampling.samplers:tpe"])
def test_objects_of_this_package_are_identified_by_their_names(tmp_path, name):
    """A new version of it may resume the studies of older ones."""
    assert code_digests("nas.samplers", name, tmp_path) == {}


@pytest.mark.parametrize("name", ["math:floor", "sys:intern"])
def test_an_object_without_source_has_no_digests(tmp_path, name):
    """It is taken as it is. `sys` is part of every Python, `math` of some."""
    assert code_digests("nas.samplers", name, tmp_path) == {}


def recorded(tmp_path, space=SPACE, spec=SPEC):
    """The identity of a study on the space."""
    return identity_of(spec, space, tmp_path)


CHANGES = {
    "VALUE_ADDED": (
        {"num_layers": ((2,), (2, 3, 4), (2,))},
        "choice stage3.num_layers has the values 2, 3, 4, and had 2, 3",
    ),
    "VALUE_REMOVED": (
        {"num_layers": ((2,), (3, 4), (2,))},
        "choice stage3.num_layers has the values 3, 4, and had 2, 3",
    ),
    "FIXED_FREED": ({"stem_out": (8, 16)}, "choice stem_out is new, with the values 8, 16"),
    "FIXED_OTHER": (
        {"stem_out": (16,)},
        "the same params decode to another network: stem_channels.2 is 16, and was 8",
    ),
    "FREED_AND_FIXED": (
        {"mid_channels": ((8, 16), (8, 12), (8,)), "depthwise": (True,)},
        "choice depthwise is gone, which had the values false, true",
    ),
}
"""Changes of a space, and the words that name them in the error."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_space_is_refused_with_the_difference(tmp_path, name):
    """In one line."""
    fields, problem = CHANGES[name]
    with pytest.raises(StudyConflictError) as refused:
        require_same_parts("first", recorded(tmp_path), replace(SPACE, **fields), {})
    assert f"space: {problem}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_equal_space_is_taken(tmp_path):
    """It may be another object."""
    identity = recorded(tmp_path)
    require_same_parts("first", identity, replace(SPACE), identity["code"])


class Broken:
    """A space whose code fails."""

    choices = (Choice(name="a", values=(1, 2)),)

    def decode(self, params):
        """Fail in two lines."""
        raise KeyError(f"{params['a']}\nmore")


def test_a_space_that_fails_is_refused_in_one_line(tmp_path):
    """It is refused for a new study, and for a resumed one."""
    with pytest.raises(
        InvalidValueError, match=r'^the space cannot decode its own params \{"a": 1'
    ):
        identity_of(SPEC, Broken(), tmp_path)
    identity = {
        "space": {
            "choices": {"a": [1, 2]},
            "networks": [{"params": {"a": 1}, "digest": "0", "network": {}}],
        },
        "code": {},
    }
    with pytest.raises(StudyConflictError, match=r"cannot decode its own params .*: KeyError"):
        require_same_parts("first", identity, Broken(), {})


def trial(space, **params):
    """A trial of the space's smallest network with other params."""
    smallest = {choice.name: choice.values[0] for choice in space.choices}
    return Trial(
        number=0, params={**smallest, **params}, architecture=space.decode(smallest), seed=1
    )


def test_recorded_trials_of_the_space_are_taken():
    """Their params are values of its choices and decode to their networks."""
    require_fitting_trials("first", [trial(SPACE)], SPACE)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("VALUE_REMOVED", "trial 0 is not of it: stage3.num_layers is 2, and may be 3, 4"),
        ("FIXED_FREED", "trial 0 is not of it: only its params or only the choices have stem_out"),
        ("FIXED_OTHER", "trial 0 is not of it: stem_channels.2 is 16, and was 8"),
        ("FREED_AND_FIXED", "or only the choices have depthwise, stage2.mid_channels"),
    ],
)
def test_recorded_trials_of_another_space_are_refused(name, problem):
    """Older versions recorded trials but no identity. A value that was added is not found."""
    with pytest.raises(StudyConflictError) as refused:
        require_fitting_trials("first", [trial(SPACE)], replace(SPACE, **CHANGES[name][0]))
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_code_that_changed_is_refused_with_its_names(tmp_path):
    """Objects that had no source are not compared."""
    identity = recorded(tmp_path)
    identity["code"] = {"sampler": {"a.A": "1", "a.B": "2"}, "metric m": {}, "metric n": {"n": "1"}}
    with pytest.raises(StudyConflictError, match=r"now: sampler: other code of a\.B, a\.C; change"):
        require_same_parts(
            "first",
            identity,
            SPACE,
            {"sampler": {"a.A": "1", "a.C": "2"}, "metric m": {"m": "1"}, "metric n": {}},
        )


def test_files_that_changed_are_refused_with_their_classes():
    """A few of them, and how many more there are."""
    before = {"train/cat": "1", "train/dog": "2", "test/cat": "3"}
    with pytest.raises(StudyConflictError) as refused:
        require_same_files("first", before, {"train/cat": "1", "train/dog": "4", "train/cow": "5"})
    for problem in (
        "data.folder: test/cat is missing",
        "data.folder: train/cow is new",
        "data.folder: train/dog has other files",
    ):
        assert problem in str(refused.value)
    many = {f"train/{number}": "1" for number in range(9)}
    with pytest.raises(StudyConflictError, match="and 4 more; change them back"):
        require_same_files("first", many, dict.fromkeys(many, "2"))


def test_data_without_digests_is_not_compared():
    """Data sets that ship are checked when they are downloaded."""
    require_same_files("first", {}, {"train/cat": "1"})
    require_same_files("first", {"train/cat": "1"}, {})


def test_the_named_objects_of_a_study_are_identified(tmp_path, monkeypatch):
    """Sampler, data and metrics."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "its_parts.py").write_text("A = 1\nB = 2\nC = 3\n")
    spec = replace(
        SPEC,
        sampler="its_parts:A",
        objectives=(Objective(metric="its_parts:B"), Objective(metric="error")),
        data=DataSpec(dataset="its_parts:C"),
    )
    code = identity_of(spec, SPACE, tmp_path)["code"]
    assert {label: list(digests) for label, digests in code.items()} == {
        "sampler": ["its_parts.A"],
        **{f"evaluator {each}": [] for each in ("search", "certify", "replicate", "final")},
        "data.dataset": ["its_parts.C"],
        "metric its_parts:B": ["its_parts.B"],
    }
    assert "its_parts" not in sys.modules  # read, not run
