"""Tests that every metric of the group `nas.metrics` must pass.

Derive a test class, define `make`, and let pytest collect it.
"""

import json
import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest

from nas.core.architecture import Architecture, Attention, OsaStage, Stem
from nas.core.errors import UnavailableError
from nas.core.measurement import USABLE_STATUSES, Kind, Measurement, MeasurementPlan, Status
from nas.core.study import Direction
from nas.measuring.meters import Meter, find_meter
from nas.measuring.metrics import Metric, Phase, Subject

STAGE = OsaStage(mid_channels=8, out_channels=16, num_layers=2)
NETWORK = Architecture(
    stem=Stem.CIFAR, stem_channels=(4, 4, 8), stages=(STAGE,) * 3, attention=Attention.LAST
)
EQUIVALENT = Architecture(
    stem=Stem.CIFAR,
    stem_channels=(4, 4, 8),
    stages=(STAGE,) * 3,
    attention=Attention.ALL,
    residual=True,
)
"""The same network, encoded in another way: with one block in each stage it has no identity."""
PLAN = MeasurementPlan(
    image_size=16,
    warmup_s=0.01,
    block_s=0.005,
    min_blocks=5,
    min_time_s=0.02,
    max_time_s=0.2,
)
"""Conditions of a short measurement."""
KINDS = {
    Phase.COUNTED: {Kind.COUNTED, Kind.MODELLED},
    Phase.MEASURED: {Kind.MEASURED, Kind.MODELLED},
}
"""Kinds of figures that each phase of a trial may give."""


class MetricContract(ABC):
    """Tests of one metric."""

    plan = PLAN

    @abstractmethod
    def make(self) -> Metric:
        """Return the metric."""

    def meter(self) -> Meter:
        """Return a new meter of the device to measure, by default the processor."""
        return find_meter("cpu")

    @pytest.fixture
    def subject(self) -> Iterator[Subject]:
        """Return a small network to measure."""
        with self.meter() as meter:
            yield Subject(architecture=NETWORK, plan=self.plan, num_classes=10, meter=meter)

    def figure(self, subject: Subject) -> Measurement:
        """Measure the subject, or skip the test if this machine cannot."""
        metric = self.make()
        if obstacle := metric.obstacle(subject.meter, subject.plan):
            pytest.skip(obstacle)
        return metric.measure(subject)

    def test_it_says_what_it_is(self) -> None:
        """It has a name, an SI unit ("1" for counts and shares), a direction, a phase, and a kind
        that this phase can give.
        """
        metric = self.make()
        assert metric.name.isprintable()
        assert metric.name
        assert metric.unit
        assert isinstance(metric.direction, Direction)
        assert metric.kind in KINDS[metric.phase]

    def test_an_obstacle_is_a_reason_or_none(self, subject: Subject) -> None:
        """The same question gets the same answer, and metrics that need no device have none."""
        metric = self.make()
        obstacles = [metric.obstacle(subject.meter, subject.plan) for _ in range(2)]
        assert obstacles[0] == obstacles[1]
        assert obstacles[0] is None or obstacles[0].strip()
        assert obstacles[0] is None or metric.phase is Phase.MEASURED

    def test_with_an_obstacle_there_is_no_value(self, subject: Subject) -> None:
        """The metric then raises `UnavailableError`, or its figure has a reason and no value."""
        metric = self.make()
        if metric.obstacle(subject.meter, subject.plan) is None:
            pytest.skip("this machine can measure it")
        try:
            figure = metric.measure(subject)
        except UnavailableError:
            return
        assert figure.value is None
        assert figure.reason

    def test_the_figure_is_that_of_the_metric(self, subject: Subject) -> None:
        """Name, unit and kind are those of the metric, and the method has a name."""
        metric, figure = self.make(), self.figure(subject)
        assert (figure.metric, figure.unit, figure.kind) == (metric.name, metric.unit, metric.kind)
        assert figure.method

    def test_the_figure_has_an_interval_or_a_reason(self, subject: Subject) -> None:
        """A figure without a value, or with a status other than ok, has a reason.

        Any other value is finite and lies in its interval. A modelled value may have no interval,
        since the error of a model is unknown.
        """
        figure = self.figure(subject)
        if figure.status is not Status.OK:
            assert figure.reason
        if figure.status not in USABLE_STATUSES:
            return
        assert figure.value is not None
        assert math.isfinite(figure.value)
        if figure.ci_low is None or figure.ci_high is None:
            assert figure.kind is Kind.MODELLED or figure.status is Status.NOISY
        else:
            assert figure.ci_low <= figure.value <= figure.ci_high

    def test_the_figure_can_be_recorded(self, subject: Subject) -> None:
        """It can be sent to another process, and its details are JSON values."""
        figure = self.figure(subject)
        assert pickle.loads(pickle.dumps(figure)) == figure  # noqa: S301 - pickled right here
        assert json.loads(json.dumps(dict(figure.details))) == dict(figure.details)

    def test_counted_figures_are_equal_for_equal_networks(self, subject: Subject) -> None:
        """A second call gives the same value, and so does an equivalent encoding of the network."""
        if self.make().phase is not Phase.COUNTED:
            pytest.skip("the metric is not counted")
        equivalent = Subject(
            architecture=EQUIVALENT, plan=self.plan, num_classes=10, meter=subject.meter
        )
        values = [self.figure(each).value for each in (subject, subject, equivalent)]
        assert values == [values[0]] * 3
