"""A budget of wall time: no network begins that is not expected to reach a rung within it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nas.core.architecture import Architecture, OsaStage
from nas.core.study import Budget, DataSpec, Objective, StudySpec, TrainingSpec, rungs_at
from nas.core.tasks import Decision, Trained
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.record import Store
from nas.searching.engine import _rung_seconds
from nas.searching.launch import open_search
from nas.searching.state import Finished
from nas.testing.evaluators import ArithmeticEvaluator
from workers.local import LocalWorkers

SPEC = StudySpec(
    name="timed",
    space="osa_tiny",
    sampler="random",
    objectives=(Objective(metric="error"), Objective(metric="macs")),
    budget=Budget(trials=1000, wall_time_s=100.0),
)


class Clocked:
    """Works on one trial after the other; each epoch takes `constant_s` and `per_mac_s` for each
    of the network's MACs by a clock that nothing else moves.
    """

    wall_ahead_s = 0.0

    def __init__(self, per_mac_s: float, constant_s: float = 0.0) -> None:
        self.now_s, self._per_mac_s, self._constant_s = 0.0, per_mac_s, constant_s

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s + self.wall_ahead_s)

    def steady_s(self) -> float:
        return self.now_s

    def prepare(self, context):
        return ArithmeticEvaluator.prepare(context)

    def run(self, engine, context) -> str:
        evaluator = ArithmeticEvaluator(context)
        while not isinstance(task := engine.propose(), Finished):
            for event in evaluator.steps(task):
                if (
                    engine.report(task.number, self._timed(event, engine, task.number))
                    is Decision.END
                ):
                    break
        return task.reason

    def _timed(self, event, engine, number):
        """Move the clock by the training, and return the event with its seconds."""
        if not isinstance(event, Trained):
            return event
        before = engine.state.trial(number).evaluation
        epochs = event.rung.epochs - before.spent.epochs
        seconds = epochs * (self._constant_s + before.value("macs") * self._per_mac_s)
        self.now_s += seconds
        return replace(event, rung=replace(event.rung, train_s=seconds))

    def close(self) -> None:
        pass


def searched(folder, spec, workers):
    """Search once, and return why it ended and the seconds of searching of all calls."""
    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=workers,
            folder=folder,
            artifacts=folder,
            now=workers.now,
            steady_s=workers.steady_s,
        ) as search,
    ):
        return search.run(), search.engine.elapsed_s()


@pytest.mark.parametrize("constant_s", [0.0, 6.0])
@pytest.mark.parametrize("seed", range(4))
def test_no_network_begins_that_would_not_end_in_time(tmp_path, seed, constant_s):
    """Without the rule the last network overruns the budget, also where half of the time does not
    depend on the network.
    """
    reason, elapsed_s = searched(tmp_path, replace(SPEC, seed=seed), Clocked(3 / 1e6, constant_s))
    assert elapsed_s <= 105
    assert "too short to train another network" in reason or elapsed_s >= 100


@pytest.mark.parametrize("seed", range(4))
def test_no_rung_begins_that_would_not_end_in_time(tmp_path, seed):
    """A trial whose next rung takes longer than the rest of the time is resumed with a larger
    budget. Meanwhile smaller networks are trained.
    """
    budget = replace(SPEC.budget, fresh=0)
    spec = replace(SPEC, seed=seed, rungs=rungs_at(1.0, 10.0), budget=budget)
    workers = Clocked(0.3 / 1e6)
    reason, elapsed_s = searched(tmp_path, spec, workers)
    assert elapsed_s <= 100
    assert "; unfinished networks, which a larger budget resumes: " in reason
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        paused = store.summary("timed").running
    larger = replace(spec, budget=replace(budget, wall_time_s=200.0))
    searched(tmp_path, larger, workers)
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.problems() == []
        assert all(store.trial("timed", number).finished_at for number in paused)


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_a_search_ends_while_unfinished_trials_have_no_worker(tmp_path, seed):
    """Thirteen networks are tried and time is left, but it is too short for the next rung of one of
    them. Nobody works on that one, so there is nothing to wait for.
    """
    budget = replace(SPEC.budget, trials=13, fresh=0)
    spec = replace(SPEC, seed=seed, rungs=rungs_at(1.0, 10.0), budget=budget)
    reason, elapsed_s = searched(tmp_path, spec, Clocked(0.3 / 1e6))
    assert elapsed_s < 100
    assert reason == (
        "13 networks were tried, the limit of budget.trials; unfinished networks, which a larger "
        "budget resumes: 1"
    )


class Suspended(Clocked):
    """The machine is suspended for `gap_s` during the training of trial 2, or its wall clock is
    set by as much.
    """

    gap_s = 0.0

    def _timed(self, event, engine, number):
        if isinstance(event, Trained) and number == 2:
            self.wall_ahead_s = self.gap_s
        return super()._timed(event, engine, number)


@pytest.mark.parametrize("gap", [timedelta(hours=3), timedelta(days=-30)])
def test_a_suspended_machine_and_a_clock_that_is_set_spend_no_budget(tmp_path, gap):
    """The search, the record's sum of seconds and the trial's own ones are those of a steady
    clock.
    """
    outcomes = []
    for gap_s in (0.0, gap.total_seconds()):
        folder = tmp_path / str(gap_s)
        folder.mkdir()
        workers = Suspended(3 / 1e6)
        workers.gap_s = gap_s
        outcome = searched(folder, SPEC, workers)
        with Store.open(folder / "nas.db", read_only=True) as store:
            summary, trials = store.summary("timed"), store.trials("timed")
        lasted_s = (trials[2].finished_at - trials[2].started_at).total_seconds()
        outcomes.append((*outcome, len(trials), summary.searched_s, summary.engine_s, lasted_s))
    steady, suspended = outcomes
    assert suspended[0] == steady[0]
    assert suspended[1:] == pytest.approx(steady[1:], abs=0.01)


def test_an_earlier_call_tells_the_pace(tmp_path):
    """With five seconds left no network begins in the next call, as the record shows their pace."""
    searched(tmp_path, SPEC, Clocked(3 / 1e6, 6.0))
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        before = len(store.trials("timed"))
    spent = replace(SPEC, budget=replace(SPEC.budget, wall_time_s=105.0))
    reason, elapsed_s = searched(tmp_path, spent, Clocked(3 / 1e6, 6.0))
    assert elapsed_s <= 110
    assert "too short to train another network" in reason
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert len(store.trials("timed")) - before <= 1


def test_a_larger_budget_resumes(tmp_path):
    """What did not fit is proposed again once there is time for it."""
    searched(tmp_path, SPEC, Clocked(3 / 1e6))
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        before = len(store.trials("timed"))
    larger = replace(SPEC, budget=replace(SPEC.budget, wall_time_s=200.0))
    searched(tmp_path, larger, Clocked(3 / 1e6))
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert len(store.trials("timed")) > before
        assert store.problems() == []


def test_a_training_that_does_not_end_is_stopped_with_the_budget(tmp_path):
    """The only rung would take an hour. Its trial stays unfinished, without a rung and without a
    file, and its figures are recorded.
    """
    spec = replace(
        SPEC,
        rungs=rungs_at(1e6),
        data=DataSpec(dataset="digits", validation_images=200),
        training=TrainingSpec(batch_size=64, precision="fp32", channels_last=False),
        budget=replace(SPEC.budget, wall_time_s=3.0, fresh=0),
    )
    workers = LocalWorkers()
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            spec, store=store, workers=workers, folder=tmp_path, artifacts=tmp_path / "files"
        ) as search,
    ):
        reason = search.run()
        assert search.engine.elapsed_s() < 60
        (trial,) = store.trials("timed")
    assert reason == (
        "3 s of searching have passed, the limit of budget.wall_time_s; unfinished networks, which "
        "a larger budget resumes: 1"
    )
    assert trial.state is TrialState.RUNNING
    assert trial.evaluation.rungs == ()
    assert trial.evaluation.value("macs") is not None
    assert not (tmp_path / "files").exists()


def test_waiting_is_no_pace_of_a_recorded_network():
    """It may have been for a quiet device, and says nothing of the time that another one takes."""
    evaluation = Evaluation().with_measurements((), 1.0).with_usage(3600.0, None, measuring=True)
    rung = Rung(epochs=1.0, metrics={"error": 0.5}, train_s=20.0, validation_s=2.0)
    network = Architecture(
        stem_channels=(8, 8, 8),
        stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 3,
    )
    trial = Trial(
        number=0, params={}, architecture=network, seed=0, evaluation=evaluation.with_rung(rung)
    )
    assert _rung_seconds(trial) == [23.0]
