"""A front as it stands on another device, by figures that were given."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from nas.analysis.on_device import front_on_device
from nas.cli.front import _device_lines
from nas.core.errors import InvalidValueError
from nas.core.measurement import Device, Measurement, MeasurementPlan, Status
from nas.core.pareto import Standing
from nas.core.study import Objective, StudySpec
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.testing.sample_records import architecture

SPEC = StudySpec(
    name="one",
    space="osa_tiny",
    objectives=(
        Objective(metric="error"),
        Objective(metric="latency", limit=5.0),
        Objective(metric="parameters"),
    ),
)


def figure(value, *, name="latency", device="", clock=0, plan=None, board="Pi 5"):
    """Return a latency on a device elsewhere, or on this machine's CPU."""
    return Measurement(
        metric=name,
        unit="s",
        value=value,
        ci_low=value,
        ci_high=value,
        status=Status.OK if value else Status.CONTENDED,
        reason="" if value else "other processes held the cores",
        method="given",
        plan=plan or MeasurementPlan(),
        device=Device(
            kind="cpu",
            name=board,
            identity=board,
            device_class=board if device else "this CPU",
            details={"device": device} if device else {},
        ),
        started_at=datetime(2026, 1, 1, 12, clock, tzinfo=UTC),
    )


def member(number, error, latency, *others):
    """Return a complete trial with these figures."""
    figures = [Measurement.counted("parameters", "1", 9), figure(latency), *others]
    return Trial(
        number=number,
        params={},
        architecture=architecture(),
        seed=number,
        state=TrialState.COMPLETE,
        evaluation=Evaluation(
            measurements={each.metric: each for each in figures},
            rungs=(Rung(epochs=1.0, metrics={"error": error}),),
        ),
    )


MEMBERS = [member(0, 0.1, 3.0), member(1, 0.2, 2.0), member(2, 0.3, 1.0), member(3, 0.4, 0.5)]


def test_members_have_the_figures_of_the_device():
    """There 2 is slower than 1, 3 is over the limit, and 0 was not measured."""
    figures = {
        0: [],
        1: [figure(9.0, device="pi5"), figure(2.0, device="pi5", clock=1)],
        2: [figure(3.0, device="pi5", clock=2), figure(0.1, device="orin", clock=3)],
        3: [figure(6.0, device="pi5", clock=1)],
    }
    there = front_on_device(SPEC, MEMBERS, figures, "pi5")
    assert [objective.key for objective in there.spec.objectives] == [
        "error",
        "latency@pi5",
        "parameters",
    ]
    assert there.front.members == (1,)
    assert there.standings == {1: Standing.CERTAIN, 2: Standing.DOMINATED}
    assert there.fallen == {2: "dominated by 1", 3: "over the limit of latency@pi5"}
    assert there.missing == (0,)
    values = {n: trial.evaluation.value("latency@pi5") for n, trial in there.trials.items()}
    assert values == {1: 2.0, 2: 3.0, 3: 6.0}


@pytest.mark.parametrize(
    "other",
    [
        figure(1.0, device="pi5", board="Pi 4"),
        figure(1.0, device="pi5", plan=MeasurementPlan(threads=2)),
    ],
    ids=["another class", "another plan"],
)
def test_only_figures_like_the_newest_are_compared(other):
    """A board that was exchanged under its name, or other conditions, give other quantities."""
    figures = {0: [other], 1: [figure(2.0, device="pi5", clock=1)]}
    there = front_on_device(SPEC, MEMBERS[:2], figures, "pi5")
    assert (there.front.members, there.missing) == ((1,), (0,))


def test_a_study_shows_the_figures_of_a_device_that_it_names():
    """Its objectives of other devices are left out, and nothing has to be measured again."""
    spec = StudySpec(
        name="two",
        space="osa_tiny",
        objectives=(
            Objective(metric="error"),
            Objective(metric="latency", device="pi5", limit=20.0),
            Objective(metric="latency", device="orin", limit=1.0),
        ),
    )
    members = [
        member(0, 0.2, 1.0, figure(9.0, name="latency@pi5"), figure(0.5, name="latency@orin")),
        member(1, 0.1, 1.0, figure(8.0, name="latency@pi5"), figure(0.9, name="latency@orin")),
    ]
    there = front_on_device(spec, members, {0: [], 1: []}, "pi5")
    assert [objective.key for objective in there.spec.objectives] == ["error", "latency@pi5"]
    assert (there.front.members, there.missing) == ((1,), ())
    assert front_on_device(spec, members, {0: [], 1: []}, "orin").front.members == (0, 1)[::-1]


@pytest.mark.parametrize(
    ("recorded", "why"),
    [
        ([], "has its figures on pi5; measure them with: `nas remeasure one --device pi5`"),
        ([figure(1.0, device="orin")], "on pi5, but on orin; measure"),
        ([figure(None, device="pi5")], "on pi5: latency is contended; measure"),
    ],
)
def test_a_device_without_figures_is_refused_with_the_next_command(recorded, why):
    with pytest.raises(InvalidValueError) as error:
        front_on_device(SPEC, MEMBERS[:1], {0: recorded}, "pi5")
    assert why in str(error.value)


def test_this_machines_cpu_is_a_device_too():
    """The study was measured there."""
    there = front_on_device(SPEC, MEMBERS, {}, "cpu")
    assert there.spec == SPEC
    assert set(there.front.members) == {0, 1, 2, 3}


def test_the_limit_of_another_named_device_is_left_out():
    """20 ms are the limit on pi5, and orin has none."""
    spec = StudySpec(
        name="one",
        space="osa_tiny",
        objectives=(
            Objective(metric="error"),
            Objective(metric="latency", device="pi5", limit=20.0),
        ),
    )
    members = [member(0, 0.2, 1.0, figure(9.0, name="latency@pi5"))]
    there = front_on_device(spec, members, {0: [figure(30.0, device="orin")]}, "orin")
    assert there.spec.objectives[1] == Objective(metric="latency", device="orin", reference=20.0)
    assert there.front.members == (0,)


def test_the_command_for_missing_figures_can_be_pasted():
    """It names the record that was read."""
    there = SimpleNamespace(fallen={}, missing=[3, 5], spec=SimpleNamespace(name="my study"))
    (line,) = _device_lines(there, "pi5", "other.db")
    command = "nas remeasure 'my study' --device pi5 --database other.db"
    assert line == f"not measured on pi5: 3, 5; {command}"
