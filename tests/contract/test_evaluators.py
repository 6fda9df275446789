"""Every evaluator of this repository passes the contract."""

from dataclasses import replace

import pytest

from nas.core import plugins
from nas.core.architecture import Architecture, OsaStage
from nas.core.measurement import MeasurementPlan
from nas.core.study import DataSpec, Objective, TrainingSpec
from nas.searching.evaluators import EvaluatorPlugin
from nas.testing.evaluator_contract import EvaluatorContract


class TestClassification(EvaluatorContract):
    """Counting, measuring and training on this machine."""

    def make(self):
        return plugins.load("nas.evaluators", "classification")


class TestClassificationWithMemory(TestClassification):
    """The same in a study that measures with the device to itself."""

    def spec(self):
        spec = super().spec()
        short = replace(spec.measurement, warmup_s=0.01, min_time_s=0.02, max_time_s=0.1)
        return replace(
            spec,
            objectives=(Objective(metric="error"), Objective(metric="peak_memory")),
            measurement=short,
        )


class TestArithmetic(EvaluatorContract):
    """The evaluator of other tests, whose trainings are arithmetic."""

    def make(self):
        arithmetic = "nas.testing.evaluators:ArithmeticEvaluator"
        return EvaluatorPlugin(
            search=arithmetic,
            certify=arithmetic,
            replicate=arithmetic,
            final=arithmetic,
            reads_data=False,
        )

    def impossible(self):
        return None


class TestFailing(TestArithmetic):
    """The evaluator of other tests that fails every third trial."""

    def make(self):
        return replace(super().make(), search="nas.testing.evaluators:FailingEvaluator")

    def task(self):
        return replace(super().task(), number=1)

    def impossible(self):
        return self.spec(), replace(self.task(), number=3)


@pytest.mark.slow
class TestDetector(EvaluatorContract):
    """DSOD on squares, measured as it is deployed."""

    @pytest.fixture(autouse=True)
    def _data(self, squares):
        pytest.importorskip("torchvision")
        self.folder = squares

    def make(self):
        return plugins.load("nas.evaluators", "detector")

    def spec(self):
        short = {"warmup_s": 0.01, "min_time_s": 0.02, "max_time_s": 0.1, "busy_wait_s": 0.0}
        settings = {"system": "dsod300", "image_size": 96, "options": {"down": 8}}
        return replace(
            super().spec(),
            space="osa_detection",
            evaluator="detector",
            evaluator_settings=settings,
            objectives=(Objective(metric="box_ap50"), Objective(metric="latency")),
            data=DataSpec(dataset="boxes", folder=str(self.folder)),
            training=TrainingSpec(batch_size=3, label_smoothing=0, translate=0),
            measurement=MeasurementPlan(image_size=96, runtime="eager", **short),
            trained=self.make().trained,
        )

    def task(self):
        stage = OsaStage(mid_channels=8, out_channels=16, num_layers=2)
        network = Architecture(stem_channels=(8, 8, 8), stages=(stage,) * 4)
        return replace(super().task(), architecture=network)

    def impossible(self):
        """Return a network whose first stage has stride 1."""
        return self.spec(), super().task()


def test_every_registered_evaluator_is_tested():
    """A new evaluator gets a class in this file."""
    assert plugins.names("nas.evaluators") == ["classification", "detector"]
