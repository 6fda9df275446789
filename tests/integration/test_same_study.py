"""A study is resumed only with the space, sampler, metrics and images that it was begun with."""

import shutil
import sqlite3
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from nas.cli import main

STUDY = """
name: mine
space: my_parts:SPACE
sampler: my_parts:make
objectives:
  - {metric: error, reference: 100 %}
  - {metric: "my_parts:WIDTH", reference: 1000}
rungs: {epochs: [1]}
data: {dataset: folder, folder: pictures, image_size: 32, validation_images: 4}
training: {precision: fp32, channels_last: false, batch_size: 4, translate: 0}
budget: {trials: 1, fresh: 0}
"""
PARTS = """
from dataclasses import replace

from nas.core.measurement import Measurement
from nas.measuring.metrics.counted import PARAMETERS
from optuna.samplers import RandomSampler
from search_spaces import osa_tiny

from my_scale import SCALE

SPACE = replace(osa_tiny.SPACE)


def make(seed):
    return RandomSampler(seed=seed)


def width(subject):
    value = SCALE * subject.architecture.stages[1].mid_channels
    return Measurement.counted("my_parts:WIDTH", "1", value)


WIDTH = replace(PARAMETERS, name="my_parts:WIDTH", measure=width)
"""
EDITS = {
    "value added": (
        ("SPACE)", "SPACE, num_layers=((2,), (2, 3, 4), (2,)))"),
        "space: choice stage3.num_layers has the values 2, 3, 4, and had 2, 3",
    ),
    "value removed": (
        ("SPACE)", "SPACE, num_layers=((2,), (3, 4), (2,)))"),
        "space: choice stage3.num_layers has the values 3, 4, and had 2, 3",
    ),
    "fixed value freed": (
        ("SPACE)", "SPACE, stem_out=(8, 16))"),
        "space: choice stem_out is new, with the values 8, 16",
    ),
    "another fixed value": (
        ("SPACE)", "SPACE, stem_out=(16,))"),
        "space: the same params decode to another network: stem_channels.2 is 16, and was 8",
    ),
    "freed and fixed": (
        ("SPACE)", "SPACE, mid_channels=((8, 16), (8, 12), (8,)), depthwise=(True,))"),
        "space: choice depthwise is gone, which had the values false, true",
    ),
    "another sampler": (
        ("RandomSampler(seed=seed)", "RandomSampler(seed=seed + 1)"),
        "sampler: other code of my_parts.make",
    ),
    "another metric": (
        ("stages[1]", "stages[2]"),
        "metric my_parts:WIDTH: other code of my_parts.width",
    ),
}
"""Edits of the study's module, and the error of each."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a study, its own parts, and pictures of two classes."""
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # edits within a second look the same
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "my_parts.py").write_text(PARTS)
    (tmp_path / "my_scale.py").write_text("SCALE = 1\n")
    pixels = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            place = tmp_path / "pictures" / part / name
            place.mkdir(parents=True)
            for number in range(count):
                image = pixels.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(image).save(place / f"{number}.png")
    return tmp_path


def nas(*arguments):
    """Run `nas` with the modules as they are now; returns code, output and errors."""
    for module in ("my_parts", "my_scale"):
        sys.modules.pop(module, None)
    return CliRunner().invoke(main, arguments)


def rows(folder):
    """Return every row of the record as SQL."""
    connection = sqlite3.connect(folder / "nas.db")
    lines = list(connection.iterdump())
    connection.close()
    return lines


def refused(folder, problem, *arguments):
    """Check that the command ends with code 2 and one line, and leaves the record as it was."""
    before = rows(folder)
    outcome = nas(*arguments)
    assert outcome.exit_code == 2, outcome.stdout + outcome.stderr
    [line] = outcome.stderr.splitlines()
    assert line.startswith(
        "error: study 'mine' was begun with other parts than its file names now: "
    )
    assert problem in line
    assert rows(folder) == before


@pytest.mark.slow
def test_other_parts_under_the_same_names_are_refused_and_the_old_ones_resume(folder):
    """Nothing is written, and the error names the difference. The old parts resume the study."""
    assert nas("search", "study.yaml").exit_code == 0
    (folder / "study.yaml").write_text(STUDY.replace("trials: 1", "trials: 2"))
    for (old, new), problem in EDITS.values():
        assert old in PARTS
        (folder / "my_parts.py").write_text(PARTS.replace(old, new, 1))
        refused(folder, problem, "search", "study.yaml")
    (folder / "my_parts.py").write_text(PARTS.replace("def make", "UNUSED = 1\n\n\ndef make"))
    (folder / "my_scale.py").write_text("SCALE = 2\n")
    refused(folder, "other code of my_scale.SCALE", "search", "study.yaml")
    (folder / "my_scale.py").write_text("SCALE = 1  # times\n")
    outcome = nas("search", "study.yaml")
    assert outcome.exit_code == 0, outcome.stderr
    assert "2 networks were tried" in outcome.stdout


@pytest.mark.slow
def test_other_images_in_the_folder_are_refused(folder):
    """The search and trainings of its networks refuse them. Hidden files do not count."""
    assert nas("search", "study.yaml").exit_code == 0
    train = folder / "pictures" / "train"
    shutil.copy(train / "cat" / "0.png", train / "cat" / "9.png")
    for command in (
        ("search", "study.yaml"),
        ("replicate", "mine", "--all"),
        ("train", "mine", "--trial", "0"),
    ):
        refused(folder, "data.folder: train/cat has other files", *command)
    (train / "cat" / "9.png").unlink()
    (train / "cat" / ".DS_Store").write_text("of a file manager")
    (folder / "study.yaml").write_text(STUDY.replace("trials: 1", "trials: 2"))
    outcome = nas("search", "study.yaml")
    assert outcome.exit_code == 0, outcome.stderr


@pytest.mark.slow
def test_a_record_without_identity_is_compared_by_its_trials_and_gets_one(folder):
    """Older versions left such records. A value that no trial has can be missed once."""
    assert nas("search", "study.yaml").exit_code == 0
    connection = sqlite3.connect(folder / "nas.db")
    connection.execute("UPDATE study SET identity = NULL")
    connection.commit()
    connection.close()
    (folder / "study.yaml").write_text(STUDY.replace("trials: 1", "trials: 2"))
    for edit, problem in (
        ("fixed value freed", "only its params or only the choices have stem_out"),
        ("another fixed value", "stem_channels.2 is 16, and was 8"),
    ):
        old, new = EDITS[edit][0]
        (folder / "my_parts.py").write_text(PARTS.replace(old, new, 1))
        refused(folder, f"space: trial 0 is not of it: {problem}", "search", "study.yaml")
    (folder / "my_parts.py").write_text(PARTS)
    assert nas("search", "study.yaml").exit_code == 0
    (old, new), problem = EDITS["value added"]
    (folder / "my_parts.py").write_text(PARTS.replace(old, new, 1))
    refused(folder, problem, "search", "study.yaml")
