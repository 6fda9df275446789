"""The README's commands as a reader types them, one block after the other, in a folder with a
quicker quickstart.

Blocks marked `sh` are run. `./run search` and `./run nas` work without making an environment here:
the tests' own is used.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE
)
STUDY = """
name: quickstart
space: osa_tiny
sampler: random
objectives:
  - {metric: error, reference: 95 %}
  - {metric: parameters, reference: 100 k}
rungs: {epochs: [0.1]}
data: {dataset: digits, validation_images: 200}
training: {batch_size: 64, precision: fp32, channels_last: false}
budget: {trials: 2}
workers: {kind: local}
"""
RUN = """#!/bin/sh
set -eu
chore=$1
shift
case $chore in
    search) exec nas search studies/quickstart/study.yaml "$@" ;;
    nas) exec nas "$@" ;;
    *) echo "the README's test does not run $chore" >&2; exit 2 ;;
esac
"""


@pytest.fixture
def folder(tmp_path):
    """What the commands need of the repository."""
    study = tmp_path / "studies" / "quickstart" / "study.yaml"
    study.parent.mkdir(parents=True)
    study.write_text(STUDY)
    (tmp_path / "run").write_text(RUN)
    (tmp_path / "run").chmod(0o755)
    return tmp_path


@pytest.mark.slow
@pytest.mark.long
def test_the_commands_run_and_leave_what_they_promise(folder):
    """Every command ends well; the front, the page and the network are there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-euxc", "".join(BLOCKS)],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stderr
    assert "front of quickstart after 2 trials" in ran.stdout
    assert "trial 1 of quickstart: complete" in ran.stdout
    assert (folder / "quickstart.html").stat().st_size > 0
    assert (folder / "backbone" / "backbone.onnx").stat().st_size > 0


def test_its_chores_and_commands_are_there():
    """Also those that are only mentioned."""
    text = (ROOT / "README.md").read_text()
    chores = subprocess.run(
        [ROOT / "run", "help"], capture_output=True, text=True, check=True
    ).stdout
    commands = (ROOT / "docs" / "commands.md").read_text()
    assert {
        chore for chore in re.findall(r"\./run (\w+)", text) if f"./run {chore}" not in chores
    } == set()
    assert {
        name
        for name in re.findall(r"(?:^|`)nas (\w+)", text, flags=re.MULTILINE)
        if f"## nas {name}\n" not in commands
    } == set()
