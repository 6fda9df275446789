"""Latency before and after a load, on made-up devices that become warm."""

import math

import pytest

from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.meters.watch import DeviceState
from nas.measuring.methods.hot import Heating, hot_latency
from nas.testing.fake_meter import FakeMeter

PLAN = MeasurementPlan()


class Board(FakeMeter):
    """A device that load warms from 40 to 80 °C with a time constant of 60 s. From 60 °C on it
    slows itself down, by up to a third at 80 °C.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state_at = lambda now_s: DeviceState(
            time_s=now_s,
            temperature_c=round(self.warmth_c(now_s)),
            slowed=("cooling by cpufreq",) if self.warmth_c(now_s) > 60 else (),
        )

    @staticmethod
    def warmth_c(now_s):
        return 80 - 40 * math.exp(-now_s / 60)

    def call(self):
        """Run the network, which takes 2 ms on the cool board."""
        self.work(0.002 * (1 + max(self.warmth_c(self.now_s) - 60, 0) / 40))


def test_a_board_is_measured_before_and_after_it_slowed_down():
    """It begins with 2 ms and ends near 3 ms. When it warmed by 1 °C in 30 s, less than 3 °C are to
    come, which are 5 % of the pace. Its slowdown is no reason against the settled figure.
    """
    board = Board()
    first, settled = hot_latency(board.call, board, PLAN)
    assert (first.metric, settled.metric) == ("latency", "hot_latency")
    assert first.value == pytest.approx(0.002)
    assert 0.003 * 0.95 < settled.value <= 0.003
    assert (first.status, settled.status) == (Status.OK, Status.OK)
    assert settled.details["first"]["value"] == first.value
    load = settled.details["load"]
    assert load["temperatures_c"][-1] - load["temperatures_c"][-4] <= 1
    assert 60 <= load["seconds"] < 600
    assert settled.details["watch"]["slowed"] == {"cooling by cpufreq": pytest.approx(5, abs=5)}


def test_a_steady_device_without_sensors_has_settled_after_a_minute():
    meter = FakeMeter()
    first, settled = hot_latency(meter.network(0.004), meter, PLAN)
    assert settled.value == pytest.approx(first.value)
    assert settled.status is Status.OK
    assert 60 <= settled.details["load"]["seconds"] < 70.1
    assert set(settled.details["load"]["temperatures_c"]) == {None}


def test_a_pace_that_keeps_falling_is_noisy():
    """After the longest load the settled figure says so."""
    meter = FakeMeter()
    heating = Heating(max_s=100.0)
    run = lambda: meter.work(0.001 * (1 + meter.now_s / 100))  # noqa: E731 - the whole network
    _, settled = hot_latency(run, meter, PLAN, heating=heating)
    assert settled.status is Status.NOISY
    assert "the pace had not settled after 10" in settled.reason


def test_another_process_on_the_hot_device_leaves_no_settled_value():
    """The first figure stays."""
    board = Board()
    cool = board.state_at
    board.state_at = lambda now_s: DeviceState(
        time_s=now_s, temperature_c=cool(now_s).temperature_c, busy={7: 90 if now_s > 60 else 0}
    )
    first, settled = hot_latency(board.call, board, PLAN)
    assert first.status is Status.OK
    assert settled.status is Status.CONTENDED
    assert "process 7 used up to 90 % of it" in settled.reason
    assert settled.value is None
