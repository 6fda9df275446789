"""Interleaved latency on a fake clock: a pace that wanders hits all networks alike and cancels."""

import math
import random
import statistics

import pytest
from scipy.stats import kendalltau

from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.meters.watch import DeviceState
from nas.measuring.methods import interleaved_latency, latency
from nas.measuring.methods.interleaved import Segments
from nas.testing.fake_meter import FakeMeter, SharedCpu

PLAN = MeasurementPlan()
SECONDS = {f"net-{index}": 0.003 * 1.02**index for index in range(20)}


def interleaved(meter, seed, seconds=SECONDS, plan=PLAN):
    """Measure networks whose calls take these seconds at the first pace."""
    return interleaved_latency(
        {name: meter.network(each) for name, each in seconds.items()}, meter, plan, seed=seed
    )


def test_interleaved_passes_rank_networks_that_separate_ones_do_not():
    """Twenty networks are 2 % apart on a CPU whose pace wanders by 3 % several times a second.

    Kendall's tau of a pass with the truth is at least 0.95 in the mean of ten passes, and below 0.9
    if each network is timed alone. A network takes little more than 2 s beyond its warm-up. The
    interval holds the truth, apart from the level that all networks share.
    """
    taus, alone, held = [], [], 0
    for seed in range(10):
        meter = SharedCpu(seed)
        found = interleaved(meter, seed)
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


def test_a_calm_device_needs_eight_rounds():
    """Every figure is the network's seconds."""
    found = interleaved(FakeMeter(), 0, {"a": 0.004, "b": 0.007})
    assert [found[name].value for name in "ab"] == pytest.approx([0.004, 0.007])
    assert {
        (each.status, each.details["rounds"], len(each.samples)) for each in found.values()
    } == {(Status.OK, 8, 8)}
    assert "turns among 2 networks" in found["a"].method


def test_a_wide_interval_is_noisy():
    """Calls that scatter by a tenth leave an interval that is too wide after the plan's time."""
    meter, rng = FakeMeter(), random.Random(3)
    runs = {name: lambda: meter.work(0.03 * (1 + rng.uniform(-0.3, 0.3))) for name in "ab"}
    found = interleaved_latency(runs, meter, PLAN, seed=0)["a"]
    assert found.status is Status.NOISY
    assert "the plan requires ±2.0%" in found.reason
    assert found.ci_low < found.value < found.ci_high


def beside_others(*, waited_s=0.0, foreign_s=0.0):
    """Measure two networks whose calls of 5 ms wait this long for a core, while other processes
    work this long.
    """
    meter = FakeMeter()

    def call():
        meter.work(0.005)
        meter.waited_s += waited_s
        meter.foreign_s += foreign_s

    return interleaved_latency({"a": call, "b": call}, meter, PLAN, seed=0)


def test_other_processes_that_hold_the_cores_leave_no_value():
    """Every block waited for a core: each network has a reason and no value."""
    found = beside_others(waited_s=0.001)
    assert {(each.status, each.value) for each in found.values()} == {(Status.CONTENDED, None)}
    assert "other processes held the cores in" in found["a"].reason


def test_a_neighbour_on_the_free_core_makes_all_networks_noisy():
    """The status is `noisy`, with the neighbour's share in the reason."""
    found = beside_others(foreign_s=0.004)
    assert {each.status for each in found.values()} == {Status.NOISY}
    assert "other processes used 0.8 of 1 free cores" in found["b"].reason


@pytest.mark.parametrize(("until_s", "status"), [(8.0, Status.OK), (1e9, Status.THROTTLED)])
def test_rounds_in_which_the_device_slowed_down_are_run_again(until_s, status):
    """A device that is too hot and twice as slow for a while has the right figures after pauses.
    One that stays so has a reason and no value.
    """
    meter = FakeMeter()
    meter.state_at = lambda now_s: DeviceState(
        time_s=now_s, sm_clock_mhz=1980, slowed=("hardware thermal slowdown",) * (now_s < until_s)
    )
    runs = {
        name: lambda each=seconds: meter.work(each * (1 + (meter.now_s < until_s)))
        for name, seconds in {"a": 0.004, "b": 0.007}.items()
    }
    found = interleaved_latency(runs, meter, PLAN, seed=0)
    assert {each.status for each in found.values()} == {status}
    assert all("hardware thermal slowdown" in reason for reason in found["a"].details["spoiled"])
    if status is Status.OK:
        assert [found[name].value for name in "ab"] == pytest.approx([0.004, 0.007])
    else:
        assert found["a"].value is None
        assert "the last of 6 tries" in found["a"].reason


def test_segments_around_a_gap_give_no_ratio():
    """The pace may have changed in the gap, so the two segments are not compared."""
    segments = Segments(2)
    for seconds in (1.0, 1.0, 1.0):
        segments.add(0, seconds)
        segments.add(1, 2 * seconds)
        segments.add(0, None)
    segments.add(1, 20.0)
    assert segments.follows == [False, True, False, True, False, True, False]
    one, two = segments.fits()
    assert math.exp(two.log_s - one.log_s) == pytest.approx(2, rel=1e-4)
