"""Methods of measurement on a fake meter: known times in, known figures out, and no sleeping."""

import math
import random
import statistics
from dataclasses import replace

import pytest
import torch
from torch import nn

from nas.core.errors import InvalidValueError, TrialFailedError
from nas.core.measurement import MeasurementPlan, Precision, Status
from nas.measuring.methods import (
    energy,
    latency,
    median_interval,
    peak_memory,
    prepare,
    prepare_copies,
    single_calls,
)
from nas.measuring.methods.interval import median_rank
from nas.measuring.methods.timing import warm_up
from nas.measuring.runtimes import eager
from nas.measuring.runtimes.torch_model import placed
from nas.testing.fake_meter import FakeMeter

PLAN = MeasurementPlan()


def runner(meter, seconds):
    """Return a network whose calls take `seconds(now)`."""
    return lambda: meter.work(seconds(meter.now_s))


def test_a_constant_pace_is_measured_exactly():
    """A call of 1 ms has a median of 1 ms and an interval without width. Each block lasts at least
    20 ms.
    """
    meter = FakeMeter()
    found = latency(runner(meter, lambda _: 0.001), meter, PLAN)
    assert found.value == pytest.approx(0.001)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.001, 0.001))
    assert found.status is Status.OK
    assert found.plan is PLAN
    assert "20 calls" in found.method or "21 calls" in found.method


def test_outliers_do_not_move_the_median():
    """Call times are log-normal with median 1 ms, and each block is one call. The interval encloses
    1 ms; rare outliers triple the mean.
    """
    meter, rng = FakeMeter(), random.Random(1)
    plan = MeasurementPlan(block_s=1e-9, max_time_s=5, min_time_s=5)
    found = latency(
        runner(
            meter, lambda _: 0.001 * (math.exp(rng.gauss(0, 0.05)) + 40 * (rng.random() < 0.05))
        ),
        meter,
        plan,
    )
    assert found.ci_low <= 0.001 * 1.005
    assert found.ci_high >= 0.001 * 0.995
    assert statistics.fmean(found.samples) > 2.5e-3


def test_a_drifting_warm_up_is_not_in_the_samples():
    """A pace that starts at triple time and settles within a second leaves no trace."""
    meter = FakeMeter()
    found = latency(runner(meter, lambda now: 0.001 * (1 + 2 * math.exp(-now / 0.15))), meter, PLAN)
    assert max(found.samples) < 0.00104
    assert found.value == pytest.approx(0.001, rel=0.02)


def test_a_pace_that_never_settles_is_noisy():
    """The warm-up ends although a call becomes slower by half each second."""
    meter = FakeMeter()
    found = latency(runner(meter, lambda now: 0.001 * 1.5**now), meter, PLAN)
    assert found.status is Status.NOISY
    assert "had not settled after 3.2 s of warm-up" in found.reason


def test_noise_that_stays_is_noisy_and_bounded_in_time():
    """With 30 % noise from block to block the measurement lasts as long as the plan allows, and the
    value has a wide interval.
    """
    meter, rng = FakeMeter(), random.Random(2)
    plan = MeasurementPlan(block_s=1e-9, max_half_width=0.001, warmup_s=0.2)
    found = latency(runner(meter, lambda _: 0.02 * rng.lognormvariate(0, 0.3)), meter, plan)
    assert found.status is Status.NOISY
    assert "the plan requires ±0.1%" in found.reason
    assert found.ci_high - found.ci_low > 0.002 * found.value
    assert meter.now_s < 0.2 * 10 + plan.max_time_s + 1


def test_a_slow_network_gets_a_median_without_interval():
    """A call of 0.7 s leaves three blocks in two seconds. The reason is that they are too few for
    an interval.
    """
    meter = FakeMeter()
    found = latency(runner(meter, lambda _: 0.7), meter, PLAN)
    assert (found.value, found.ci_low, found.ci_high) == (pytest.approx(0.7), None, None)
    assert found.status is Status.NOISY
    assert "only 3 blocks in 2.1 s, an interval needs 6" in found.reason


def test_waiting_for_a_core_leaves_no_value():
    """Every block lost a tenth of its time to other processes: after two tries there is a reason
    and no value.
    """
    meter = FakeMeter()

    def disturbed():
        meter.work(0.001)
        meter.waited_s += 0.0001
        meter.foreign_s += 0.0017

    found = latency(disturbed, meter, PLAN)
    assert (found.status, found.value) == (Status.CONTENDED, None)
    assert "used 1.7 cores" in found.reason
    assert 2 * PLAN.max_time_s < meter.now_s < 2 * PLAN.max_time_s + 10 * PLAN.warmup_s


def test_blocks_that_waited_are_left_out():
    """A neighbour that halves the pace of two blocks in three does not change the figure."""
    meter, rng = FakeMeter(), random.Random(3)

    def disturbed():
        slow = rng.random() < 0.67
        meter.work(0.04 if slow else 0.02)
        meter.waited_s += 0.02 * slow

    found = latency(disturbed, meter, MeasurementPlan(max_time_s=4))
    assert found.value == pytest.approx(0.02)
    assert max(found.samples) == pytest.approx(0.02)


