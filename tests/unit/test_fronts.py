"""The front as rows, CSV and JSON, for three trials with figures chosen by hand."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nas.core.architecture import Architecture, OsaStage
from nas.core.measurement import Measurement, Status
from nas.core.pareto import ParetoFront, standings
from nas.core.study import Objective, StudySpec
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.report.fronts import ShownFront, as_csv, cells, front_values, rows

SPEC = StudySpec(
    name="hand",
    space="osa_tiny",
    objectives=(Objective(metric="error", reference=1.0), Objective(metric="latency", limit=0.004)),
)
FRONT = ParetoFront(members=(2, 0), hypervolume=0.002, after=3, feasible=True)


def latency(value, low, high, **others):
    """Make a measured latency in seconds."""
    return Measurement(
        metric="latency", unit="s", value=value, ci_low=low, ci_high=high, method="clock", **others
    )


def trial(number, error, figure):
    """Make a complete trial of a network whose stages have `16 + number` channels."""
    stage = OsaStage(mid_channels=8, out_channels=16 + number, num_layers=2, num_blocks=1)
    rung = Rung(
        epochs=1,
        metrics={"error": error},
        train_loss=1.0,
        images=100,
        train_s=1.0,
        validation_s=0.1,
    )
    evaluation = Evaluation(
        measurements={m.metric: m for m in (Measurement.counted("parameters", "1", 1000), figure)},
        rungs=(rung,),
    )
    architecture = Architecture(stem_channels=(8, 8, 8), stages=(stage,) * 3)
    return Trial(
        number=number,
        params={},
        architecture=architecture,
        seed=1,
        evaluation=evaluation,
        state=TrialState.COMPLETE,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


TRIALS = {
    0: trial(0, 0.5, latency(0.001, 0.0009, 0.0011, status=Status.NOISY)),
    1: trial(1, 0.6, latency(0.002, 0.0019, 0.0021)),
    2: trial(2, 0.25, latency(0.003, 0.003, 0.003)),
}
"""Trial 1 is beaten by trial 0; all readings of trial 2 were the same."""
STANDINGS = standings(list(TRIALS.values()), SPEC.objectives)
SHOWN = ShownFront(front=FRONT, trials=TRIALS, standings=STANDINGS)


def test_a_row_has_a_member_s_figures_in_si_units():
    """Rows have the order of the front. Measurements have an interval, even one of zero width;
    counts have none.
    """
    assert rows(SPEC, SHOWN) == [
        {
            "trial": 2,
            "error": 0.25,
            "latency": 0.003,
            "latency_low": 0.003,
            "latency_high": 0.003,
            "parameters": 1000.0,
            "violation": 0.0,
            "standing": "certain",
            "digest": TRIALS[2].architecture.digest[:12],
        },
        {
            "trial": 0,
            "error": 0.5,
            "latency": 0.001,
            "latency_low": 0.0009,
            "latency_high": 0.0011,
            "parameters": 1000.0,
            "violation": 0.0,
            "standing": "certain",
            "digest": TRIALS[0].architecture.digest[:12],
        },
    ]


def test_a_violation_is_the_share_over_the_limit():
    """5 ms are a quarter more than the limit of 4 ms."""
    slow = {0: trial(0, 0.5, latency(0.005, 0.005, 0.005))}
    front = ParetoFront(members=(0,), hypervolume=0.0, after=1, feasible=False)
    assert rows(SPEC, ShownFront(front=front, trials=slow))[0]["violation"] == pytest.approx(0.25)


def test_csv_has_the_rows_under_their_names():
    """The text is parsed by Python's own reader."""
    table = list(csv.DictReader(io.StringIO(as_csv(SPEC, SHOWN))))
    assert table == [{key: str(value) for key, value in row.items()} for row in rows(SPEC, SHOWN)]
    assert as_csv(SPEC, SHOWN).splitlines()[0] == (
        "trial,error,latency,latency_low,latency_high,parameters,violation,standing,digest"
    )


def test_csv_holds_figures_that_only_some_members_have():
    """The cells of the other members are empty."""
    memory = Measurement(
        metric="peak_memory", unit="B", value=64.0, ci_low=60.0, ci_high=70.0, method="counter"
    )
    more = replace(TRIALS[0], evaluation=TRIALS[0].evaluation.with_measurements([memory]))
    shown = ShownFront(front=FRONT, trials=TRIALS | {0: more})
    table = list(csv.DictReader(io.StringIO(as_csv(SPEC, shown))))
    assert [(row["peak_memory_low"], row["peak_memory_high"]) for row in table] == [
        ("", ""),
        ("60.0", "70.0"),
    ]


def test_csv_of_an_empty_front_is_a_heading():
    """A program that reads it finds the heading."""
    front = ParetoFront(members=(), hypervolume=None, after=0, feasible=False)
    assert as_csv(SPEC, ShownFront(front=front, trials={})) == "trial\n"


def test_json_has_the_rows_with_their_architectures():
    """The same networks can be built from the architectures."""
    found = front_values(SPEC, SHOWN)
    members = found.pop("members")
    assert found == {
        "study": "hand",
        "feasible": True,
        "hypervolume": 0.002,
        "after": 3,
        "possible": [],
        "baselines": [],
    }
    assert [Architecture.from_dict(member.pop("architecture")) for member in members] == [
        TRIALS[number].architecture for number in FRONT.members
    ]
    assert members == rows(SPEC, SHOWN)


def test_a_terminal_shows_objectives_with_intervals():
    """An error is in per cent, and a missing figure is a dash."""
    assert cells(SPEC, TRIALS[0]) == ["50.00 %", "1 ms  [900 µs to 1.1 ms, noisy]"]
    assert cells(SPEC, replace(TRIALS[0], evaluation=Evaluation())) == ["-", "-"]
