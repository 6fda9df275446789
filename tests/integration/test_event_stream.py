"""`nas search --events -`: a real search whose events another program reads."""

import json
import math
import subprocess
import sys

import pytest
from output_schemas import differences

STUDY = """
name: small
space: osa_tiny
objectives: [{metric: error, reference: 1.0}, {metric: macs, reference: 50e6}]
rungs: [{images: 32}, {images: 64}]
budget: {trials: 2, fresh: 0}
sampler: random
training: {precision: fp32, batch_size: 32}
workers: {kind: local, count: 1}
data: {dataset: digits, validation_images: 50}
"""
COMMAND = [sys.executable, "-c", "from nas.cli import main; main()"]


@pytest.mark.slow
def test_every_step_of_a_search_is_an_event(tmp_path):
    """Standard output has nothing else, and the display is on standard error."""
    (tmp_path / "study.yaml").write_text(STUDY)
    done = subprocess.run(
        [*COMMAND, "search", "study.yaml", "--events", "-"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [line for event in events for line in differences("event", event)]
    first, *steps, last = events
    assert (first["event"], last["event"]) == ("begun", "ended")
    assert {step["event"] for step in steps} == {"trial"}
    states = {step["trial"]["trial"]: step["trial"]["state"] for step in steps}
    assert states == {0: "complete", 1: "complete"}
    rungs = [len(step["trial"]["rungs"]) for step in steps if step["trial"]["trial"] == 0]
    assert sorted(set(rungs)) == [0, 1, 2]
    box = math.prod(objective["reference"] for objective in last["objectives"])
    assert f"hypervolume {100 * last['hypervolume'] / box:.3g} % of" in done.stderr
    assert "front of small" in done.stderr


SAMPLER = """
from nas.core.errors import UnavailableError
from nas.sampling.problem import InformedSampler

class Sampler(InformedSampler):
    def propose(self, trials):
        if trials:
            raise UnavailableError("the sampler has no licence")
        return self.problem.random(1, self.rng)[0]
"""


def test_a_search_that_fails_says_so_in_its_last_event(tmp_path):
    (tmp_path / "own.py").write_text(SAMPLER)
    text = STUDY.replace("sampler: random", "sampler: own:Sampler")
    (tmp_path / "study.yaml").write_text(text)
    done = subprocess.run(
        [*COMMAND, "search", "study.yaml", "--events", "-"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 2
    assert [event["reason"] for event in events if event["event"] == "ended"] == [
        "the sampler has no licence"
    ]
