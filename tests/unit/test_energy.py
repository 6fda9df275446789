"""The energy reader on boards whose true energy is known, and the figure's status when they
misbehave.
"""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from nas.bench.energy_reader import CountingBoard, energy_errors, rms
from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.meters.watch import DeviceState
from nas.measuring.methods import certify_energy, energy, latency
from nas.measuring.methods.timing import as_noisy
from nas.testing.fake_meter import FakeMeter

PLAN = MeasurementPlan(batch_size=4)


class Powered(FakeMeter):
    """A board without a counter, whose power sensors show the given watts."""

    power_kinds = ("instant", "average")

    def __init__(self, **watts):
        super().__init__()
        self._watts = watts

    def power_w(self, kind):
        return self._watts[kind] if kind in self._watts else super().power_w(kind)


class CoolingBoard(FakeMeter):
    """A board of 250 W that draws only 125 W in the first 0.45 s of work after a pause."""

    def __init__(self):
        super().__init__()
        self._times_s, self._energies_j, self._worked_s = [0.0], [1.0], 0.0

    def work(self, seconds):
        self._draw(seconds, 250 if self._worked_s > 0.45 else 125)
        self._worked_s += seconds

    def sleep(self, seconds):
        self._draw(seconds, 50)
        self._worked_s = 0.0

    def _draw(self, seconds, power_w):
        self.now_s += seconds
        self._times_s.append(self.now_s)
        self._energies_j.append(self._energies_j[-1] + seconds * power_w)

    def energy_j(self):
        step_s = math.floor(self.now_s / 0.1) * 0.1
        return float(np.interp(step_s, self._times_s, self._energies_j))


class SharedPackage(FakeMeter):
    """A processor whose counter has the energy of all processes: 10 W for this one, and 10 W for
    each core of others. `others` is how many cores they use, and `waiting` the share of the time in
    which this process waits for a core.
    """

    def __init__(self, others=0.0, waiting=0.0, cores=2):
        super().__init__(power_w=10 * (1 + others), step_s=0.001)
        self.device = replace(self.device, kind="cpu")
        self.cores, self._others, self._waiting = cores, others, waiting

    def work(self, seconds):
        super().work(seconds)
        self.foreign_s += self._others * seconds
        self.waited_s += self._waiting * seconds


def measured_energy(meter, seconds=0.002):
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
    """Each of fifty windows of a second is within 0.5 %. A counter that steps every millisecond
    needs no alignment.
    """
    errors = energy_errors(CountingBoard(250, period_s), 250, piece_s=piece_s)
    assert errors.alignment == alignment
    assert max(map(abs, errors.reader)) <= 0.005


def test_the_naive_error_agrees_with_theory():
    """Two bare readings a second apart on steps of 100 ms are off by T / (sqrt(6) W), that is
    4.1 % rms, within its scatter.
    """
    errors = energy_errors(CountingBoard(250), 250, sessions=400)
    assert rms(errors.naive) == pytest.approx(0.1 / 6**0.5 / 1.05, rel=0.15)


def test_a_counter_without_rhythm_is_not_used():
    """Windows cannot be aligned to irregular steps. Without another sensor there is a reason and no
    value.
    """
    rng, meter = random.Random(1), FakeMeter(power_w=250)
    moments = [0.0]
    while moments[-1] < 60:
        moments.append(moments[-1] + rng.uniform(0.02, 0.3))
    meter.energy_j = lambda: 1 + 250 * max(moment for moment in moments if moment <= meter.now_s)
    figure = measured_energy(meter)
    assert (figure.status, figure.value) == (Status.UNAVAILABLE, None)
    assert "no rhythm" in figure.reason


@pytest.mark.parametrize(
    ("watts", "method"),
    [({"instant": 200, "average": 300}, "instant power"), ({"average": 200}, "averaged over 1 s")],
)
def test_power_is_integrated_without_a_counter(watts, method):
    """200 W and 2 ms for a batch of 4 are 0.1 J per frame. The method and the missing sensors are
    named.
    """
    figure = measured_energy(Powered(**watts))
    rejections = figure.details["passed_over"]
    assert figure.value == pytest.approx(0.1)
    assert method in figure.method
    assert "the fake meter has no energy counter" in rejections
    assert ("no sensor of instant power" in rejections) == ("instant" not in watts)


