"""`nas plan` on the digits: real trainings, which a clock ends at the same place everywhere."""

import json
from functools import partial
from itertools import count

import pytest
from click.testing import CliRunner
from output_schemas import differences

from nas.bench.plan import OWN, Planner
from nas.cli import main

STUDY = """
name: mine
space: osa_tiny
objectives: [{metric: error, reference: 100 %}, {metric: macs, limit: 3 M}]
rungs: [{steps: 1, image_size: auto}]
training: {precision: fp32, channels_last: true, batch_size: 8, learning_rate: 0.05}
data: {dataset: digits, validation_images: 200, train_images: 64}
budget: {trials: 1000, epochs: 30}
"""
pytestmark = pytest.mark.slow


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Return the function that runs the command with a clock that counts its readings, one
    nanosecond each, and that Ctrl-C interrupts at a reading.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.bench.plan.FEWEST_STEPS", 15)
    (tmp_path / "study.yaml").write_text(STUDY)

    def run(*options, interrupted_at=None):
        readings = count()

        def clock():
            reading = next(readings)
            if reading == interrupted_at:
                raise KeyboardInterrupt
            return 1e-9 * reading

        monkeypatch.setattr("nas.bench.plan.Planner", partial(Planner, clock=clock))
        return CliRunner().invoke(main, ["plan", "study.yaml", *options])

    yield run
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_a_plan_as_json(plan, monkeypatch):
    """Networks over the limit are measured and not trained. All recipes train the same networks,
    and the budget of 27 epochs for the search trains as many of each as its images allow.
    """
    monkeypatch.setattr("nas.bench.plan.LONGEST_OWN", 0.01)
    done = plan("--for", "0.00000006s", "--json")
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert not differences("plan", values)
    assert values["networks"] == done.stderr.count("yardstick ") >= 5
    assert values["over_limits"] == done.stderr.count("over a limit") > 0
    assert values["macs"][1] <= 3e6
    assert [each["trained"] for each in values["recipes"]] == [
        values["networks"]
    ] * 2  # of 16 and 12 pixels
    for each in values["recipes"]:
        (rung,) = each["rungs"]
        assert each["networks"] == 27 * 64 // rung["images"]
        assert each["smallest_difference"]["1"]["low"] > 0
        assert -1 <= each["tau"]["low"] <= each["tau"]["high"] <= 1


def test_ctrl_c_ends_with_what_is_known(plan, monkeypatch):
    """The study's own rungs are compared too if they are short. Two networks tell nothing."""
    monkeypatch.setattr("nas.bench.plan.LONGEST_OWN", float("inf"))
    monkeypatch.setattr("nas.bench.plan.FEWEST_STEPS", 1)
    done = plan("--for", "0.0000001s", interrupted_at=30)
    assert done.exit_code == 130
    assert OWN in done.output
    assert (
        "cannot tell which rungs are best: a longer --for than 0.0000001s tells more" in done.output
    )


def test_without_any_training_nothing_is_known(plan):
    assert "nothing is known" in plan(interrupted_at=3).output
    assert plan("--for", "0s").exit_code == 2
    assert plan("--for", "soon").exit_code == 2
