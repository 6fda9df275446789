"""Cycles against a reference on a fake clock: drift cancels, and the interval holds the true ratio,
for latency and for joules.
"""

import math
import random
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from nas.bench.simulated_device import DriftingDevice
from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.meters.watch import DeviceState
from nas.measuring.methods.certify import SHARED_CPU_CYCLES, Cycles, certify, certify_energy
from nas.measuring.methods.interval import median_interval
from nas.testing.fake_meter import FakeMeter, SharedCpu

PLAN = MeasurementPlan(block_s=0.1)
RATIO = 1.7


def run(meter, candidates, **changes):
    return certify(
        {name: meter.network(seconds) for name, seconds in candidates.items()},
        meter.network(0.1),
        meter,
        PLAN,
        sleep=meter.sleep,
        **changes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_the_interval_holds_the_true_ratio(noise):
    """In at least 92 % of 300 sessions with warming, clock steps and correlated noise, the 95 %
    interval holds the true ratio. The plain interval on one run's blocks holds its true time far
    less often.
    """
    covered = plain = 0
    for seed in range(300):
        details = run(DriftingDevice(seed, noise), {"net": RATIO * 0.1}, seed=seed)["net"].details
        covered += details["ratio_low"] <= RATIO <= details["ratio_high"]
        meter = DriftingDevice(seed, noise)
        alone, blocks = meter.network(0.1), []
        for _ in range(60):
            start_s = meter.now_s
            alone()
            blocks.append(meter.now_s - start_s)
        interval = median_interval(blocks)
        late = DriftingDevice(seed, 0)  # the same network ten minutes later, warm and with no noise
        late.now_s = 600.0
        start_s = late.now_s
        late.network(0.1)()
        plain += interval.low <= late.now_s - start_s <= interval.high
    assert covered >= 0.92 * 300
    assert plain < 0.5 * 300


def test_a_copy_of_the_reference_is_as_fast():
    """The ratio of a network to its copy is within 1 % of 1 in at least 95 % of 60 sessions with
    0.3 % noise, and no session takes more than 45 s of cycles.
    """
    close = 0
    for seed in range(60):
        meter = DriftingDevice(seed, 0.003)
        found = run(meter, {"copy": 0.1}, seed=seed)["copy"]
        close += abs(found.details["ratio"] - 1) <= 0.01
        assert len(found.details["ratios"]) * 7 + 2 <= 45
    assert close >= 57


def test_candidates_are_interleaved_in_changing_order():
    """Each ratio of three candidates in one session is right, and the order is not the same in
    every round.
    """
    meter, order = DriftingDevice(1, 0.002), []

    def noted(name, seconds):
        network = meter.network(seconds)

        def call():
            if not order or order[-1] != name:
                order.append(name)
            network()

        return call

    found = certify(
        {"a": noted("a", 0.05), "b": noted("b", 0.1), "c": noted("c", 0.2)},
        noted("R", 0.1),
        meter,
        PLAN,
        sleep=meter.sleep,
        seed=3,
    )
    assert [found[name].details["ratio"] for name in "abc"] == pytest.approx([0.5, 1, 2], rel=0.01)
    turns = [name for name in order[5:] if name != "R"]  # after the warm-ups
    rounds = {tuple(turns[index : index + 3]) for index in range(0, len(turns) - 2, 3)}
    assert len(rounds) > 1
    assert all("R" in pair for pair in pairwise(order[5:]))


def test_a_reference_that_jumps_gives_no_value():
    """A device that changes its pace by a tenth every 3 s is throttled, and the session ends."""
    meter = FakeMeter()

    def jumping():
        meter.work(0.1 * (1.1 if int(meter.now_s / 3) % 2 else 1.0))

    found = certify({"net": jumping}, jumping, meter, PLAN, sleep=meter.sleep)["net"]
    if found.value is None:
        assert found.status is Status.THROTTLED
        assert "the reference changed by" in found.reason
    assert len(found.details["rejected"]) > 0
    assert meter.now_s < 400


def test_neighbours_that_hold_the_cores_leave_no_value():
    """Every block waited for a core: there is a reason and no value."""
    meter = FakeMeter()

    def beside():
        meter.work(0.1)
        meter.waited_s += 0.01

    found = certify({"net": beside}, beside, meter, PLAN, sleep=meter.sleep)["net"]
    assert (found.status, found.value) == (Status.CONTENDED, None)
    assert "other processes held the cores" in found.reason


def test_noise_ends_at_the_most_cycles():
    """With 10 % noise in every call the value is noisy after twelve cycles."""
    meter, rng = FakeMeter(), random.Random(7)

    def noisy():
        meter.work(0.1 * (1 + rng.uniform(-0.1, 0.1)))

    found = certify(
        {"net": noisy},
        noisy,
        meter,
        PLAN,
        sleep=meter.sleep,
        cycles=Cycles(max_reference_change=1, max_half_width=1e-4),
    )["net"]
    assert (found.status, len(found.samples)) == (Status.NOISY, 12)
    assert found.ci_low < found.value < found.ci_high


def test_cycles_in_which_the_device_slowed_down_are_run_again():
    """A device is too hot and slower for 8 s in the middle. These cycles are rejected, and the
    ratio is right.
    """
    meter = FakeMeter()

    def hot():
        return 20 < meter.now_s < 28

    meter.state_at = lambda now_s: DeviceState(
        time_s=now_s, sm_clock_mhz=1980, slowed=("hardware thermal slowdown",) * hot()
    )
    found = certify(
        {"net": lambda: meter.work(0.17 * (1 + hot()))},
        lambda: meter.work(0.1 * (1 + hot())),
        meter,
        PLAN,
        sleep=meter.sleep,
    )["net"]
    assert found.status is Status.OK
    assert found.details["ratio"] == pytest.approx(RATIO)
    assert any("hardware thermal slowdown" in reason for reason in found.details["rejected"])


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"slowed": ("power brake",)}, Status.THROTTLED, "power brake"),
        ({"busy": {7: 30}}, Status.CONTENDED, "process 7 used up to 30 %"),
    ],
)
def test_a_device_that_is_always_disturbed_certifies_nothing(change, status, reason):
    """After seven rejected cycles there are a status and a reason, and no value."""
    meter = FakeMeter()
    meter.state_at = lambda now_s: DeviceState(time_s=now_s, **change)
    found = certify(
        {"net": lambda: meter.work(0.17)}, lambda: meter.work(0.1), meter, PLAN, sleep=meter.sleep
    )["net"]
    assert (found.status, found.value, len(found.details["rejected"])) == (status, None, 7)
    assert reason in found.reason


