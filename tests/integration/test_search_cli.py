"""`nas search` with a real record and tiny trainings on the digits.

Where the process is tested, its interruption or its code and environment, it is a real one.
"""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.trial import TrialState
from nas.record import Store

STUDY = """
name: tiny
space: osa_tiny
sampler: random
objectives:
  - {metric: error, reference: 95 %}
  - {metric: parameters, reference: 100 k}
rungs: {epochs: [0.5, 1]}
data: {dataset: digits, validation_images: 200}
training: {batch_size: 64, precision: fp32, channels_last: false}
budget: {trials: 3}
workers: {kind: local}
"""
COMMAND = [sys.executable, "-c", "from nas.cli import main; main()"]
INTERRUPTIBLE = [
    sys.executable,
    "-c",
    (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from nas.cli import main; main()"
    ),
]
"""Ends at Ctrl-C also if the shell that runs the tests ignores it for its children."""


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def folder(tmp_path):
    """Return a new folder with a study."""
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def nas(folder, monkeypatch):
    """Return a function that runs `nas ARGS` in this process, in that folder."""
    monkeypatch.chdir(folder)

    def call(*arguments):
        result = CliRunner().invoke(main, arguments)
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def nas_process(folder):
    """Return a function that runs `nas ARGS` in a process of its own, in that folder."""

    def call(*arguments, **environment):
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return call


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The output and the architectures of a search that is not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "study.yaml").write_text(STUDY)
    words = ("search", str(folder / "study.yaml"), "--database", str(folder / "nas.db"))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    return result.stdout, digests(folder)


def digests(folder):
    """Return the architectures of complete trials."""
    with Store.open(folder / "nas.db", read_only=True) as store:
        return [
            t.architecture.digest
            for t in store.trials("tiny")
            if t.state is TrialState.COMPLETE and t.duplicate_of is None
        ]


def finished(folder, count):
    """Return whether so many trials have ended."""
    with suppress(Exception):  # the record is being made
        return len(digests(folder)) >= count
    return False


