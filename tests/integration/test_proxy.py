"""`nas bench truth` and `nas bench proxy` on the digits: real trainings that resume."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from output_schemas import differences

from nas.bench.brief import BriefTrainings
from nas.bench.json_lines import read_lines
from nas.cli import main
from nas.core.brief import BriefRecipe
from nas.core.errors import InvalidValueError
from nas.core.study import TrainingSpec
from nas.data import load
from nas.searching.study_file import read_study

STUDY = """
name: truth
space: osa_tiny
objectives: [{metric: error, reference: 100 %}]
rungs: [{epochs: 0.5}, {epochs: 1}]
training: {precision: fp32, batch_size: 16}
data: {dataset: digits, validation_images: 20, train_images: 64}
"""
PROXIES = """
short: {rungs: [{epochs: 0.5, image_size: 8}], judges: 15}
mean: {rungs: [{epochs: 0.5, image_size: 4}, {epochs: 1, image_size: 8}], average: 0.9, flips: true,
  one_cycle: false, common: true, train_images: 32}
"""


def nas(command, study, *options, code=0):
    """Return the output of a command of `nas bench` whose reference training has one step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.bench.brief.REFERENCE_STEPS", 1)
        arguments = ["bench", command, str(study / "study.yaml"), *map(str, options)]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


pytestmark = pytest.mark.slow
TRUTH = "--networks", 12, "--macs", 1.3, 1.8, "--seeds", 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A study of twelve networks, six of them set aside, whose truth was interrupted once."""
    study = tmp_path_factory.mktemp("finished")
    (study / "study.yaml").write_text(STUDY)
    (study / "proxies.yaml").write_text(PROXIES)
    nas("truth", study, *TRUTH, "--for", 1e-9)
    assert len(read_lines(study / "truth.jsonl")) == 1
    output = nas("proxy", study, "--for", 0, code=2)
    assert "1 of the networks have a long training; a comparison needs 5" in output
    nas("truth", study, *TRUTH)
    return study


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "study")


def test_all_networks_reach_a_rung_before_any_trains_to_the_next_one(study):
    """Networks for development come first. Validation and test images judge."""
    lines, networks = (read_lines(study / f"{name}.jsonl") for name in ("truth", "networks"))
    names = [network["network"] for network in networks]
    order = [*names[:6], *names[:6], *names[6:], *names[6:]]
    assert [line["network"] for line in lines] == order
    assert [line["epochs"] for line in lines] == ([0.5] * 6 + [1.0] * 6) * 2
    assert {line["judges"] for line in lines} == {20 + 360}
    assert [network["set_aside"] for network in networks] == [False] * 6 + [True] * 6


def test_a_truth_without_its_checkpoints_trains_again_to_the_same_error(study):
    """The training that lacks a line begins at its first rung."""
    path = study / "truth.jsonl"
    *kept, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(kept))
    shutil.rmtree(study / "checkpoints")
    nas("truth", study, *TRUTH)
    first, second = read_lines(path)[-2:]
    path.write_text(last)
    (before,) = read_lines(path)
    assert (first["epochs"], second["epochs"]) == (0.5, 1.0)
    same = ("network", "epochs", "error", "train_loss")
    assert [second[name] for name in same] == [before[name] for name in same]


def test_proxies_are_compared_on_the_networks_for_development(study):
    """A second call trains nothing. Another recipe of the same name is refused."""
    output = nas("proxy", study, "--seeds", 1)
    path = study / "proxies.jsonl"
    lines = read_lines(path)
    assert len(lines) == 6 * (1 + 2)
    assert [(line["image_size"], line["judges"], line["images"]) for line in lines[:3]] == [
        (8, 15, 32),
        (4, 20, 16),
        (8, 20, 16),
    ]
    assert "compared with 1 epochs of 6 networks" in output
    again = nas("proxy", study, "--seeds", 1)
    assert not differences("bench proxy", json.loads(nas("proxy", study, "--for", 0, "--json")))
    assert output.endswith(again)
    assert read_lines(path) == lines
    (study / "proxies.yaml").write_text("short: {rungs: [{epochs: 1}]}")
    assert "another recipe named 'short'" in nas("proxy", study, code=2)
    assert "no 'long' in" in nas("proxy", study, "--only", "long", code=2)


def test_a_recipe_whose_shifts_are_as_large_as_the_images_is_refused(tmp_path, monkeypatch):
    """No line is written."""
    (tmp_path / "study.yaml").write_text(STUDY)
    spec = read_study(tmp_path / "study.yaml")
    digits = load(spec.data)
    small = replace(digits, train=digits.train.reduced(8))
    monkeypatch.setattr("nas.bench.brief.load", lambda _: small)
    trainings = BriefTrainings(spec, tmp_path / "lines.jsonl", test=False)
    recipe = BriefRecipe(rungs=spec.rungs, training=TrainingSpec(translate=8))
    with pytest.raises(InvalidValueError, match="must be less than the 8 pixels of the images"):
        next(trainings.advance(None, "short", recipe, 0))
    assert not (tmp_path / "lines.jsonl").exists()
