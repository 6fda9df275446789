"""Several networks in turns on a fake clock: a pace that wanders hits all alike and cancels."""

import random
import statistics

import pytest
from scipy.stats import kendalltau

from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.meters.watch import DeviceState
from nas.measuring.methods import latency, latency_in_turns
from nas.measuring.methods.turns import Turns
from nas.testing.fake_meter import FakeMeter, SharedCpu

PLAN = MeasurementPlan()
SECONDS = {f"net-{index}": 0.003 * 1.02**index for index in range(20)}


def in_turns(meter, seed, seconds=SECONDS, plan=PLAN):
    return latency_in_turns(
        {name: meter.network(each) for name, each in seconds.items()}, meter, plan, seed=seed
    )


def test_two_passes_agree_where_one_after_another_they_do_not():
    """Twenty networks 2 % apart on a CPU whose pace wanders by 3 % several times a second:
    Kendall's tau of a pass with the truth is at least 0.95 in the mean of ten, and below 0.9 where
    each is timed alone; each takes 2 s or little more beyond its warm-up, and the interval holds
    the truth, but for the level that all share.
    """
    taus, alone, held = [], [], 0
    for seed in range(10):
        meter = SharedCpu(seed)
        found = in_turns(meter, seed)
        assert meter.now_s < 20 * (2 + 1.5)
        level = statistics.fmean(found[name].value / seconds for name, seconds in SECONDS.items())
        held += sum(
            found[name].ci_low <= seconds * level <= found[name].ci_high
            for name, seconds in SECONDS.items()
        )
        taus.append(
            kendalltau(
                *zip(*((found[name].value, SECONDS[name]) for name in SECONDS), strict=True)
            ).statistic
        )
        one = SharedCpu(seed)
        singly = [latency(one.network(seconds), one, PLAN).value for seconds in SECONDS.values()]
        alone.append(kendalltau(singly, list(SECONDS.values())).statistic)
    assert statistics.fmean(taus) >= 0.95
    assert statistics.fmean(alone) < 0.9
    assert held >= 0.92 * 200


def test_the_figures_are_seconds_and_stop_when_narrow():
    """On a calm device eight rounds are enough, and every figure is the network's seconds."""
    found = in_turns(FakeMeter(), 0, {"a": 0.004, "b": 0.007})
    assert [found[name].value for name in "ab"] == pytest.approx([0.004, 0.007])
    assert {
        (each.status, each.details["rounds"], len(each.samples)) for each in found.values()
    } == {(Status.OK, 8, 8)}
    assert "turns among 2 networks" in found["a"].method


def test_a_wide_interval_is_noisy():
    """Calls that scatter by a tenth, each by itself, leave an interval wider than asked after the
    plan's time.
    """
    meter, rng = FakeMeter(), random.Random(3)
    runs = {name: lambda: meter.work(0.03 * (1 + rng.uniform(-0.3, 0.3))) for name in "ab"}
    found = latency_in_turns(runs, meter, PLAN, seed=0)["a"]
    assert found.status is Status.NOISY
    assert "the plan asks ±2.0%" in found.reason
    assert found.ci_low < found.value < found.ci_high


def beside_others(*, waited_s=0.0, foreign_s=0.0):
    """Two networks whose every call of 5 ms waits so long for a core, and sees so much of others'
    work.
    """
    meter = FakeMeter()

    def call():
        meter.work(0.005)
        meter.waited_s += waited_s
        meter.foreign_s += foreign_s

    return latency_in_turns({"a": call, "b": call}, meter, PLAN, seed=0)


def test_others_that_hold_the_cores_leave_no_value():
    """Where every block waited for a core there is a reason and no number for any of the
    networks.
    """
    found = beside_others(waited_s=0.001)
    assert {(each.status, each.value) for each in found.values()} == {(Status.CONTENDED, None)}
    assert "other processes held the cores in" in found["a"].reason


def test_neighbours_on_the_free_cores_make_all_noisy():
    """One that uses the core left free throughout."""
    found = beside_others(foreign_s=0.004)
    assert {each.status for each in found.values()} == {Status.NOISY}
    assert "other processes used 0.8 of 1 free cores" in found["b"].reason


@pytest.mark.parametrize(("until_s", "status"), [(8.0, Status.OK), (1e9, Status.THROTTLED)])
def test_rounds_in_which_the_device_slowed_down_are_run_again(until_s, status):
    """Too hot and twice as slow for a while: the rounds are run again after pauses, and the figures
    are right. For ever: no value, with the reason.
    """
    meter = FakeMeter()
    meter.state_at = lambda now_s: DeviceState(
        time_s=now_s, sm_clock_mhz=1980, slowed=("hardware thermal slowdown",) * (now_s < until_s)
    )
    runs = {
        name: lambda each=seconds: meter.work(each * (1 + (meter.now_s < until_s)))
        for name, seconds in {"a": 0.004, "b": 0.007}.items()
    }
    found = latency_in_turns(runs, meter, PLAN, seed=0)
    assert {each.status for each in found.values()} == {status}
    assert all("hardware thermal slowdown" in reason for reason in found["a"].details["spoiled"])
    if status is Status.OK:
        assert [found[name].value for name in "ab"] == pytest.approx([0.004, 0.007])
    else:
        assert found["a"].value is None
        assert "the last of 6 tries" in found["a"].reason


def test_segments_that_do_not_follow_say_no_ratio():
    """A gap in between: the pace may have changed, so the two segments are not compared."""
    turns = Turns(2)
    for seconds in (1.0, 1.0, 1.0):
        turns.add(0, seconds)
        turns.add(1, 2 * seconds)
        turns.add(0, None)
    turns.add(1, 20.0)
    assert turns.follows == [False, True, False, True, False, True, False]
    assert [round(2.718281828**each.log, 6) for each in turns.figures()][1] / 2 == pytest.approx(
        2.718281828 ** turns.figures()[0].log, rel=1e-4
    )
