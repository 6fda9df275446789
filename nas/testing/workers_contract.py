"""What every kind of workers has to do; subclass `WorkersContract` and give it your class."""

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.core.pareto import front
from nas.core.study import Budget, Objective, RungSpec, StudySpec, WorkersSpec
from nas.core.tasks import Task
from nas.core.trial import Trial, TrialState
from nas.record import Store
from nas.searching.engine import TaskSource
from nas.searching.launch import Workers, open_search
from nas.testing.evaluators import ArithmeticEvaluator

TRIALS = 8
EPOCHS = (1.0, 2.0)


class WorkersContract:
    """Behaviour tests; `kind` is the name in `nas.workers`."""

    kind = ""

    def workers(self) -> Workers:
        """New workers, on this machine."""
        raise NotImplementedError

    @pytest.fixture
    def spec(self) -> StudySpec:
        """A study of a few trials that cost nothing, by one worker."""
        return StudySpec(
            name="contract",
            space="osa_tiny",
            sampler="tpe",
            seed=5,
            rungs=RungSpec(epochs=EPOCHS),
            objectives=(
                Objective(metric="error", reference=1.0),
                Objective(metric="latency", reference=1.0),
            ),
            budget=Budget(trials=TRIALS),
            workers=WorkersSpec(kind=self.kind),
        )

    def search(self, spec: StudySpec, folder: Path, evaluator: str) -> list[Trial]:
        """Run the study with an evaluator of `nas.testing.evaluators`; gives the record's trials at
        the end.
        """
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
        """As many architectures as the budget says are complete, and the front recorded last is
        theirs.
        """
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
        """The proposals are those of an engine that is driven by hand."""
        trials = self.search(spec, tmp_path, "ArithmeticEvaluator")
        other = tmp_path / "by hand"
        other.mkdir()
        assert [trial.architecture.digest for trial in trials] == _by_hand(spec, other)

    def test_a_failure_fails_its_trial_with_the_reason_and_the_search_goes_on(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """Every third trial fails."""
        for trial in self.search(spec, tmp_path, "FailingEvaluator"):
            original = trial.number if trial.duplicate_of is None else trial.duplicate_of
            assert trial.state is (TrialState.FAILED if original % 3 == 0 else TrialState.COMPLETE)
            assert ("the loss is not finite" in trial.reason) == (original % 3 == 0)

    def test_a_mistake_in_a_plugin_fails_its_trial_after_its_retries(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """It goes on at its last rung each time; the reason is the mistake, and the search
        goes on.
        """
        trials = self.search(
            replace(spec, workers=replace(spec.workers, retries=1)), tmp_path, "MistakenEvaluator"
        )
        failed = trials[1]
        assert failed.state is TrialState.FAILED
        assert failed.reason == "2 attempts failed, the last with: KeyError: 'no such layer'"
        assert (tmp_path / "attempts.log").read_text().split() == ["1", "2", "2"]
        assert all(
            t.state is TrialState.COMPLETE for t in trials if t.number != 1 and t.duplicate_of != 1
        )

    def test_the_same_call_goes_on_where_the_last_one_ended(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """A larger budget adds trials and repeats none; what a smaller budget found stays."""
        before = self.search(spec, tmp_path, "ArithmeticEvaluator")
        more = StudySpec.from_dict({**spec.to_dict(), "budget": {"trials": TRIALS + 4}})
        after = self.search(more, tmp_path, "ArithmeticEvaluator")
        assert after[: len(before)] == before
        digests = Counter(t.architecture.digest for t in after if t.duplicate_of is None)
        assert len(digests) == TRIALS + 4
        assert set(digests.values()) == {1}

    def test_an_error_while_preparing_comes_back_as_it_is_and_nothing_is_recorded(
        self, spec: StudySpec, tmp_path: Path
    ) -> None:
        """The message is that of the evaluator."""
        with pytest.raises(NasError, match="this machine cannot do it"):
            self.search(spec, tmp_path, "UnpreparedEvaluator")
        with Store.open(tmp_path / "nas.db", read_only=True) as store:
            assert store.studies() == []


def _by_hand(spec: StudySpec, folder: Path) -> list[str]:
    """The digests that an engine proposes when its tasks are done here, one after the other."""

    class Hand:
        """Does nothing by itself."""

        prepare = staticmethod(ArithmeticEvaluator.prepare)

        def run(self, engine: TaskSource, job: object) -> str:
            """Not called."""
            raise NotImplementedError

        def close(self) -> None:
            """Nothing to close."""

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
