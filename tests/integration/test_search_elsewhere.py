"""A search that trains here and measures on a device elsewhere, which may disappear."""

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from nas.core.errors import DatabaseError
from nas.core.trial import TrialState
from nas.measuring.devices import book
from nas.record import Store

STUDY = """\
name: elsewhere
space: osa_tiny
sampler: random
objectives:
  - {metric: error, reference: 1.0}
  - {metric: latency, reference: 1.0}
rungs: [{epochs: 0.1}]
data: {dataset: digits, validation_images: 200}
measurement: {device: board, runtime: auto, image_size: 8, busy: noisy, busy_wait_s: 0,
              warmup_s: 0.02, min_time_s: 0.02, max_time_s: 0.1}
budget: {trials: TRIALS, certify: false, fresh: 0}
"""


class Search:
    """A study in a folder, searched by processes of its own, one after the other."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def begin(self, trials, study=STUDY):
        """Begin or resume the search, and return its process."""
        (self.folder / "study.yaml").write_text(study.replace("TRIALS", str(trials)))
        program = "from nas.cli import main; main()"
        command = [sys.executable, "-c", program, "search", "study.yaml", "--database", "nas.db"]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def trials(self):
        """Return the recorded trials; none before the study is recorded."""
        try:
            with Store.open(self.folder / "nas.db", read_only=True) as store:
                return store.trials("elsewhere") if store.studies() else []
        except DatabaseError:
            return []

    def wait_for(self, count, process):
        """Wait until so many trials have a latency."""
        while sum("latency" in each.evaluation.measurements for each in self.trials()) < count:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A study whose device is not started yet."""
    monkeypatch.setenv(book.BOOK_VARIABLE, str(tmp_path / "devices.json"))
    return Search(tmp_path)


def check(search, count):
    """Every trial is complete, and each was measured once, by the device of the study."""
    trials = search.trials()
    assert len([each for each in trials if each.state is TrialState.COMPLETE]) == count
    figures = [each.evaluation.measurements["latency"] for each in trials]
    classes = {figure.device.device_class for figure in figures}
    assert len(classes) == 1
    assert ", agent, onnxruntime" in classes.pop()
    assert all(figure.plan.runtime == "onnxruntime" for figure in figures)
    digests = [each.architecture.digest for each in trials]
    assert len(set(digests)) == len(digests)
    assert all(len(each.evaluation.rungs) == 1 for each in trials)


@pytest.mark.slow
@pytest.mark.long
def test_a_device_that_disappears_and_a_killed_search_lose_nothing(agents, tmp_path, search):
    """The search waits for its device and measures the lost figure again. Killed, it resumes."""
    with agents.unix(tmp_path) as (entry, process):
        book.add("board", entry)
        first = search.begin(4)
        search.wait_for(1, first)
        process.kill()
    with agents.unix(tmp_path):
        search.wait_for(2, first)
        first.kill()
        first.communicate()
        second = search.begin(4)
        output = second.communicate(timeout=500)[0]
        assert second.returncode == 0, output
    check(search, 4)


@pytest.mark.slow
def test_another_device_under_the_name_ends_the_search(agents, tmp_path, search):
    with agents.unix(tmp_path) as (entry, _):
        book.add("board", replace(entry, identity="cpu-of-another-one"))
        process = search.begin(1)
        output = process.communicate(timeout=300)[0]
    assert process.returncode == 2
    assert "error: another device answers at unix:" in output


@pytest.mark.long
@pytest.mark.slow
def test_one_training_serves_this_machine_and_a_device(agents, tmp_path, search):
    """An objective that names the device is measured there, on its runtime; the other one here."""
    text = STUDY.replace("measurement: {device: board, runtime: auto", "measurement: {device: cpu")
    text = text.replace(
        "- {metric: latency", "- {metric: latency, device: board, limit: 1.0}\n  - {metric: latency"
    )
    with agents.unix(tmp_path) as (entry, _):
        book.add("board", entry)
        process = search.begin(2, text)
        output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    for trial in search.trials():
        figures = trial.evaluation.measurements
        assert figures["latency@board"].plan.runtime == "onnxruntime"
        assert ", agent, " in figures["latency@board"].device.device_class
        assert ", agent, " not in figures["latency"].device.device_class
        assert len(trial.evaluation.rungs) == 1