def test_a_crowded_machine_is_noisy():
    """A neighbour that keeps the other core busy shares caches and clocks with this process."""
    meter = FakeMeter()

    def beside():
        meter.work(0.001)
        meter.foreign_s += 0.001

    found = latency(beside, meter, PLAN)
    assert (found.value, found.status) == (pytest.approx(0.001), Status.NOISY)
    assert "1.0 of 1 free cores" in found.reason


def test_percentiles_of_single_calls_are_those_of_the_distribution():
    """Of 1000 calls of 1.001, 1.002, … 2.000 ms in random order, p50, p90 and p99 are 1.5, 1.9 and
    1.99 ms.
    """
    meter, times = FakeMeter(), [0.001 + 1e-6 * (n + 1) for n in range(1000)]
    random.Random(5).shuffle(times)
    turn = iter([0.001] * 3 + times)
    found = single_calls(lambda: meter.work(next(turn)), meter, PLAN)
    assert found.details["percentiles"] == pytest.approx(
        {"p50": 0.0015, "p90": 0.0019, "p99": 0.00199}, rel=1e-3
    )
    assert len(found.samples) == 1000


def test_a_tail_needs_a_thousand_calls():
    """Calls of 10 ms leave 200 in the plan's two seconds, so there is no p99."""
    meter = FakeMeter()
    found = single_calls(runner(meter, lambda _: 0.01), meter, PLAN)
    assert set(found.details["percentiles"]) == {"p50", "p90"}
    assert meter.now_s < 2.1


def test_single_calls_that_waited_for_a_core_have_no_percentiles():
    """A tenth of the time was waiting, so there is no value either."""
    meter = FakeMeter()

    def beside():
        meter.work(0.001)
        meter.waited_s += 0.0001

    found = single_calls(beside, meter, PLAN)
    assert (found.status, found.value, found.details) == (
        Status.CONTENDED,
        None,
        {"percentiles": {}},
    )


@pytest.mark.parametrize(
    ("seconds", "foreign", "reason"),
    [
        (lambda rng: 0.01 * rng.lognormvariate(0, 0.5), 0, "the plan requires ±2.0%"),
        (lambda _: 0.9, 0, "only 3 calls in 2.7 s, an interval needs 6"),
        (lambda _: 0.01, 0.01, "other processes used 1.0 of 1 free cores"),
    ],
    ids=["a wide interval", "no interval", "a crowded machine"],
)
def test_single_calls_are_noisy_for_the_reasons_of_latency(seconds, foreign, reason):
    meter, rng = FakeMeter(), random.Random(6)

    def call():
        meter.work(seconds(rng))
        meter.foreign_s += foreign

    found = single_calls(call, meter, PLAN)
    assert found.status is Status.NOISY
    assert found.value is not None
    assert reason in found.reason


def test_ranks_of_the_interval_are_the_published_ones():
    """The 95 % interval of a median has the ranks tabulated for the sign test (n = 6: 1, 10: 2, 20:
    6, 50: 18).
    """
    assert [median_rank(n) for n in (5, 6, 10, 20, 50)] == [0, 1, 2, 6, 18]


def test_the_interval_needs_six_samples():
    """Five samples cannot enclose a median with 95 %: 2 / 2**5 > 5 %."""
    assert median_interval([1.0] * 5) is None


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.1])
def test_the_interval_covers_the_median(noise):
    """In at least 92 % of 600 measurements with independent noise and the stop rule, the interval
    holds the true median.
    """
    rng = random.Random(4)
    plan = MeasurementPlan(block_s=1e-9, warmup_s=1e-9)
    covered = 0
    for _ in range(600):
        meter = FakeMeter()
        found = latency(runner(meter, lambda _: 0.02 * math.exp(rng.gauss(0, noise))), meter, plan)
        covered += found.ci_low <= 0.02 <= found.ci_high
    assert covered >= 0.92 * 600


def test_calls_fill_a_block():
    """Of calls of 3 ms, seven are the fewest that fill 20 ms."""
    meter = FakeMeter()
    assert warm_up(runner(meter, lambda _: 0.003), meter, PLAN).calls == 7


@pytest.mark.parametrize("phase_s", [0.0, 0.013, 0.05, 0.0777])
def test_energy_counted_from_step_to_step_is_exact(phase_s):
    """At 250 W, with calls of 7 ms with a batch of 4 and a counter that steps each 100 ms, a frame
    takes 0.4375 J within 0.7 %, the length of one call in a window. A window cut anywhere would be
    off by up to 10 %.
    """
    meter = FakeMeter(power_w=250, step_s=0.1, phase_s=phase_s)
    found = energy(runner(meter, lambda _: 0.007), meter, MeasurementPlan(batch_size=4))
    assert all(sample == pytest.approx(250 * 0.007 / 4, rel=0.007) for sample in found.samples)
    assert found.value == pytest.approx(250 * 0.007 / 4, rel=0.005)
    assert found.status is Status.OK