def test_a_reference_that_jumps_beside_busy_neighbours_is_contended():
    """The reason names the processes that use the one core that is left free."""
    meter = FakeMeter()

    def jumping():
        meter.work(0.1 * (1.3 if int(meter.now_s / 3) % 2 else 1.0))
        meter.foreign_s += 0.1

    found = certify({"net": jumping}, jumping, meter, PLAN, sleep=meter.sleep)["net"]
    assert any(
        "while other processes used" in reason and "of 1 free cores" in reason
        for reason in found.details["rejected"]
    )
    assert found.value is not None or found.status is Status.CONTENDED


@pytest.mark.parametrize("until_s", [3.0, 1e9])
def test_a_neighbour_with_a_hidden_process_is_noticed_while_the_device_should_idle(until_s):
    """A device that is 40 % busy while this program runs nothing certifies nothing meanwhile."""
    meter = FakeMeter()
    meter.state_at = lambda now_s: DeviceState(time_s=now_s)
    meter.busy_percent_at = lambda now_s: 40 if now_s < until_s else 0
    found = certify(
        {"net": lambda: meter.work(0.17)}, lambda: meter.work(0.1), meter, PLAN, sleep=meter.work
    )["net"]
    assert any("40 % busy" in reason for reason in found.details["rejected"])
    assert (found.status is Status.OK) == (until_s < 1e9)
    assert (found.value is None) == (found.status is Status.CONTENDED)


@pytest.mark.parametrize(("ends_s", "waited_s"), [(20, 20.5), (math.inf, 60)])
def test_busy_neighbours_are_waited_for(ends_s, waited_s):
    """Nothing is timed while a neighbour uses the free core for 20 s, and the wait ends with the
    next look after half a second. A wait for a neighbour that never ends takes 60 s.
    """
    meter, slept = FakeMeter(), []

    def sleep(seconds):
        meter.foreign_s += seconds if sum(slept) < ends_s else 0
        meter.work(seconds)
        slept.append(seconds)

    found = certify(
        {"net": lambda: meter.work(0.1)}, lambda: meter.work(0.1), meter, PLAN, sleep=sleep
    )["net"]
    assert found.status is Status.OK
    assert sum(slept) == pytest.approx(waited_s)


def at_clocks(candidate_s, candidate_mhz, *, capped=False):
    """Certify a candidate against a reference of 0.1 s at 1980 MHz."""
    meter, working = FakeMeter(), ["R"]

    def network(name, seconds):
        def call():
            working[0] = name
            meter.work(seconds)

        return call

    meter.state_at = lambda now_s: DeviceState(
        time_s=now_s, power_capped=capped, sm_clock_mhz=1980 if working[0] == "R" else candidate_mhz
    )
    return certify(
        {"net": network("net", candidate_s)}, network("R", 0.1), meter, PLAN, sleep=meter.sleep
    )["net"]


