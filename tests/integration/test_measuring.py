"""Real measurements on this machine's processor, compared with a second method."""

from contextlib import contextmanager

import pytest
from torch.utils.benchmark import Timer

from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.measurement import USABLE_STATUSES, MeasurementPlan
from nas.measuring.meters.cpu import CpuMeter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods import latency, prepare
from nas.measuring.metrics import Subject
from nas.measuring.metrics.measured import LATENCY
from nas.measuring.session import latencies, measure
from nas.measuring.targets import Target


def subject(mid_channels, plan):
    stage = OsaStage(mid_channels=mid_channels, out_channels=2 * mid_channels, num_layers=3)
    return Subject(
        architecture=Architecture(stem_channels=(16, 16, 16), stem=Stem.CIFAR, stages=(stage,) * 3),
        plan=plan,
        num_classes=10,
        meter=CpuMeter(),
    )


@pytest.mark.slow
def test_latency_agrees_with_the_timer_of_torch(tmp_path):
    """With the plan's threads it is not far below the fastest block of `torch.utils.benchmark`, and
    not far above its median, which counts its waiting for a core beside other processes.
    """
    plan = MeasurementPlan(max_time_s=4)
    measured = subject(16, plan)
    with (
        DeviceLock("test", tmp_path).exclusive(),
        prepare(measured.model, plan, measured.meter) as run,
    ):
        figure = latency(run, measured.meter, plan)
        reference = Timer(
            "run()", globals={"run": run}, num_threads=plan.threads
        ).adaptive_autorange()
    if figure.status not in USABLE_STATUSES:
        pytest.skip(f"the machine is too busy: {figure.reason}")
    assert figure.ci_low <= figure.value <= figure.ci_high
    assert 0.5 * min(reference.times) <= figure.value <= 1.5 * reference.median
    assert all(sample > 0 for sample in figure.samples)


@pytest.mark.slow
def test_a_larger_network_is_slower(tmp_path):
    """Eight times the width has 64 times the MACs and at least twice the latency (4.5 to 7 times in
    three tries).
    """
    plan = MeasurementPlan(max_time_s=4)
    with DeviceLock("test", tmp_path).exclusive():
        small, large = (LATENCY.measure(subject(width, plan)) for width in (8, 64))
    unusable = [figure.reason for figure in (small, large) if figure.status not in USABLE_STATUSES]
    if unusable:
        pytest.skip(f"the machine is too busy: {unusable[0]}")
    assert large.value > 2 * small.value


class Held(CpuMeter):
    """The processor, whose conditions say whether it is held."""

    held = False

    @contextmanager
    def exclusive(self):
        """Hold the processor."""
        with super().exclusive():
            self.held = True
            yield
            self.held = False

    def host_details(self):
        """Return whether the processor is held."""
        return {"held": self.held}


def test_the_load_after_a_figure_is_looked_at_while_the_device_is_held():
    """A device elsewhere answers only then."""
    plan = MeasurementPlan(warmup_s=0.01, min_time_s=0.01, max_time_s=0.02, min_blocks=1)
    target = Target(name="net", network=subject(4, plan).model)
    figures = [*latencies([target], plan, Held()).values(), *measure(target, plan, Held())]
    assert {figure.details["host_after"]["held"] for figure in figures} == {True}