def test_energy_without_a_counter_is_unavailable():
    """The measurement has the meter's reason."""
    meter = FakeMeter()
    found = energy(runner(meter, lambda _: 0.001), meter, PLAN)
    assert (found.value, found.status) == (None, Status.UNAVAILABLE)
    assert found.reason == "the fake meter has no energy counter"


def test_a_stuck_energy_counter_is_unavailable():
    """A counter that stands still under load gives no joules, rather than 0."""
    meter = FakeMeter(power_w=250, step_s=1e6)
    found = energy(runner(meter, lambda _: 0.001), meter, PLAN)
    assert (found.value, found.status) == (None, Status.UNAVAILABLE)
    assert "stood still" in found.reason


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 1, bias=False),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def test_peak_memory_is_that_calculated_by_hand():
    """For 2 images of 16 pixels, the weights are 3*8*9 + 8*4 + 256*10 + 10 = 2818 numbers and the
    input is 2*3*16*16 = 1536. The peak is in the max pool: its input 2*8*16*16 = 4096 (in-place
    ReLU adds nothing), its output 1024 and that many indices of 8 bytes.
    """
    meter, plan = FakeMeter(), MeasurementPlan(batch_size=2, image_size=16)
    with prepare(small_network(), plan, meter) as run:
        found = peak_memory(run, meter, plan)
    assert found.value == 4 * (2818 + 1536 + 4096 + 1024) + 8 * 1024


def test_inputs_are_normal_and_alternate():
    """Eight different inputs of the plan's shape have mean 0 and deviation 1."""
    plan = MeasurementPlan(batch_size=2, image_size=16)
    with prepare(small_network(), plan, FakeMeter()) as run:
        inputs = torch.stack(list(run.inputs))
        assert inputs.shape == (8, 2, 3, 16, 16)
        assert torch.std_mean(inputs)[0].item() == pytest.approx(1, abs=0.05)
        outputs = [run() for _ in range(16)]
    assert all(torch.equal(a, b) for a, b in zip(outputs[:8], outputs[8:], strict=True))
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize(
    ("kind", "width", "copies"),
    [("cpu", 1, 6), ("cpu", 10**7, 3), ("cpu", 4 * 10**7, 1), ("cuda", 1, 1)],
)
def test_copies_lie_at_different_places(monkeypatch, kind, width, copies):
    """On a CPU there are six of a network, or as many as 128 MiB hold. All give the same output,
    and no two share a weight.
    """
    meter, large = FakeMeter(), small_network()
    meter.device = replace(meter.device, kind=kind)
    models = []

    def noted(*arguments):
        models.append(placed(*arguments))
        return models[-1]

    monkeypatch.setattr(eager, "placed", noted)
    large.register_buffer("unused", torch.empty(width))
    with prepare_copies([large, small_network()], MeasurementPlan(image_size=16), meter) as (
        first,
        second,
    ):
        assert (len(first), len(second)) == (copies, 6 if kind == "cpu" else 1)
        weights = {each[0].weight.data_ptr() for each in models}
        outputs = [[each() for each in one] for one in (first, second)]
    assert len(weights) == len(first) + len(second)
    for same in outputs:
        assert all(torch.equal(output, same[0]) for output in same)


def test_settings_and_the_network_are_as_before_after_a_measurement():
    """This concerns threads, TF32 switches, training mode and the network's own type."""
    model, threads, tf32 = (
        small_network().train(),
        torch.get_num_threads(),
        torch.backends.cudnn.conv.fp32_precision,
    )
    plan = MeasurementPlan(image_size=16, threads=threads + 1, precision=Precision.BF16)
    with prepare(model, plan, FakeMeter()) as run:
        assert torch.get_num_threads() == threads + 1
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert run().dtype is torch.bfloat16
    assert (torch.get_num_threads(), torch.backends.cudnn.conv.fp32_precision) == (threads, tf32)
    assert model.training
    assert next(model.parameters()).dtype is torch.float32


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            MeasurementPlan(runtime="abacus"),
            "no 'abacus' in nas.runtimes; there are: compile, eager, graph, onnxruntime",
        ),
        (MeasurementPlan(precision=Precision.TF32), "tf32 is a mode of NVIDIA GPUs"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(plan, message):
    """The message names what is available."""
    with (
        pytest.raises(InvalidValueError, match=message),
        prepare(small_network(), plan, FakeMeter()),
    ):
        pass


def test_a_network_that_fails_is_one_clear_line():
    """An image size that the classifier cannot take fails the trial; the message names batch and
    size.
    """
    plan = MeasurementPlan(image_size=20)
    message = "batch 1 of 20 pixels in fp32: "
    with (
        pytest.raises(TrialFailedError, match=message),
        prepare(small_network(), plan, FakeMeter()),
    ):
        pass


def test_a_network_that_returns_nan_is_refused():
    """The latency of a network full of NaN would mean nothing."""
    model = small_network()
    nn.init.constant_(model[-1].bias, math.nan)
    plan = MeasurementPlan(image_size=16)
    with pytest.raises(TrialFailedError, match="not finite"), prepare(model, plan, FakeMeter()):
        pass