@pytest.mark.parametrize(
    ("candidate_mhz", "capped", "status"),
    [(1960, False, Status.OK), (1900, False, Status.THROTTLED), (1900, True, Status.OK)],
)
def test_a_candidate_at_another_clock_has_no_value(candidate_mhz, capped, status):
    """A mean clock 4 % below the reference's leaves no value, unless the board is at its power
    limit. A clock 1 % below it does not matter.
    """
    found = at_clocks(0.17, candidate_mhz, capped=capped)
    assert found.status is status
    assert (found.value is None) == (status is Status.THROTTLED)
    if found.value is None:
        assert re.search(
            "clock was 19[0-9]{2} MHz on average, and 19[0-9]{2} MHz with the reference",
            found.reason,
        )


@pytest.mark.parametrize(
    ("candidate_s", "candidate_mhz", "confounded"),
    [(0.0985, 1980, False), (0.0985, 2020, True), (0.095, 2020, False), (0.1, 2020, False)],
)
def test_a_candidate_that_is_faster_by_its_clock_only_is_confounded(
    candidate_s, candidate_mhz, confounded
):
    """A candidate that is 1.5 % faster at the same clock is really faster. At a clock that is 2 %
    higher it is not, but one that is 5 % faster is. One with equal seconds claims nothing.
    """
    found = at_clocks(candidate_s, candidate_mhz)
    assert found.details["ratio_in_clock_cycles"] == pytest.approx(
        candidate_s * candidate_mhz / 198, rel=2e-3
    )
    assert found.value == pytest.approx(candidate_s)
    assert found.status is (Status.NOISY if confounded else Status.OK)
    assert ("clock confounded" in found.reason) == confounded


class WarmingBoard(FakeMeter):
    """A board that becomes 2 % slower as it warms. It has a counter at 250 W, or if `summed`,
    instant power that rises by 3 %.
    """

    def __init__(self, summed=False):
        super().__init__(power_w=None if summed else 250)
        self.power_kinds = ("instant",) if summed else ()

    def warmth(self):
        return 1 - math.exp(-self.now_s / 60)

    def network(self, seconds):
        return lambda: self.work(seconds * (1 + 0.02 * self.warmth()))

    def power_w(self, kind):
        assert kind == "instant"
        return 250 * (1 + 0.03 * self.warmth())


@pytest.mark.parametrize("summed", [False, True])
def test_joules_in_cycles(summed):
    """A network needs 1.7 times the reference's joules on a warming board. The ratio is right to
    0.5 %, and the joules are those of this session. If power is summed, segments are 10 s long.
    """
    meter = WarmingBoard(summed)
    took = certify_energy(
        {"net": meter.network(0.0034)}, meter.network(0.002), meter, PLAN, sleep=meter.sleep
    )["net"]
    assert (took.metric, took.unit, took.status) == ("energy", "J", Status.OK)
    assert took.details["ratio"] == pytest.approx(RATIO, rel=0.005)
    assert 250 * 0.0034 <= took.value <= 250 * 0.0034 * 1.06
    assert len(took.details["candidate_j"]) == len(took.details["ratios"]) >= 4
    assert ("instant power" in took.method) == summed
    assert (meter.now_s > 4 * 20) == summed


def test_joules_that_cannot_be_had_have_a_reason():
    """No sensor, and a counter that is reset in the middle: unavailable for every candidate, with
    the reason.
    """
    blind = FakeMeter()
    found = certify_energy(
        {"a": lambda: blind.work(0.002), "b": lambda: blind.work(0.003)},
        lambda: blind.work(0.002),
        blind,
        PLAN,
        sleep=blind.sleep,
    )
    assert {(each.status, each.value) for each in found.values()} == {(Status.UNAVAILABLE, None)}
    assert "no energy counter" in found["a"].reason
    meter = FakeMeter(power_w=250)
    true_j = meter.energy_j
    meter.energy_j = lambda: true_j() - (5000 if meter.now_s > 23 else 0)
    found = certify_energy(
        {"net": lambda: meter.work(0.002)},
        lambda: meter.work(0.002),
        meter,
        PLAN,
        sleep=meter.sleep,
    )["net"]
    assert (found.status, found.value) == (Status.UNAVAILABLE, None)
    assert "went back" in found.reason


