"""Commands find the code of a recorded study from every folder."""

import shutil
import sys

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.record import Store
from nas.searching.run import SearchObserver, run_study

MODULE = "parts_of_this_study"
CODE = """
from nas.searching.evaluators import EvaluatorPlugin
from nas.testing.evaluators import ArithmeticEvaluator
from search_spaces import osa_tiny

SPACE = osa_tiny.SPACE


class Evaluator(ArithmeticEvaluator):
    pass


PLUGIN = EvaluatorPlugin(
    search=f"{__name__}:Evaluator", certify="", replicate=f"{__name__}:Evaluator", final=""
)
"""
STUDY = f"""
name: own
space: {MODULE}:SPACE
evaluator: {MODULE}:PLUGIN
sampler: random
objectives: [{{metric: error, reference: 1.0}}, {{metric: macs, reference: 4.0e+6}}]
rungs: [{{epochs: 1}}]
budget: {{trials: 3, fresh: 0}}
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Search a study that brings its code, and return its folder. Its modules are forgotten."""
    folder = tmp_path_factory.mktemp("own")
    (folder / f"{MODULE}.py").write_text(CODE)
    (folder / "study.yaml").write_text(STUDY)
    path = list(sys.path)
    run_study(folder / "study.yaml", str(folder / "nas.db"), observer=SearchObserver())
    sys.path[:] = path
    return folder


@pytest.fixture
def elsewhere(searched, tmp_path, monkeypatch):
    """Work in another folder with a copy of the record."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    shutil.copy(searched / "nas.db", "nas.db")
    yield tmp_path
    sys.modules.pop(MODULE, None)


def nas(*words):
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize(
    "command",
    [
        ("study", "copy", "own", "second"),
        ("study", "export-optuna", "own", "optuna.db"),
        ("study", "import", "own", "front.json"),
        ("study", "remeasure", "own"),
        ("replicate", "own", "--front", "--seeds", "1"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_command_elsewhere_finds_the_code_of_the_study(elsewhere, command):
    """By the folder of the study file, which the record has."""
    (elsewhere / "front.json").write_text(nas("front", "own", "--format", "json").stdout)
    done = nas(*command)
    assert done.exit_code == 0, done.output


def test_code_that_is_gone_is_named(elsewhere):
    """With the place where it is looked for."""
    with Store.open("nas.db") as store:
        gone = {**store.study("own").identity, "folder": str(elsewhere / "gone")}
        store.set_identity("own", gone)
    done = nas("study", "export-optuna", "own", "optuna.db")
    assert done.exit_code == 2
    assert f"'{MODULE}'" in done.output
    assert "neither installed nor in the folder of the study file" in done.output


def test_a_study_that_was_moved_is_found_in_the_current_folder(elsewhere, searched):
    """If the folder that the record has is gone."""
    with Store.open("nas.db") as store:
        gone = {**store.study("own").identity, "folder": str(elsewhere / "gone")}
        store.set_identity("own", gone)
    shutil.copy(searched / f"{MODULE}.py", elsewhere)
    done = nas("study", "export-optuna", "own", "optuna.db")
    assert done.exit_code == 0, done.output
