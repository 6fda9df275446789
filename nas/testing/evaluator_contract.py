"""Tests that every evaluator of the group `nas.evaluators` must pass.

Derive a test class, define `make`, and let pytest collect it.
"""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import NasError, TrialFailedError
from nas.core.moved import import_attribute
from nas.core.study import (
    AutoPrecision,
    DataSpec,
    Objective,
    StudySpec,
    TrainingSpec,
    WorkersSpec,
    rungs_at,
)
from nas.core.tasks import Event, Measured, OutOfTime, Task, Trained
from nas.core.trial import Evaluation
from nas.searching.evaluators import Evaluates, EvaluatorPlugin, Preparation, StudyContext

EPOCHS = (0.5, 1.0)
"""Rungs of the study, of one and of two steps of training."""
STAGE = OsaStage(mid_channels=8, out_channels=16, num_layers=2)
NETWORK = Architecture(stem=Stem.CIFAR, stem_channels=(4, 4, 8), stages=(STAGE,) * 3)


class EvaluatorContract(ABC):
    """Tests of the evaluator that a search uses, and of the names of the three others."""

    @abstractmethod
    def make(self) -> EvaluatorPlugin:
        """Return the names of the four classes."""

    def spec(self) -> StudySpec:
        """Return a study that takes seconds: 64 images of digits, and two steps of training."""
        return StudySpec(
            name="contract",
            space="osa_tiny",
            objectives=(Objective(metric="error"), Objective(metric="macs")),
            rungs=rungs_at(*EPOCHS),
            data=DataSpec(dataset="digits", validation_images=100, train_images=64),
            training=TrainingSpec(batch_size=32, precision=AutoPrecision.FP32, channels_last=False),
            workers=WorkersSpec(cpus=1),
        )

    def task(self) -> Task:
        """Return a task that the evaluator can do."""
        return Task(number=0, architecture=NETWORK, seed=1)

    def impossible(self) -> tuple[StudySpec, Task] | None:
        """Return a study, and a task in it that must fail.

        The default is a network for images of one pixel. None stands for an evaluator that can do
        every task.
        """
        spec = self.spec()
        return replace(spec, measurement=replace(spec.measurement, image_size=1)), self.task()

    def evaluator_class(self) -> type[Evaluates]:
        """Import the class that evaluates trials."""
        return import_attribute(self.make().search)  # type: ignore[no-any-return]

    def context(self, folder: Path, spec: StudySpec | None = None) -> StudyContext:
        """Prepare a study whose checkpoints are in this folder."""
        context = StudyContext(
            spec=spec or self.spec(),
            artifacts=str(folder),
            folder=str(folder),
            evaluator=self.make().search,
        )
        return replace(context, preparation=self.evaluator_class().prepare(context))

    def events(self, context: StudyContext, task: Task) -> list[Event]:
        """Do a task with a new evaluator, as a new process does."""
        return list(self.evaluator_class()(context).steps(task))

    def test_all_four_classes_are_evaluators(self) -> None:
        """Each name stands for a class with `prepare` and `steps`."""
        plugin = self.make()
        for name in (plugin.search, plugin.certify, plugin.replicate, plugin.final):
            evaluator = import_attribute(name)
            assert isinstance(evaluator, type)
            assert callable(getattr(evaluator, "prepare", None)), name
            assert callable(getattr(evaluator, "steps", None)), name

    def test_a_preparation_can_be_recorded(self, tmp_path: Path) -> None:
        """JSON returns it unchanged, and so does pickle, with the whole context."""
        context = self.context(tmp_path)
        assert context.preparation
        assert Preparation.from_dict(context.preparation.to_dict()) == context.preparation
        assert pickle.loads(pickle.dumps(context)) == context  # noqa: S301 - pickled right here

    def test_a_resumed_study_keeps_its_preparation(self, tmp_path: Path) -> None:
        """With a preparation in the context, `prepare` returns the same one."""
        context = self.context(tmp_path)
        assert self.evaluator_class().prepare(context) == context.preparation

    def test_preparing_again_finds_the_same_data(self, tmp_path: Path) -> None:
        """Without a preparation, only the timings of number formats may differ."""
        one, other = (self.context(tmp_path).preparation for _ in range(2))
        assert one
        assert other
        assert replace(one, numerics={}) == replace(other, numerics={})

    def test_it_reads_the_study_s_data_if_it_says_so(self, tmp_path: Path) -> None:
        """If the data are not there, an evaluator with `reads_data` raises an error, and any other
        one trains.
        """
        absent = DataSpec(dataset="folder", folder=str(tmp_path / "absent"))
        spec = replace(self.spec(), data=absent)
        if self.make().reads_data:
            with pytest.raises(NasError):
                self.context(tmp_path, spec)
        else:
            events = self.events(self.context(tmp_path, spec), self.task())
            assert any(isinstance(event, Trained) for event in events)

    def test_it_measures_and_then_trains_rung_by_rung(self, tmp_path: Path) -> None:
        """`Measured` events come first, then one `Trained` event for each rung, in order."""
        context = self.context(tmp_path)
        events = self.events(context, self.task())
        assert all(isinstance(event, Measured | Trained) for event in events)
        kinds = [isinstance(event, Trained) for event in events]
        assert kinds == sorted(kinds)
        epochs = [event.rung.epochs for event in events if isinstance(event, Trained)]
        assert epochs == [rung.epochs for rung in context.spec.rungs]

    def test_training_gives_the_metrics_that_the_plugin_declares(self, tmp_path: Path) -> None:
        """Every figure of a rung is one of `trained`, and is within its bounds."""
        trained = {metric.name: metric for metric in self.make().trained}
        for event in self.events(self.context(tmp_path), self.task()):
            for name, value in event.rung.metrics.items() if isinstance(event, Trained) else ():
                assert name in trained
                assert not trained[name].problem(value)

    def test_every_objective_gets_a_value_or_a_reason(self, tmp_path: Path) -> None:
        """After the last event, an objective has a value, or a figure with a reason."""
        context = self.context(tmp_path)
        evaluation = _after(self.events(context, self.task()))
        for objective in context.spec.objectives:
            figure = evaluation.measurements.get(objective.key)
            has_value = evaluation.value(objective.key) is not None
            assert has_value or (figure is not None and figure.reason), objective.key

    def test_it_resumes_after_each_event_without_repeating_it(self, tmp_path: Path) -> None:
        """A new evaluator, with the results so far, yields the events that are missing."""
        context, task = self.context(tmp_path), self.task()
        events = self.events(context, task)
        for done in range(1, len(events) + 1):
            resumed = replace(task, evaluation=_after(events[:done]))
            rest = self.events(context, resumed)
            assert list(map(_content, rest)) == list(map(_content, events[done:]))

    def test_a_task_without_time_ends_and_resumes_later(self, tmp_path: Path) -> None:
        """Only the last event may be `OutOfTime`. All events before it, and those of the resumed
        task, are the events of a task with enough time.
        """
        context, task = self.context(tmp_path), self.task()
        stopped = self.events(context, replace(task, remaining_s=0.0))
        done = [event for event in stopped if not isinstance(event, OutOfTime)]
        assert stopped[: len(done)] == done
        rest = self.events(context, replace(task, evaluation=_after(done)))
        contents = [_content(event) for event in (*done, *rest)]
        assert contents == [_content(event) for event in self.events(context, task)]

    def test_every_event_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        """Pickle returns it unchanged."""
        for event in self.events(self.context(tmp_path), self.task()):
            assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 - pickled right here

    def test_a_network_that_it_cannot_do_fails_its_trial(self, tmp_path: Path) -> None:
        """`steps` raises `TrialFailedError`, so that the search continues with other networks."""
        impossible = self.impossible()
        if impossible is None:
            pytest.skip("this evaluator can do every task")
        spec, task = impossible
        context = self.context(tmp_path, spec)
        with pytest.raises(TrialFailedError):
            self.events(context, task)


def _after(events: Sequence[Event]) -> Evaluation:
    """Return the results after these events, as the search records them."""
    evaluation = Evaluation()
    for event in events:
        if isinstance(event, Measured):
            evaluation = evaluation.with_measurements(event.measurements, event.seconds)
        elif isinstance(event, Trained):
            evaluation = evaluation.with_rung(event.rung)
    return evaluation


def _content(event: Event) -> object:
    """Return what an event reports: the metrics that were measured, or the rung's epochs."""
    if isinstance(event, Measured):
        return sorted(figure.metric for figure in event.measurements)
    return event.rung.epochs if isinstance(event, Trained) else None
