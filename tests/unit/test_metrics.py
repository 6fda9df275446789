"""Metrics: what is counted, what is measured, and what a machine cannot measure."""

import os
from dataclasses import replace

import pytest
import torch

from nas.core import plugins
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.complexity import count
from nas.core.errors import InvalidValueError, UnavailableError
from nas.core.measurement import Kind, MeasurementPlan, Status
from nas.core.published import published
from nas.core.study import Objective, StudySpec
from nas.measuring.metrics import Phase, Subject, check_available
from nas.measuring.metrics.counted import MACS, MEMORY_ACCESS_COST, PARAMETERS
from nas.measuring.metrics.measured import ENERGY, LATENCY, PEAK_MEMORY
from nas.measuring.metrics.modelled import MODELLED_ENERGY
from nas.measuring.metrics.trained import ERROR
from nas.model.hooks import tally
from nas.testing.fake_meter import FakeMeter

PUBLISHED_PARAMETERS = 3_525_736
TINY = Architecture(
    stem_channels=(8, 8, 8),
    stem=Stem.CIFAR,
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 3,
)


@pytest.fixture
def subject():
    """VoVNet-27-slim for ImageNet's classes at 64 pixels, on the fake meter."""
    return Subject(
        architecture=published("vovnet27_slim"),
        plan=MeasurementPlan(image_size=64),
        num_classes=1000,
        meter=FakeMeter(),
    )


@pytest.mark.parametrize("phase", list(Phase))
def test_registered_metrics_carry_their_own_name(phase):
    """Each entry point of nas.measuring.metrics is a metric of the name it is registered under; no
    phase is empty.
    """
    metrics = {name: plugins.load("nas.metrics", name) for name in plugins.names("nas.metrics")}
    assert {name: metric.name for name, metric in metrics.items()} == {
        name: name for name in metrics
    }
    assert any(metric.phase is phase for metric in metrics.values())


def test_counts_are_the_published_ones(subject):
    """Parameters as in the authors' code at any image size; at twice the side four times the MACs,
    but for the classifier's 512 * 1000; memory access cost from the plan's size.
    """
    assert PARAMETERS.measure(subject).value == PUBLISHED_PARAMETERS
    double = replace(subject, plan=MeasurementPlan(image_size=128))
    assert 4 * MACS.measure(subject).value - MACS.measure(double).value == 3 * 512 * 1000
    expected = count(subject.architecture, 64, 1000).memory_access_cost
    found = MEMORY_ACCESS_COST.measure(subject)
    assert (found.value, found.unit, found.kind) == (expected, "1", Kind.COUNTED)


@pytest.mark.parametrize(
    ("precision", "batch", "mac_j", "size"),
    [
        ("fp32", 1, 4.6e-12, 4),
        ("tf32", 4, 4.6e-12, 4),
        ("fp16", 1, 1.5e-12, 2),
        ("bf16", 8, 1.5e-12, 2),
    ],
)
def test_modelled_energy_is_horowitz_s_table(subject, precision, batch, mac_j, size):
    """From what hooks count on the built network: operations, weights once per batch from DRAM, the
    rest from SRAM.
    """
    model = subject.model
    counts = tally(model, 64)
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    found = MODELLED_ENERGY.measure(
        replace(subject, plan=MeasurementPlan(image_size=64, precision=precision, batch_size=batch))
    )
    expected = (
        counts.macs * mac_j
        + weights * size / batch * 160e-12
        + (counts.memory_access_cost - weights) * size * 1.25e-12
    )
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert (found.kind, found.unit, found.method) == (Kind.MODELLED, "J", "horowitz2014-45nm/1")


def test_no_study_holds_measured_and_modelled_energy():
    """They would share a front."""
    objectives = tuple(
        Objective(metric=metric, reference=1.0) for metric in ("energy", "error", "modelled_energy")
    )
    with pytest.raises(InvalidValueError, match="no front holds the two"):
        StudySpec(name="s", space="osa_tiny", objectives=objectives)


def test_energy_without_a_sensor_is_refused_before_the_start(subject):
    """The reason and a way out, in one line; metrics that can be had are not mentioned."""
    told = check_available([LATENCY, ENERGY, MACS, ERROR, PEAK_MEMORY], subject.meter, subject.plan)
    way_out = "drop the objective, or use latency, memory_access_cost or modelled_energy instead"
    assert told == [f"energy: the fake meter has no energy counter; {way_out}"]


def test_energy_with_a_sensor_is_available(subject):
    """A counter is enough."""
    assert check_available([ENERGY], FakeMeter(power_w=10), subject.plan) == []


def test_an_unknown_runtime_is_refused_before_the_start(subject):
    """Every measured metric says which runtimes there are."""
    told = check_available(
        [LATENCY, MACS, PEAK_MEMORY], subject.meter, MeasurementPlan(runtime="abacus")
    )
    reason = "no 'abacus' among the runtimes; there are: eager, graph, compile, onnxruntime"
    assert told == [f"{name}: {reason}" for name in ("latency", "peak_memory")]


def test_more_threads_than_cores_are_refused_before_the_start(subject):
    """Of a processor's; a GPU's figures do not depend on them."""
    cores = len(os.sched_getaffinity(0))
    subject.meter.device = replace(subject.meter.device, kind="cpu")
    assert check_available([LATENCY], subject.meter, MeasurementPlan(threads=cores)) == []
    (told,) = check_available([LATENCY, MACS], subject.meter, MeasurementPlan(threads=cores + 1))
    assert (
        told
        == f"latency: there are {cores} cores, so measurement.threads must be at most {cores}, not {cores + 1}"
    )
    subject.meter.device = replace(subject.meter.device, kind="cuda")
    assert check_available([LATENCY], subject.meter, MeasurementPlan(threads=cores + 1)) == []


def test_the_error_is_not_measured(subject):
    """Asking for it says where it comes from."""
    with pytest.raises(UnavailableError, match="comes from training"):
        ERROR.measure(subject)


def test_a_subject_is_the_same_network_every_time(subject):
    """Weights and BatchNorm statistics are the same each time, and the caller's random state is
    untouched.
    """
    tiny = replace(subject, architecture=TINY)
    state = torch.random.get_rng_state()
    one, other = tiny.model.state_dict(), replace(tiny).model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_activations_of_a_subject_keep_their_size(subject):
    """After calibration a normal image gives outputs of ordinary size, neither 0 nor huge."""
    model = replace(subject, architecture=TINY).model
    with torch.no_grad():
        features = model.eval()(
            torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        )
    assert 1e-3 < features.std() < 1e3


def test_peak_memory_and_unavailable_energy_of_a_subject(subject):
    """Peak memory is at least weights and input and is in bytes; energy without a sensor has a
    reason and no value.
    """
    tiny = replace(subject, architecture=TINY)
    found = PEAK_MEMORY.measure(tiny)
    parameters = sum(p.numel() for p in tiny.model.parameters())
    assert found.unit == "B"
    assert found.value > 4 * (parameters + 3 * 64 * 64)
    assert ENERGY.measure(tiny).status is Status.UNAVAILABLE
