"""Metrics that are counted or measured, and the reasons why a machine cannot measure one."""

from dataclasses import replace

import pytest
import torch

from nas.agent.host import usable_cores
from nas.core import plugins
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.complexity import count
from nas.core.errors import InvalidValueError
from nas.core.measurement import Kind, MeasurementPlan, Status
from nas.core.published import published
from nas.core.study import Objective, StudySpec
from nas.measuring.metrics import Phase, Subject, check_available
from nas.measuring.metrics.counted import MACS, MEMORY_ACCESS_COST, PARAMETERS
from nas.measuring.metrics.measured import ENERGY, LATENCY, PEAK_MEMORY
from nas.measuring.metrics.modelled import MODELLED_ENERGY
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
    """Return VoVNet-27-slim for ImageNet's classes at 64 pixels, on the fake meter."""
    return Subject(
        architecture=published("vovnet27_slim"),
        plan=MeasurementPlan(image_size=64),
        num_classes=1000,
        meter=FakeMeter(),
    )


@pytest.mark.parametrize("phase", list(Phase))
def test_registered_metrics_have_the_name_of_their_entry_point(phase):
    """Each entry point of nas.metrics is a metric of the name that it is registered under, and no
    phase is empty.
    """
    metrics = {name: plugins.load("nas.metrics", name) for name in plugins.names("nas.metrics")}
    assert {name: metric.name for name, metric in metrics.items()} == {
        name: name for name in metrics
    }
    assert any(metric.phase is phase for metric in metrics.values())


def test_counts_are_the_published_ones(subject):
    """Parameters equal those of the authors' code at any image size. Twice the side takes four
    times the MACs, except for the classifier's 512 * 1000. Memory access cost follows the plan's
    size.
    """
    assert PARAMETERS.measure(subject).value == PUBLISHED_PARAMETERS
    double = replace(subject, plan=MeasurementPlan(image_size=128))
    assert 4 * MACS.measure(subject).value - MACS.measure(double).value == 3 * 512 * 1000
    expected = count(subject.architecture, 64, 1000).memory_access_cost
    figure = MEMORY_ACCESS_COST.measure(subject)
    assert (figure.value, figure.unit, figure.kind) == (expected, "1", Kind.COUNTED)


@pytest.mark.parametrize(
    ("precision", "batch", "mac_j", "size"),
    [
        ("fp32", 1, 4.6e-12, 4),
        ("tf32", 4, 4.6e-12, 4),
        ("fp16", 1, 1.5e-12, 2),
        ("bf16", 8, 1.5e-12, 2),
    ],
)
def test_modelled_energy_follows_the_table_of_horowitz(subject, precision, batch, mac_j, size):
    """Operations, weights once per batch from DRAM and the rest from SRAM, counted with forward
    hooks on the built network, give the same energy.
    """
    model = subject.model
    counts = tally(model, 64)
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    figure = MODELLED_ENERGY.measure(
        replace(subject, plan=MeasurementPlan(image_size=64, precision=precision, batch_size=batch))
    )
    expected = (
        counts.macs * mac_j
        + weights * size / batch * 160e-12
        + (counts.memory_access_cost - weights) * size * 1.25e-12
    )
    assert figure.value == pytest.approx(expected, rel=1e-12)
    assert (figure.kind, figure.unit, figure.method) == (Kind.MODELLED, "J", "horowitz2014-45nm/1")


def test_no_study_has_both_measured_and_modelled_energy():
    """They must not share a front."""
    objectives = tuple(
        Objective(metric=metric, reference=1.0) for metric in ("energy", "error", "modelled_energy")
    )
    with pytest.raises(InvalidValueError, match="no front holds the two"):
        StudySpec(name="s", space="osa_tiny", objectives=objectives)


def test_energy_without_a_sensor_is_refused_before_the_start(subject):
    """One line gives the reason and alternatives. Available metrics are not mentioned."""
    metrics = [LATENCY, ENERGY, MACS, PEAK_MEMORY]
    advice = "drop the objective, or use latency, memory_access_cost or modelled_energy instead"
    assert check_available(metrics, subject.meter, subject.plan) == [
        f"energy: the fake meter has no energy counter; {advice}"
    ]


def test_energy_with_a_sensor_is_available(subject):
    """A counter is sufficient."""
    assert check_available([ENERGY], FakeMeter(power_w=10), subject.plan) == []


def test_an_unknown_runtime_is_refused_before_the_start(subject):
    """Every measured metric lists the runtimes that exist."""
    problems = check_available(
        [LATENCY, MACS, PEAK_MEMORY], subject.meter, MeasurementPlan(runtime="abacus")
    )
    reason = "no 'abacus' in nas.runtimes; there are: compile, eager, graph, onnxruntime, openvino"
    assert problems == [f"{name}: {reason}" for name in ("latency", "peak_memory")]


def test_more_threads_than_cores_are_refused_before_the_start(subject):
    """This holds for a processor. Figures of a GPU do not depend on threads."""
    cores = usable_cores()
    subject.meter.device = replace(subject.meter.device, kind="cpu")
    assert check_available([LATENCY], subject.meter, MeasurementPlan(threads=cores)) == []
    plan = MeasurementPlan(threads=cores + 1)
    problem = (
        f"latency: there are {cores} cores, so measurement.threads must be at most {cores}, "
        f"not {cores + 1}"
    )
    assert check_available([LATENCY, MACS], subject.meter, plan) == [problem]
    subject.meter.device = replace(subject.meter.device, kind="cuda")
    assert check_available([LATENCY], subject.meter, plan) == []


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
    """After calibration an image of Gaussian noise gives outputs that are neither 0 nor huge."""
    model = replace(subject, architecture=TINY).model
    with torch.no_grad():
        features = model.eval()(
            torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        )
    assert 1e-3 < features.std() < 1e3


def test_peak_memory_and_unavailable_energy_of_a_subject(subject):
    """Peak memory is in bytes and more than weights and input. Energy without a sensor has a reason
    and no value.
    """
    tiny = replace(subject, architecture=TINY)
    figure = PEAK_MEMORY.measure(tiny)
    parameters = sum(p.numel() for p in tiny.model.parameters())
    assert figure.unit == "B"
    assert figure.value > 4 * (parameters + 3 * 64 * 64)
    assert ENERGY.measure(tiny).status is Status.UNAVAILABLE