def refused(outcome, *words):
    """Assert exit code 2, and error lines with all of these words."""
    assert outcome.returncode == 2, outcome.stderr
    lines = [line for line in outcome.stderr.splitlines() if line]
    assert [line for line in lines if not line.startswith("error: ")] == []
    assert all(word in outcome.stderr for word in words), outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.long), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_interrupted_search_ends_as_one_that_was_not(nas, whole, tmp_path, sign, code):
    """The same command resumes it and finds the architectures of an uninterrupted search."""
    output, expected = whole
    with subprocess.Popen(
        [*INTERRUPTIBLE, "search", "study.yaml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        deadline = time.monotonic() + 90
        while not finished(tmp_path, 1) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(sign)
        process.communicate(timeout=60)
    assert process.returncode == code
    kept = digests(tmp_path)
    assert kept
    again = nas("search", "study.yaml")
    assert again.returncode == 0, again.stderr
    assert digests(tmp_path)[: len(kept)] == kept
    assert sorted(digests(tmp_path)) == sorted(expected)
    assert ": 3 networks were tried, the limit of budget.trials" in again.stdout
    assert "nas export tiny --trial" in again.stdout
    assert [line[:6] for line in output.splitlines() if line.startswith("[")] == [
        "[1/3] ",
        "[2/3] ",
        "[3/3] ",
    ]


@pytest.mark.slow
def test_a_finished_study_can_be_shown(nas):
    """CSV and JSON hold the same front. A trial of it and the study's state are shown."""
    assert nas("search", "study.yaml").returncode == 0
    members = json.loads(nas("front", "--format", "json").stdout)["members"]
    table = list(csv.DictReader(io.StringIO(nas("front", "--format", "csv").stdout)))
    assert [int(row["trial"]) for row in table] == [member["trial"] for member in members]
    assert [float(row["error"]) for row in table] == [member["error"] for member in members]
    shown = nas("show", f"tiny:{members[0]['trial']}").stdout
    assert f"{members[0]['parameters']:,.0f} parameters" in shown
    assert "3 of 3 architectures" in nas("status", "tiny").stdout
    refused(nas("show", "tiny:99"), "trials of study 'tiny'", "99")
    refused(nas("status", "none"), "none", "tiny")


def test_wrong_study_files_are_refused_whole_and_nothing_is_written(nas, tmp_path):
    """Every problem has a line."""
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("osa_tiny", "huge").replace("random", "magic")
    )
    refused(nas("search", "study.yaml"), "no 'huge' in nas.spaces", "no 'magic' in nas.samplers")
    assert not (tmp_path / "nas.db").exists()


def test_missing_data_names_the_variable(nas_process, tmp_path):
    """Without a fallback and without a network the search does not start."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("digits", "cifar10"))
    proxy = "http://127.0.0.1:1"
    outcome = nas_process("search", "study.yaml", NAS_DATA_DIR=str(tmp_path), https_proxy=proxy)
    refused(outcome, "NAS_DATA_DIR")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["search", "study.yaml", "--database", "postgresql://u:secret@127.0.0.1:{port}/x"],
            ["cannot be reached"],
        ),
        (
            ["search", "study.yaml", "--workers", "nobody"],
            ["no 'nobody' in nas.workers", "local, tune"],
        ),
        (["front", "--database", "missing.db"], ["there is no record"]),
    ],
)
def test_a_part_that_cannot_be_reached_or_found_is_one_line(nas, arguments, words):
    """The exit code is 2, and no password is printed."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        outcome = nas(*(argument.format(port=reserved.getsockname()[1]) for argument in arguments))
    refused(outcome, *words)
    assert "secret" not in outcome.stderr


def test_a_metric_of_a_study_has_the_name_in_the_study_file(nas_process, tmp_path):
    """The name that the metric itself has does not matter."""
    (tmp_path / "layers.py").write_text(
        "from nas.core.measurement import Kind, Measurement\n"
        "from nas.measuring.metrics import Metric, Phase\n"
        "def measure(subject):\n"
        "    layers = sum(stage.num_layers for stage in subject.architecture.stages)\n"
        "    return Measurement.counted('layers', '1', layers)\n"
        "LAYERS = Metric(\n"
        "    name='layers', unit='1', kind=Kind.COUNTED, phase=Phase.COUNTED, measure=measure\n"
        ")\n"
    )
    (tmp_path / "study.yaml").write_text(
        "name: tiny\nspace: osa_tiny\nsampler: random\nbudget: {trials: 2}\n"
        "objectives: [{metric: layers:LAYERS}, {metric: macs}]\n"
    )
    done = nas_process("search", "study.yaml")
    assert done.returncode == 0, done.stderr
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        for trial in store.trials("tiny"):
            assert trial.state is TrialState.COMPLETE
            assert trial.evaluation.value("layers:LAYERS") == sum(
                s.num_layers for s in trial.architecture.stages
            )


@pytest.mark.slow
def test_checkpoints_of_another_records_study_are_not_replaced(nas, tmp_path):
    """Records in one folder have folders of their own; a shared one is refused for a new study."""
    assert nas("search", "study.yaml", "--database", "first.db").returncode == 0
    folder = tmp_path / "first-artifacts"
    before = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
    assert before
    shared = ("search", "study.yaml", "--database", "second.db", "--artifacts", "first-artifacts")
    refused(nas(*shared), "first-artifacts/tiny", "--artifacts")
    assert not (tmp_path / "second.db").exists()
    assert {path: path.read_bytes() for path in folder.rglob("*.safetensors")} == before


FAILING = """
from nas.core.errors import TrialFailedError
from nas.core.measurement import Kind
from nas.measuring.metrics import Metric, Phase

def measure(subject):
    raise TrialFailedError("the sensor is gone")

BROKEN = Metric(name="broken", unit="1", kind=Kind.COUNTED, phase=Phase.COUNTED, measure=measure)
"""


@pytest.mark.parametrize(
    ("objectives", "reason"),
    [
        (
            "[{metric: failing:BROKEN}]",
            "no trial of tiny was completed (2 failed); trial 1 failed: the sensor is gone",
        ),
        (
            "[{metric: macs, limit: 1}]",
            "no network of tiny is within every limit; the table has the nearest",
        ),
    ],
)
def test_a_search_that_finds_nothing_fails_with_the_reason(
    nas, tmp_path, monkeypatch, objectives, reason
):
    """So that a command after && does not run. What was tried is recorded."""
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "failing.py").write_text(FAILING)
    (tmp_path / "study.yaml").write_text(
        "name: tiny\nspace: osa_tiny\nsampler: random\nbudget: {trials: 2}\n"
        f"objectives: {objectives}\n"
    )
    done = nas("search", "study.yaml")
    assert (done.returncode, done.stderr) == (2, f"error: {reason}\n")
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.trials("tiny")