def test_a_figure_without_a_sensor_has_no_looks_of_another():
    """Looks taken during latency are not stored with energy that could not be measured after it."""
    meter = FakeMeter()
    meter.state_at = lambda now_s: DeviceState(time_s=now_s, sm_clock_mhz=1000 + int(now_s))
    figure = latency(lambda: meter.work(0.002), meter, PLAN)
    assert figure.details["watch"]["looks"] >= 1
    assert measured_energy(meter).details.get("watch", {}).get("sm_clock_mhz", []) == []


def test_sensors_that_read_0_w_give_no_energy():
    """Each gives a reason, and the value is missing instead of 0 J."""
    figure = measured_energy(Powered(instant=0, average=0))
    assert (figure.status, figure.value) == (Status.UNAVAILABLE, None)
    assert "instant power reads 0 W" in figure.reason
    assert "average power reads 0 W" in figure.reason


def test_the_method_stays_when_the_counter_fails_later():
    """A counter that stops after the first figure gives no second one, although power could be
    read.
    """
    meter = Powered(instant=250)
    counter = FakeMeter(power_w=250)

    def energy_j():
        counter.now_s = min(meter.now_s, stop_s)
        return counter.energy_j()

    meter.energy_j, stop_s = energy_j, 1e9
    first = measured_energy(meter)
    stop_s = meter.now_s
    second = measured_energy(meter)
    assert (first.status, second.status, second.value) == (Status.OK, Status.UNAVAILABLE, None)
    assert "stood still" in second.reason


def test_each_load_has_its_alignment_and_all_have_one_method():
    """After a network with pieces of 2 ms, one with batches of 30 ms is as exact and comparable
    with it.
    """
    meter = FakeMeter(power_w=250, phase_s=0.037)
    short, long = measured_energy(meter), measured_energy(meter, 0.03)
    assert (short.details["alignment"], long.details["alignment"]) == ("watched", "phase-locked")
    assert short.method == long.method
    assert (short.value, long.value) == pytest.approx((250 * 0.002 / 4, 250 * 0.03 / 4), rel=0.002)


def test_slow_batches_are_measured_on_a_warm_device():
    """The rhythm of the counter is found while the device idles, since the batches take 30 ms. The
    windows begin after its clocks have come back.
    """
    figure = measured_energy(CoolingBoard(), 0.03)
    assert figure.details["alignment"] == "phase-locked"
    assert figure.value == pytest.approx(250 * 0.03 / 4, rel=0.005)
    assert figure.details["power_w"] == pytest.approx([250] * 4, rel=0.005)


def test_joules_of_a_processor_beside_a_busy_neighbour_are_noisy():
    """The counter has the neighbour's joules too, and nothing can tell them apart."""
    figure = measured_energy(SharedPackage(others=1.0))
    assert (figure.status, figure.reason) == (
        Status.NOISY,
        "other processes used 1.0 of 1 free cores",
    )
    assert measured_energy(SharedPackage(others=0.4)).status is Status.OK


def test_joules_of_a_process_that_waits_for_a_core_have_no_value():
    """A search that takes what it gets beside others records the windows as noisy."""
    figure = measured_energy(SharedPackage(waiting=0.1))
    assert (figure.status, figure.value) == (Status.CONTENDED, None)
    assert figure.reason == "this process waited for a core 10% of the time; stop the others"
    assert as_noisy(figure).status is Status.NOISY
    assert as_noisy(figure).value == pytest.approx(10 * 0.002 / 4)


@pytest.mark.parametrize(
    ("meter", "reason"),
    [
        (SharedPackage(others=1.0), "other processes used 1.0 of 1 free cores"),
        (SharedPackage(waiting=0.1), "other processes held the cores"),
    ],
    ids=["neighbour", "waiting"],
)
def test_no_joules_of_a_processor_are_certified_beside_others(meter, reason):
    """The joules of others do not cancel in the ratio to the reference."""
    figure = certified_energy(meter)
    assert (figure.status, figure.value) == (Status.CONTENDED, None)
    assert reason in figure.reason


def test_joules_on_all_cores_are_certified():
    """No core is left free, so a little work of others is no reason against them."""
    figure = certified_energy(SharedPackage(others=0.01, cores=1))
    assert figure.status is Status.OK, figure.reason


def certified_energy(meter):
    return certify_energy(
        {"net": meter.network(0.004)}, meter.network(0.002), meter, PLAN, sleep=meter.sleep
    )["net"]
