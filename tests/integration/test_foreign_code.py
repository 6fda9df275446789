"""Code of a study's own parts that raises outside a trial is one line that names the part."""

import sys

import pytest
from click.testing import CliRunner

from nas.cli import main

MODULE = "broken_parts"
CODE = """
from dataclasses import fields, replace

from nas.measuring.metrics.measured import LATENCY
from nas.searching.evaluators import EvaluatorPlugin
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.testing.evaluators import ArithmeticEvaluator
from search_spaces import osa_tiny


def fail(*args):
    raise KeyError("colour")


class Forgetful(type(osa_tiny.SPACE)):
    calls = 0

    def decode(self, params):
        type(self).calls += 1
        if self.calls > 20:
            fail()
        return super().decode(params)


SPACE = Forgetful(**{f.name: getattr(osa_tiny.SPACE, f.name) for f in fields(osa_tiny.SPACE)})
OBSTACLE = replace(LATENCY, name="shade", obstacle=fail)
MEASURE = replace(LATENCY, name="shade", measure=fail, on_runtime=False)


class Data:
    prepare = load = fail


DATA = Data()


class Unprepared(Evaluator):
    prepare = fail


class Unbuilt(ArithmeticEvaluator):
    __init__ = fail


def plugin(name):
    name = f"{__name__}:{name}"
    return EvaluatorPlugin(search=name, certify=name, replicate=name, final=name)


UNPREPARED, UNBUILT = plugin("Unprepared"), plugin("Unbuilt")
UNBROKEN = replace(UNBUILT, search="nas.testing.evaluators:ArithmeticEvaluator")
"""
STUDY = """
name: own
space: {space}
evaluator: {evaluator}
sampler: random
objectives: [{{metric: error, reference: 1.0}}, {{metric: {metric}, reference: 4.0e+6}}]
data: {{dataset: {dataset}, validation_images: 100}}
rungs: [{{epochs: 1}}]
budget: {{trials: 50, fresh: 0, certify: false}}
"""
PARTS = {
    "space": "osa_tiny",
    "evaluator": "classification",
    "metric": "macs",
    "dataset": "digits",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command on a study with some parts of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / f"{MODULE}.py").write_text(CODE)

    def run(command, **parts):
        own = {key: f"{MODULE}:{name}" for key, name in parts.items()}
        (tmp_path / "study.yaml").write_text(STUDY.format(**PARTS | own))
        return CliRunner().invoke(main, [command, "study.yaml"])

    yield run
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize("command", ["search", "check"])
@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({"metric": "OBSTACLE"}, f"the obstacle of metric '{MODULE}:OBSTACLE' fails"),
        ({"dataset": "DATA"}, f"data set '{MODULE}:DATA' cannot be read"),
        ({"evaluator": "UNPREPARED"}, f"{MODULE}:Unprepared.prepare fails"),
    ],
)
def test_an_error_of_a_part_is_one_line(run, command, parts, line):
    """With the part and the error, before anything is written."""
    done = run(command, **parts)
    assert done.exit_code == 2, done.output
    assert done.stderr == f"error: {line}: KeyError: 'colour'\n"


def test_params_that_the_space_cannot_decode_end_the_search(run):
    """The line has the params."""
    done = run("search", space="SPACE", evaluator="UNBROKEN")
    assert done.exit_code == 2, done.output
    assert "error: the space cannot decode its own params {" in done.stderr
    assert done.stderr.endswith("}: KeyError: 'colour'\n")


def test_an_evaluator_that_cannot_be_built_ends_the_search(run):
    done = run("search", evaluator="UNBUILT")
    assert done.exit_code == 2, done.output
    assert f"error: {MODULE}:Unbuilt cannot be built: KeyError: 'colour'\n" in done.stderr


def test_a_metric_that_raises_is_a_failure_of_each_network_in_a_check(run):
    """As it fails each trial of a search."""
    done = run("check", metric="MEASURE", evaluator="UNBROKEN")
    assert done.exit_code == 0, done.output
    assert "KeyError: 'colour'" in done.output
