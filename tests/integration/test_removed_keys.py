"""Records of studies with a key that was removed can be read, but their search is not resumed."""

import json
import sqlite3

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core import plugins
from nas.record import Store
from nas.searching.launch import open_search
from nas.searching.study_file import read_study

STUDY = """
name: old
space: osa_tiny
objectives: [{metric: error}, {metric: macs}]
budget: {trials: 8}
"""


@pytest.fixture
def nas(tmp_path, monkeypatch):
    """Run `nas ARGS` in a folder with a finished study whose record has `scores: [naswot]`, and the
    rank rule with its former default, none.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            read_study(tmp_path / "study.yaml"),
            store=store,
            workers=plugins.load("nas.workers", "local")(),
            folder=tmp_path,
            artifacts=tmp_path,
            evaluator="nas.testing.evaluators:ArithmeticEvaluator",
        ) as search,
    ):
        search.run()
    with sqlite3.connect(tmp_path / "nas.db") as connection:
        [(spec,)] = connection.execute("SELECT spec FROM study")
        rules = {"keep": None, "min_trials": 4, "futility": False}
        spec = json.dumps(json.loads(spec) | {"scores": ["naswot"], "stopping": rules})
        connection.execute("UPDATE study SET spec = ?", [spec])
    connection.close()
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("show", "old:0"),
        ("front", "old"),
        ("export-optuna", "old", "sqlite:///optuna.db"),
        ("report", "old", "-o", "report.html"),
        ("db", "check"),
        ("db", "copy", "nas.db", "copy.db"),
    ],
)
def test_a_record_with_a_removed_key_can_be_read(nas, arguments):
    outcome = nas(*arguments)
    assert outcome.exit_code == 0, outcome.output


def test_a_search_with_a_removed_key_is_not_resumed(nas, tmp_path):
    """Neither with the key in the study file nor without it."""
    without_key = nas("search", "study.yaml")
    assert without_key.exit_code == 2
    assert "was searched with the key 'scores', which was removed" in without_key.output
    (tmp_path / "study.yaml").write_text(STUDY + "scores: [naswot]\n")
    with_key = nas("search", "study.yaml")
    assert with_key.exit_code == 2
    assert "scores: this key was removed" in with_key.output


@pytest.mark.parametrize(
    "recorded",
    [
        {"stopping": {"keep": 0.5, "min_trials": 4, "futility": False}},
        {"rungs": {"epochs": [1.0], "keep": 0.5, "min_trials": 4, "futility": False}},
    ],
)
def test_a_search_with_the_rank_rule_is_not_resumed(nas, tmp_path, recorded):
    """In either form of a recorded study. In the study file each removed key has its own line."""
    with sqlite3.connect(tmp_path / "nas.db") as connection:
        [(text,)] = connection.execute("SELECT spec FROM study")
        spec = json.loads(text) | recorded
        del spec["scores"]
        connection.execute("UPDATE study SET spec = ?", [json.dumps(spec)])
    connection.close()
    assert nas("status").exit_code == 0
    without_key = nas("search", "study.yaml")
    assert without_key.exit_code == 2
    assert "was searched with the key 'stopping.keep', which was removed" in without_key.output
    for key in ("stopping: {keep: 0.5, min_trials: 4}", "rungs: {keep: 0.5, min_trials: 4}"):
        (tmp_path / "study.yaml").write_text(STUDY + key + "\n")
        with_key = nas("search", "study.yaml")
        assert with_key.exit_code == 2
        assert ".keep: this key was removed" in with_key.output
        assert ".min_trials: this key was removed" in with_key.output


def test_the_former_default_of_the_rank_rule_resumes(nas, tmp_path):
    """Its record has the keys, but the rule stopped no trial."""
    with sqlite3.connect(tmp_path / "nas.db") as connection:
        [(text,)] = connection.execute("SELECT spec FROM study")
        spec = json.loads(text)
        del spec["scores"]
        connection.execute("UPDATE study SET spec = ?", [json.dumps(spec)])
    connection.close()
    outcome = nas("search", "study.yaml")
    assert "removed" not in outcome.output
