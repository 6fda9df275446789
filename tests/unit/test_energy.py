"""The energy reader on boards whose truth is known, and what a figure of joules says when they
misbehave.
"""

import random

import pytest

from nas.bench.energy_reader import CountingBoard, energy_errors, rms
from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.meters.watch import DeviceState
from nas.measuring.methods import energy, latency
from nas.testing.fake_meter import FakeMeter

PLAN = MeasurementPlan(batch_size=4)


class Powered(FakeMeter):
    """A board without a counter, whose power sensors show what the test says."""

    power_kinds = ("instant", "average")

    def __init__(self, **watts):
        super().__init__()
        self._watts = watts

    def power_w(self, kind):
        return self._watts[kind] if kind in self._watts else super().power_w(kind)


def joules(meter, seconds=0.002):
    return energy(lambda: meter.work(seconds), meter, PLAN)


@pytest.mark.parametrize(
    ("piece_s", "period_s", "alignment"),
    [
        (0.0005, 0.02, "watched"),
        (0.004, 0.1, "watched"),
        (0.02, 0.02, "phase-locked"),
        (0.13, 0.1, "phase-locked"),
        (0.05, 0.001, "every reading"),
    ],
)
def test_windows_are_exact_for_any_work_and_rhythm(piece_s, period_s, alignment):
    """Each of fifty windows of a second is within 0.5 %; a counter that steps each millisecond
    needs no alignment.
    """
    found = energy_errors(CountingBoard(250, period_s), 250, piece_s=piece_s)
    assert found.alignment == alignment
    assert max(map(abs, found.reader)) <= 0.005


def test_the_naive_error_is_that_of_theory():
    """Two bare readings a second apart on steps of 100 ms: T / (sqrt(6) W), that is 4.1 % rms,
    within its scatter.
    """
    found = energy_errors(CountingBoard(250), 250, sessions=400)
    assert rms(found.naive) == pytest.approx(0.1 / 6**0.5 / 1.05, rel=0.15)


def test_a_counter_without_rhythm_is_passed_over():
    """Steps that come when they like cannot be aligned to; with no other sensor there is a reason
    and no value.
    """
    rng, meter = random.Random(1), FakeMeter(power_w=250)
    moments = [0.0]
    while moments[-1] < 60:
        moments.append(moments[-1] + rng.uniform(0.02, 0.3))
    meter.energy_j = lambda: 1 + 250 * max(moment for moment in moments if moment <= meter.now_s)
    found = joules(meter)
    assert (found.status, found.value) == (Status.UNAVAILABLE, None)
    assert "no rhythm" in found.reason


@pytest.mark.parametrize(
    ("watts", "method"),
    [({"instant": 200, "average": 300}, "instant power"), ({"average": 200}, "averaged over 1 s")],
)
def test_power_is_summed_where_there_is_no_counter(watts, method):
    """200 W and 2 ms for a batch of 4 are 0.1 J per frame; the method and what was missing are
    named.
    """
    found = joules(Powered(**watts))
    assert found.value == pytest.approx(0.1)
    assert method in found.method
    assert "the fake meter has no energy counter" in found.details["passed_over"]
    assert ("no sensor of instant power" in found.details["passed_over"]) == (
        "instant" not in watts
    )


def test_a_figure_without_a_sensor_has_no_looks_of_another():
    """What was seen during latency is not kept with energy that could not be measured after it."""
    meter = FakeMeter()
    meter.state_at = lambda now_s: DeviceState(time_s=now_s, sm_clock_mhz=1000 + int(now_s))
    taken = latency(lambda: meter.work(0.002), meter, PLAN)
    assert taken.details["watch"]["looks"] >= 1
    assert joules(meter).details.get("watch", {}).get("sm_clock_mhz", []) == []


def test_no_watts_are_no_joules():
    """Sensors that read 0 W under load give a reason each, and not 0 J."""
    found = joules(Powered(instant=0, average=0))
    assert (found.status, found.value) == (Status.UNAVAILABLE, None)
    assert "instant power reads 0 W" in found.reason
    assert "average power reads 0 W" in found.reason


def test_the_way_stays_when_the_counter_fails_later():
    """A counter that stops after the first figure gives no second one, though power could be
    read.
    """
    meter = Powered(instant=250)
    counter = FakeMeter(power_w=250)

    def energy_j():
        counter.now_s = min(meter.now_s, stop_s)
        return counter.energy_j()

    meter.energy_j, stop_s = energy_j, 1e9
    first = joules(meter)
    stop_s = meter.now_s
    second = joules(meter)
    assert (first.status, second.status, second.value) == (Status.OK, Status.UNAVAILABLE, None)
    assert "stood still" in second.reason


def test_each_load_has_its_alignment_and_all_one_method():
    """After a network with pieces of 2 ms one whose batches take 30 ms is as exact, and may stand
    beside it.
    """
    meter = FakeMeter(power_w=250, phase_s=0.037)
    short, long = joules(meter), joules(meter, 0.03)
    assert (short.details["alignment"], long.details["alignment"]) == ("watched", "phase-locked")
    assert short.method == long.method
    assert (short.value, long.value) == pytest.approx((250 * 0.002 / 4, 250 * 0.03 / 4), rel=0.002)
