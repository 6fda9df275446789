"""What becomes of a figure on a machine that is never quiet: fail, wait, or record as noisy; and on
a device that is away: wait.
"""

from dataclasses import replace

import pytest

from nas.core.errors import DeviceLostError, InvalidValueError, UnavailableError
from nas.core.measurement import Busy, Measurement, MeasurementPlan, Status, plan_key
from nas.core.preparation import Preparation
from nas.core.tasks import CertifyTask, Task
from nas.measuring.methods.timing import HELD, as_noisy
from nas.searching.evaluators import StudyContext
from nas.searching.evaluators.classification import certifier, evaluator
from nas.testing.fake_meter import FakeMeter
from nas.testing.sample_records import architecture, spec

CONTENDED = Measurement(
    metric="latency",
    unit="s",
    value=None,
    method="median of blocks",
    status=Status.CONTENDED,
    reason="other processes held the cores in 18 of 20 blocks",
    details={HELD: [0.001 * block for block in range(1, 21)], "protocol": "screen/1"},
)
QUIET = Measurement(metric="latency", unit="s", value=0.001, method="median of blocks")


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that were made, in seconds; none of them is waited for."""
    made = []
    monkeypatch.setattr(evaluator.time, "sleep", made.append)
    return made


def measured(figures, plan):
    """What a measurement gives that takes these figures, one each time it is repeated."""
    taken = iter(figures)
    return evaluator.retry_while_contended(lambda: (next(taken),), plan)[0]


def test_a_contended_figure_fails_after_the_longest_wait(pauses):
    plan = MeasurementPlan(busy_wait_s=12)
    assert measured([CONTENDED] * 4, plan) is CONTENDED
    assert pauses == [2, 8, 2]


def test_a_contended_figure_becomes_noisy_after_the_longest_wait(pauses):
    """The median of all blocks of 1 to 20 ms is 10.5 ms; the reason stays."""
    figure = measured([CONTENDED] * 3, MeasurementPlan(busy=Busy.NOISY, busy_wait_s=10))
    assert pauses == [2, 8]
    assert (figure.status, figure.value) == (Status.NOISY, pytest.approx(0.0105))
    assert figure.ci_low < figure.value < figure.ci_high
    assert figure.reason.endswith("other processes held the cores in 18 of 20 blocks")
    assert len(figure.samples) == 20
    assert figure.details == {"protocol": "screen/1"}


def test_waiting_goes_on_until_the_device_is_quiet(pauses):
    plan = MeasurementPlan(busy=Busy.WAIT, busy_wait_s=10)
    assert measured([*[CONTENDED] * 50, QUIET], plan) is QUIET
    assert len(pauses) == 50
    assert pauses[-1] == 30


def test_waiting_ends_with_the_time_of_the_task(pauses):
    """The contended figure is returned, and its trial is tried again by a later call."""
    plan = MeasurementPlan(busy=Busy.WAIT)
    over = evaluator.Deadline(0.0)
    taken = iter([CONTENDED] * 50)
    figures = evaluator.retry_while_contended(lambda: (next(taken),), plan, deadline=over)
    assert figures == (CONTENDED,)
    assert pauses == []


def test_a_quiet_device_is_not_waited_for(pauses):
    assert measured([QUIET], MeasurementPlan(busy=Busy.NOISY, busy_wait_s=0)) is QUIET
    assert pauses == []


def test_a_device_that_is_away_is_waited_for(pauses):
    """What it answers at last is returned. Each pause is announced with its reason."""
    answers, reasons = iter([DeviceLostError("it is off")] * 2), []

    def find():
        for error in answers:
            raise error
        return "the meter"

    found = evaluator.retry_while_lost(find, lambda figure: reasons.append(figure.reason))
    assert (found, pauses, reasons) == ("the meter", [2, 8], ["it is off"] * 2)


@pytest.mark.parametrize("kind", [evaluator.Evaluator, certifier.Certifier])
def test_a_device_that_is_away_before_its_first_measurement_is_waited_for(
    kind, pauses, monkeypatch, tmp_path
):
    """Then the one that answers is another device, which ends the search."""
    answers = iter([DeviceLostError("it is off"), UnavailableError("another device answers")])

    def find_meter(name=None):
        if name is None:
            return FakeMeter()
        raise next(answers)

    monkeypatch.setattr(evaluator, "find_meter", find_meter)
    monkeypatch.setattr(certifier, "find_meter", find_meter)
    study = spec()
    context = StudyContext(
        spec=replace(study, measurement=MeasurementPlan(device="board", runtime="onnxruntime")),
        artifacts=str(tmp_path),
        folder=str(tmp_path),
        preparation=Preparation(data=study.data, classes=("a", "b")),
    )
    task = Task(number=0, architecture=architecture(), seed=1)
    if kind is certifier.Certifier:
        task = CertifyTask(number=0, architectures=(architecture(),))
    with pytest.raises(UnavailableError, match="another device answers"):
        list(kind(context).steps(task))
    assert pauses == [2]


def test_only_contended_figures_with_blocks_become_noisy():
    throttled = Measurement(
        metric="latency", unit="s", value=None, method="m", status=Status.THROTTLED, reason="hot"
    )
    assert as_noisy(throttled) is throttled
    assert as_noisy(QUIET) is QUIET


def test_waiting_is_no_condition_of_a_figure():
    """Figures under plans that differ in it alone can be compared, and have the same key."""
    plain, patient = MeasurementPlan(), MeasurementPlan(busy=Busy.WAIT, busy_wait_s=5)
    assert plain == patient
    assert plan_key(plain) == plan_key(patient)
    assert not [key for key in patient.to_dict() if "busy" in key]


def test_a_wait_is_not_negative():
    with pytest.raises(InvalidValueError, match="busy_wait_s must not be negative, not -1"):
        MeasurementPlan(busy_wait_s=-1)