def test_on_a_shared_cpu_many_short_cycles_cancel_what_few_long_ones_cannot():
    """The pace wanders by 3 % several times a second. The ratio is within 2 % of the true one in at
    least 38 of 40 sessions, and the interval holds it in at least 37, in less than a minute each.
    The default cycles are all rejected, or off by more than that in several sessions.
    """
    close = held = long_ones = 0
    for seed in range(40):
        meter = SharedCpu(seed)
        found = run_short(meter, RATIO, seed)
        assert found.value is not None
        close += abs(found.details["ratio"] / RATIO - 1) <= 0.02
        held += found.details["ratio_low"] <= RATIO <= found.details["ratio_high"]
        assert found.details["shared_with"] == "KVM"
        assert meter.now_s < 60
        meter = SharedCpu(seed)
        protocol = run_short(meter, RATIO, seed, cycles=Cycles())
        long_ones += (
            protocol.value is not None and abs(protocol.details["ratio"] / RATIO - 1) <= 0.02
        )
    assert close >= 38
    assert held >= 37
    assert long_ones < 30


def run_short(meter, ratio, seed, **changes):
    return certify(
        {"net": meter.network(0.004 * ratio)},
        meter.network(0.004),
        meter,
        MeasurementPlan(),
        sleep=meter.sleep,
        seed=seed,
        **changes,
    )["net"]


@pytest.mark.parametrize(("busy_s", "value"), [(3.0, True), (math.inf, False)])
def test_on_a_shared_cpu_no_cycle_counts_beside_a_neighbour_in_sight(busy_s, value):
    """A neighbour begins in the middle and uses the free core. Cycles beside it are rejected, the
    others count. One that does not end leaves no value, with status `contended`.
    """
    meter = SharedCpu(spread=0.001)

    def beside(seconds):
        call = meter.network(seconds)

        def slowed():
            began_s = meter.now_s
            busy = 5 < began_s < 5 + busy_s
            call()
            if busy:
                meter.work(meter.now_s - began_s)  # twice as slow beside it
                meter.foreign_s += meter.now_s - began_s

        return slowed

    def sleep(seconds):
        meter.foreign_s += seconds if 5 < meter.now_s < 5 + busy_s else 0
        meter.work(seconds)

    found = certify(
        {"net": beside(0.0068)},
        beside(0.004),
        meter,
        MeasurementPlan(),
        sleep=sleep,
        cycles=replace(SHARED_CPU_CYCLES, max_half_width=1e-4),
    )["net"]
    assert any("of 1 free cores" in reason for reason in found.details["rejected"])
    if value:
        assert found.details["ratio"] == pytest.approx(RATIO, rel=0.01)
    else:
        assert (found.status, found.value) == (Status.CONTENDED, None)


def test_segments_of_copies_alternate():
    """Three copies are 1.0, 1.1 and 1.2 times as slow as they should be, and the reference has two
    copies. The ratio is that of the middle ones, and no copy had more than one segment more than
    another.
    """
    meter, segments, last = SharedCpu(spread=0.001), [], [None]

    def copy(name, seconds):
        def call():
            if last[0] != name:
                segments.append(name)
                last[0] = name
            meter.work(seconds)

        return call

    found = certify(
        {"net": [copy(f"net {share}", 0.004 * share) for share in (1.0, 1.1, 1.2)]},
        [copy("R 0", 0.0019), copy("R 1", 0.0021)],
        meter,
        MeasurementPlan(),
        sleep=meter.sleep,
        cycles=replace(SHARED_CPU_CYCLES, min_cycles=90, max_cycles=90),
    )["net"]
    assert (len(found.details["ratios"]), found.details["copies"]) == (90, 3)
    assert found.details["ratio"] == pytest.approx(2.2, rel=0.05)
    counts = Counter(segments)
    assert {name: counts[name] - (name in {"net 1.0", "R 0"}) for name in counts} == {
        "net 1.0": 30,
        "net 1.1": 30,
        "net 1.2": 30,
        "R 0": pytest.approx(45.5, abs=0.5),
        "R 1": pytest.approx(45.5, abs=0.5),
    }  # those with a warm-up have one more


def test_a_slow_network_has_longer_segments():
    """Calls of 0.3 s do not fit a tenth of a second. Therefore each segment has four calls, the
    first of which is dropped.
    """
    meter = SharedCpu(spread=0.001)
    found = certify(
        {"net": meter.network(0.3)}, meter.network(0.15), meter, PLAN, sleep=meter.sleep
    )["net"]
    assert (found.status, len(found.details["rejected"])) == (Status.OK, 0)
    assert found.details["ratio"] == pytest.approx(2, rel=0.01)
