"""Tests that every kind of workers must pass.

Derive a test class, set `kind` and define `workers`.
"""

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.core.pareto import front
from nas.core.study import Budget, Objective, StudySpec, WorkersSpec, rungs_at
from nas.core.tasks import Task
from nas.core.trial import Trial, TrialState
from nas.record import Store
from nas.searching.engine import TaskSource
from nas.searching.launch import Workers, open_search
from nas.testing.evaluators import ArithmeticEvaluator

TRIALS = 8
EPOCHS = (1.0, 2.0)


class WorkersContract:
    """Tests of one kind of workers; `kind` is its name in `nas.workers`."""

    kind = ""

    def workers(self) -> Workers:
        """Return new workers on this machine."""
        raise NotImplementedError

    @pytest.fixture
    def spec(self) -> StudySpec:
        """Return a study of a few trials without cost, for one worker."""
        return StudySpec(
            name="contract",
            space="osa_tiny",
            sampler="tpe",
            seed=5,
            rungs=rungs_at(*EPOCHS),
            objectives=(
                Objective(metric="error", reference=1.0),
                Objective(metric="latency", reference=1.0),
            ),
            budget=Budget(trials=TRIALS),
            workers=WorkersSpec(kind=self.kind),
        )

    def search(self, spec: StudySpec, folder: Path, evaluator: str) -> list[Trial]:
        """Run the study with an evaluator of `nas.testing` and return the recorded trials."""
        with (
            Store.open(folder / "nas.db") as store,
            open_search(
                spec,
                store=store,
                workers=self.workers(),
                folder=folder,
                artifacts=folder,
                evaluator=f"nas.testing.evaluators:{evaluator}",
            ) as search,
        ):
            assert search.run()
            return store.trials(spec.name)

    def test_every_task_ends_once_and_is_recorded(self, spec: StudySpec, tmp_path: Path) -> None:
        """All architectures of the budget are complete, and the last recorded front is theirs."""
        recorded = self.search(spec, tmp_path, "ArithmeticEvaluator")
        with Store.open(tmp_path / "nas.db", read_only=True) as store:
            assert store.fronts(spec.name)[-1].members == front(recorded, spec.objectives).members
        assert all(trial.state is TrialState.COMPLETE for trial in recorded)
        assert {
            trial.worker.partition(":")[0] for trial in recorded if trial.duplicate_of is None
        } == {socket.gethostname()}
        assert len({trial.architecture.digest for trial in recorded}) == TRIALS
        assert all(
            tuple(rung.epochs for rung in trial.evaluation.rungs) == EPOCHS for trial in recorded
        )

    def test_one_worker_tries_the_same_architectures_as_any_other_kind(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """The proposals are those of an engine without workers."""
        trials = self.search(spec, tmp_path, "ArithmeticEvaluator")
        other = tmp_path / "by hand"
        other.mkdir()
        assert [trial.architecture.digest for trial in trials] == _by_hand(spec, other)

    def test_a_failure_fails_its_trial_with_the_reason_and_the_search_continues(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """Every third trial fails."""
        for trial in self.search(spec, tmp_path, "FailingEvaluator"):
            original = trial.number if trial.duplicate_of is None else trial.duplicate_of
            assert trial.state is (TrialState.FAILED if original % 3 == 0 else TrialState.COMPLETE)
            assert ("the loss is not finite" in trial.reason) == (original % 3 == 0)

    def test_a_programming_error_fails_its_trial_after_the_retries(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """The trial resumes at its last rung each time. The recorded reason is the error, and the
        search continues.
        """
        trials = self.search(
            replace(spec, workers=replace(spec.workers, retries=1)), tmp_path, "MistakenEvaluator"
        )
        failed = trials[1]
        assert failed.state is TrialState.FAILED
        assert failed.reason == "2 attempts failed, the last with: KeyError: 'no such layer'"
        assert (tmp_path / "attempts.log").read_text(encoding="utf-8").split() == ["1", "2", "2"]
        assert all(
            t.state is TrialState.COMPLETE for t in trials if t.number != 1 and t.duplicate_of != 1
        )

    def test_a_search_whose_trials_all_fail_unexpectedly_ends_and_keeps_its_budget(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """Five trials fail, and the next call does the others."""
        spec = replace(spec, workers=replace(spec.workers, retries=0))
        with pytest.raises(
            NasError, match=r"5 networks in a row failed .*'no such layer'; .*retry"
        ):
            self.search(spec, tmp_path, "BrokenEvaluator")
        trials = self.search(spec, tmp_path, "ArithmeticEvaluator")
        states = Counter(trial.state for trial in trials if trial.duplicate_of is None)
        assert states == {TrialState.FAILED: 5, TrialState.COMPLETE: TRIALS - 5}

    def test_every_evaluator_is_closed_at_the_end(self, spec: StudySpec, tmp_path: Path) -> None:
        """It may hold connections to devices elsewhere."""
        self.search(spec, tmp_path, "ClosedEvaluator")
        built, closed = (
            (tmp_path / f"{what}.log").read_text(encoding="utf-8") for what in ("built", "closed")
        )
        assert sorted(built.split()) == sorted(closed.split())

    def test_the_same_call_resumes_where_the_last_one_ended(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """A larger budget adds trials, repeats none and changes none."""
        before = self.search(spec, tmp_path, "ArithmeticEvaluator")
        more = StudySpec.from_dict({**spec.to_dict(), "budget": {"trials": TRIALS + 4}})
        after = self.search(more, tmp_path, "ArithmeticEvaluator")
        assert after[: len(before)] == before
        digests = Counter(t.architecture.digest for t in after if t.duplicate_of is None)
        assert len(digests) == TRIALS + 4
        assert set(digests.values()) == {1}

    def test_measuring_elsewhere_overlaps_training(self, spec: StudySpec, tmp_path: Path) -> None:
        """Two devices elsewhere measure the next trials, of which none is lost or done twice."""
        recorded = self.search(measured_elsewhere(spec), tmp_path, "ArithmeticEvaluator")
        assert all(trial.state is TrialState.COMPLETE for trial in recorded)
        assert len({trial.architecture.digest for trial in recorded}) == TRIALS
        for trial in recorded:
            assert tuple(rung.epochs for rung in trial.evaluation.rungs) == EPOCHS

    def test_an_error_of_the_preparation_is_raised_and_nothing_is_recorded(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """The message is that of the evaluator."""
        with pytest.raises(NasError, match="this machine cannot do it"):
            self.search(spec, tmp_path, "UnpreparedEvaluator")
        with Store.open(tmp_path / "nas.db", read_only=True) as store:
            assert store.studies() == []


def measured_elsewhere(spec: StudySpec) -> StudySpec:
    """Return the study with the latencies on two devices elsewhere as its objectives."""
    latencies = [
        Objective(metric="latency", device=device, reference=1.0) for device in ("pi5", "orin")
    ]
    return replace(spec, objectives=(spec.objectives[0], *latencies))


def _by_hand(spec: StudySpec, folder: Path) -> list[str]:
    """Return the digests that an engine proposes if its tasks are done one by one here."""

    class Hand:
        """Workers that do nothing by themselves."""

        prepare = staticmethod(ArithmeticEvaluator.prepare)

        def run(self, engine: TaskSource, job: object) -> str:
            """Raise an error, since it is never called."""
            raise NotImplementedError

        def close(self) -> None:
            """Do nothing."""

    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=Hand(),
            folder=folder,
            artifacts=folder,
            evaluator="nas.testing.evaluators:ArithmeticEvaluator",
        ) as search,
    ):
        evaluator = ArithmeticEvaluator(search.context)
        while isinstance(task := search.engine.propose(), Task):
            for event in evaluator.steps(task):
                search.engine.report(task.number, event)
        return [trial.architecture.digest for trial in store.trials(spec.name)]
