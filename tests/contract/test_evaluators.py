"""Every evaluator of this repository passes the contract."""

from dataclasses import replace

from nas.core import plugins
from nas.core.study import Objective
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
            search=arithmetic, certify=arithmetic, replicate=arithmetic, final=arithmetic
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


def test_every_registered_evaluator_is_tested():
    """A new evaluator gets a class in this file."""
    assert plugins.names("nas.evaluators") == ["classification"]
